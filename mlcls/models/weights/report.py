"""What became of a weights file: a report to read, and as plain data for checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

#: A file that fills less than this share of a module's tensors is worth a warning.
FEW = 0.9
#: Styles whose names need no mention: those of mlcls itself, and none in particular.
OWN_STYLES = ('mmpretrain', 'plain')
#: Names of one kind that a checkpoint keeps at most; their number is kept whole.
_KEPT = 50
_ATTRIBUTE = 'loaded_weights'


@dataclass(frozen=True)
class LoadReport:
    """What became of a weights file.

    Args:
        source: The file.
        matched: Names of the module that were filled.
        missing: Names of the module that the file does not have.
        unused: Names of the file that the module does not have.
        mismatched: Names whose shapes differ, with both shapes.
        replaced: Names of the module's head that stay as initialised, because the file's head has other classes.
        adapted: Sentences on tensors that were changed to fit, such as a first convolution for grey images.
        head: Sentence on the head, where the file's was moved or left out; or empty.
        style: Whose names the file has: ``'mmpretrain'``, ``'torchvision'``, ``'timm'``, ``'torchvision or timm'`` or
            ``'plain'``.
        stripped: Prefix taken from the file's names.
        added: Prefix put before what is left.
        parameters: Trained numbers that were filled.
        all_parameters: Trained numbers of the module.
        sha256: Hash of the file in 64 hexadecimal digits; empty if there is no file.
    """

    source: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    mismatched: tuple[str, ...]
    replaced: tuple[str, ...] = ()
    adapted: tuple[str, ...] = ()
    head: str = ''
    style: str = 'plain'
    stripped: str = ''
    added: str = ''
    parameters: int = 0
    all_parameters: int = 0
    sha256: str = ''

    @property
    def total(self) -> int:
        """Tensors of the module, without counters of batches."""
        return len(self.matched) + len(self.missing) + len(self.mismatched) + len(self.replaced)

    @property
    def share(self) -> float:
        """Filled tensors over those that the file could have filled, in [0, 1]; a replaced head does not count."""
        return len(self.matched) / max(1, self.total - len(self.replaced))

    @property
    def complete(self) -> bool:
        """Whether file and module have the same tensors, all taken over unchanged."""
        return not (self.missing or self.mismatched or self.unused or self.replaced or self.adapted)

    def __str__(self) -> str:
        digest = f' (sha256 {self.sha256[:12]})' if self.sha256 else ''
        lines = [
            f'{self.source}{digest}{_renamed(self.stripped, self.added)}: filled {len(self.matched)} of {self.total} '
            f'tensors, {self.parameters:,} of {self.all_parameters:,} parameters'
            f'{"" if self.style in OWN_STYLES else f"; names of {self.style}"}'
        ]
        lines += [f'  {self.head}'] if self.head else []
        lines += [f'  adapted {sentence}' for sentence in self.adapted[:4]]
        if len(self.adapted) > 4:
            lines.append(f'  adapted ... ({len(self.adapted)} in all)')
        for words, names in (
            ('not in the file', self.missing),
            ('in the file but not in the model', self.unused),
            ('left out because shapes differ', self.mismatched),
        ):
            if names:
                shown = ', '.join(names[:4]) + (f', ... ({len(names)} in all)' if len(names) > 4 else '')
                lines.append(f'  {words}: {shown}')
        return '\n'.join(lines)

    def as_dict(self) -> dict[str, Any]:
        """The report as numbers, strings and lists of them; long lists of names are cut, their lengths kept."""
        plain: dict[str, Any] = {
            'file': self.source,
            'sha256': self.sha256,
            'style': self.style,
            'stripped': self.stripped,
            'added': self.added,
            'tensors': len(self.matched),
            'all_tensors': self.total,
            'parameters': self.parameters,
            'all_parameters': self.all_parameters,
            'head': self.head,
        }
        for key in ('adapted', 'missing', 'unused', 'mismatched', 'replaced'):
            names = getattr(self, key)
            plain[key] = list(names[:_KEPT])
            plain[f'num_{key}'] = len(names)
        return plain


def _renamed(stripped: str, added: str) -> str:
    if stripped and added:
        return f" (names after '{stripped}', put under '{added}')"
    if stripped:
        return f" (names after '{stripped}')"
    return f" (names put under '{added}')" if added else ''


def remember(module: nn.Module, report: LoadReport) -> None:
    """Keep a report on the module that was filled, as plain data in its list ``loaded_weights``."""
    entry = {'module': type(module).__name__, **report.as_dict()}
    setattr(module, _ATTRIBUTE, [*getattr(module, _ATTRIBUTE, []), entry])


def loaded_weights(model: nn.Module) -> list[dict[str, Any]]:
    """What :func:`remember` kept on a model and its parts: plain data, each with the part's name under ``part``.

    Args:
        model: The whole model; its own entries come first, with an empty ``part``.
    """
    return [
        {'part': name, **entry} for name, module in model.named_modules() for entry in getattr(module, _ATTRIBUTE, ())
    ]


def take_over(model: nn.Module, entries: Iterable[Mapping[str, Any]]) -> None:
    """Let a model remember what a checkpoint says of it, in place of what its parts remember.

    Args:
        model: The whole model.
        entries: What :func:`loaded_weights` gave when the checkpoint was written.
    """
    for module in model.modules():
        if hasattr(module, _ATTRIBUTE):
            delattr(module, _ATTRIBUTE)
    setattr(model, _ATTRIBUTE, [dict(entry) for entry in entries])
