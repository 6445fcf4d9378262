"""Filling weights: ``init_cfg`` of any module, and pretrained files with a report of what matched."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import MMLogger
from torch import nn

from mlcls.errors import CheckpointError, did_you_mean
from mlcls.fileio import read_checkpoint
from mlcls.models.base import InitCfg
from mlcls.registry import WEIGHT_INITIALIZERS

#: Where weights lie in files of other frameworks.
STATE_DICT_KEYS = ('state_dict', 'state_dict_ema', 'model', 'model_state_dict')
#: Prefixes under which files keep what we look for; tried in this order, the best match wins.
KNOWN_PREFIXES = ('', 'backbone.', 'module.', 'module.backbone.', 'model.', 'encoder.', 'features.')


@dataclass(frozen=True)
class LoadReport:
    """What became of a weights file.

    Args:
        source: The file, and the prefix that was stripped from its names.
        matched: Names that were filled.
        missing: Names of the module that the file does not have.
        unused: Names of the file that the module does not have.
        mismatched: Names whose shapes differ, with both shapes.
    """

    source: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    mismatched: tuple[str, ...]

    def __str__(self) -> str:
        total = len(self.matched) + len(self.missing) + len(self.mismatched)
        lines = [f'{self.source}: filled {len(self.matched)} of {total} tensors']
        for words, names in (
            ('not in the file', self.missing),
            ('in the file but not in the model', self.unused),
            ('left out because shapes differ', self.mismatched),
        ):
            if names:
                shown = ', '.join(names[:4]) + (f', ... ({len(names)} in all)' if len(names) > 4 else '')
                lines.append(f'  {words}: {shown}')
        return '\n'.join(lines)


def find_state_dict(content: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The weights in a checkpoint's dictionary, which may lie under ``state_dict`` or the like."""
    for key in STATE_DICT_KEYS:
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    return {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}


def _strip(weights: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)}


def _choose_prefix(weights: Mapping[str, torch.Tensor], names: set[str]) -> str:
    return max(KNOWN_PREFIXES, key=lambda prefix: len(names & _strip(weights, prefix).keys()))


def load_weights(
    module: nn.Module, weights: Mapping[str, torch.Tensor], source: str, prefix: str | None = None
) -> LoadReport:
    """Fill a module from a state dict, as far as names and shapes agree.

    Args:
        module: To be filled in place.
        weights: Names and tensors.
        source: Where they come from, for the report.
        prefix: Only names that start so are used, without it; None tries the usual ones.

    Returns:
        What matched and what did not.

    Raises:
        CheckpointError: Nothing matched, or no name starts with ``prefix``.
    """
    own = module.state_dict()
    if prefix is None and not own.keys() & weights.keys():
        inner = {f'backbone.{name}': value for name, value in weights.items()}
        weights = inner if own.keys() & inner.keys() else weights  # a backbone's file for a whole classifier
    if prefix is None:
        prefix = _choose_prefix(weights, set(own))
    elif prefix and not prefix.endswith('.'):
        prefix += '.'
    found = _strip(weights, prefix)
    if not found:
        heads = {name.split('.')[0] for name in weights}
        raise CheckpointError(f"{source}: no name starts with '{prefix}'{did_you_mean(prefix.rstrip('.'), heads)}")
    fitting = {name: value for name, value in found.items() if name in own and own[name].shape == value.shape}
    if not fitting:
        raise CheckpointError(
            f'{source}: nothing in it fits {type(module).__name__}: the model has names like '
            f"'{next(iter(own), '-')}', the file like '{next(iter(weights), '-')}'; is it a file of "
            'another network?'
        )
    mismatched = tuple(
        f'{name} (file {tuple(value.shape)}, model {tuple(own[name].shape)})'
        for name, value in found.items()
        if name in own and name not in fitting
    )
    module.load_state_dict(fitting, strict=False)
    # Counters of batches seen are missing from old files and change nothing.
    missing = tuple(name for name in own if name not in found and not name.endswith('num_batches_tracked'))
    unused = tuple(name for name in found if name not in own)
    source = f"{source} (names after '{prefix}')" if prefix else source
    return LoadReport(source, tuple(fitting), missing, unused, mismatched)


def file_digest(path: Path) -> str:
    """First 12 hexadecimal digits of the file's SHA-256."""
    with path.open('rb') as file:
        return (
            hashlib.file_digest(file, 'sha256').hexdigest()[:12]
            if hasattr(hashlib, 'file_digest')
            else hashlib.sha256(file.read()).hexdigest()[:12]
        )


def resolve_checkpoint(checkpoint: str) -> Path:
    """Find the file that ``checkpoint`` names; what comes from a network is kept in torch's cache.

    Args:
        checkpoint: A path, a URL, ``torchvision://resnet50`` (default weights) or
            ``torchvision://resnet50.IMAGENET1K_V1``.

    Raises:
        CheckpointError: Unknown torchvision name, or the download failed; the message says where to put the file.
    """
    if checkpoint.startswith('torchvision://'):
        return _fetch(_torchvision_url(checkpoint), checkpoint)
    if checkpoint.startswith(('http://', 'https://')):
        return _fetch(checkpoint, checkpoint)
    return Path(checkpoint).expanduser()


def _torchvision_url(checkpoint: str) -> str:
    from torchvision import models

    name, _, variant = checkpoint.removeprefix('torchvision://').partition('.')
    if name not in models.list_models():
        near = did_you_mean(name, models.list_models())
        raise CheckpointError(f"{checkpoint}: torchvision has no model '{name}'{near}")
    choices = models.get_model_weights(name)
    variant = variant or 'DEFAULT'
    if not hasattr(choices, variant):
        raise CheckpointError(f"{checkpoint}: no weights '{variant}'{did_you_mean(variant, choices.__members__)}")
    return getattr(choices, variant).url


def _fetch(url: str, asked: str) -> Path:
    path = Path(torch.hub.get_dir()) / 'checkpoints' / url.rsplit('/', 1)[1]
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = re.search(r'-([0-9a-f]{8,})\.pth$', path.name)  # torchvision and OpenMMLab name files so
    try:
        torch.hub.download_url_to_file(url, str(path), hash_prefix=digest and digest.group(1), progress=False)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f'{asked}: could not download {url} ({error}); fetch it on a machine with network access and put it at '
            f'{path}, or give the path of a local file'
        ) from error
    return path


def load_pretrained(module: nn.Module, checkpoint: str, prefix: str | None = None) -> LoadReport:
    """Fill a module from a weights file and log what matched.

    Args:
        module: To be filled in place.
        checkpoint: A local file or a ``torchvision://`` name.
        prefix: See :func:`load_weights`.

    Raises:
        CheckpointError: The file is missing, damaged or unsafe, or nothing in it fits.
    """
    path = resolve_checkpoint(checkpoint)
    weights = find_state_dict(read_checkpoint(path))
    report = load_weights(
        module, weights, f'{path} (sha256 {file_digest(path)})' if path.is_file() else str(path), prefix
    )
    MMLogger.get_current_instance().info(f'{type(module).__name__} weights from {report}')
    return report


@WEIGHT_INITIALIZERS.register_module()
class Pretrained:
    """Initialiser that fills a module from a file; see :func:`load_pretrained`.

    Args:
        checkpoint: A local file or a ``torchvision://`` name.
        prefix: Part of the file's names to strip; the usual ones are tried if None.
        map_location: Here for configs of mmpretrain; weights are always read to the CPU first.
    """

    def __init__(self, checkpoint: str, prefix: str | None = None, map_location: str | None = None) -> None:
        self.checkpoint = checkpoint
        self.prefix = prefix

    def __call__(self, module: nn.Module) -> None:
        load_pretrained(module, self.checkpoint, self.prefix)


def initialize(module: nn.Module, init_cfg: InitCfg) -> None:
    """Apply one or several initialisers to a module, pretrained files last.

    Args:
        module: To be filled in place.
        init_cfg: ``dict(type=..., ...)`` or a list of such; None leaves the module as it is.
    """
    if init_cfg is None:
        return
    settings = [init_cfg] if isinstance(init_cfg, Mapping) else list(init_cfg)
    for cfg in sorted(settings, key=lambda cfg: _short_name(cfg['type']) == 'Pretrained'):
        WEIGHT_INITIALIZERS.build(dict(cfg))(module)


def _short_name(kind: Any) -> str:
    return re.sub(r'^.*\.', '', kind if isinstance(kind, str) else kind.__name__)
