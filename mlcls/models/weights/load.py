"""Filling a module from a state dict as far as names and shapes agree, or can be made to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import MMLogger
from torch import nn

from mlcls.errors import CheckpointError, did_you_mean
from mlcls.fileio import file_digest
from mlcls.models.weights.adapt import is_computed
from mlcls.models.weights.files import find_state_dict, read_weights
from mlcls.models.weights.fit import Changes, Weights, fit_tensors, shapes_of
from mlcls.models.weights.heads import HeadMatch, match_head
from mlcls.models.weights.prefixes import find_prefixes
from mlcls.models.weights.report import FEW, LoadReport, remember
from mlcls.models.weights.sources import resolve_checkpoint
from mlcls.models.weights.styles import common_names, looks_like, style_of

#: Counters of batches seen are missing from old files and change nothing.
_COUNTER = 'num_batches_tracked'


def load_weights(
    module: nn.Module,
    weights: Weights,
    source: str,
    prefix: str | None = None,
    *,
    adapt: bool = True,
    sha256: str = '',
) -> LoadReport:
    """Fill a module from a state dict, as far as names and shapes agree.

    Names of mmpretrain, torchvision and timm are mapped onto each other, and prefixes are found (`find_prefixes`).

    Args:
        module: To be filled in place.
        weights: Names and tensors.
        source: Where they come from, for the report.
        prefix: Only names that start so are used, without it; None finds the one that fits best.
        adapt: Also fit a first convolution to other channels, position embeddings to other sizes and the file's last
            layer to the head, and leave the head alone where the file has other classes. Otherwise shapes must agree.
        sha256: Of the file, for the report.

    Returns:
        What matched and what did not.

    Raises:
        CheckpointError: Nothing matched, or no name starts with ``prefix``.
    """
    own = {name: value for name, value in module.state_dict().items() if isinstance(value, torch.Tensor)}
    weights = _without_copies(weights, own)
    if prefix is None:
        pairs, stripped, added = _pair(weights, own)
    else:
        stripped, added = (f'{prefix}.' if prefix and not prefix.endswith('.') else prefix), ''
        pairs = _pair_after(weights, own, stripped, source)
    if _take_sizes(module, {name: weights[stored] for name, stored in pairs.items()}):
        own = {name: value for name, value in module.state_dict().items() if isinstance(value, torch.Tensor)}
    head = match_head(module, own, weights, pairs) if adapt else HeadMatch()
    pairs = {**pairs, **head.pairs}
    changes = Changes(module, shapes_of(weights), shapes_of(own)) if adapt else None
    fitting, adapted, mismatched = fit_tensors(weights, own, pairs, head.replaced, changes)
    if not _counted(fitting):
        raise CheckpointError(_nothing_fits(module, weights, own, source, mismatched))
    module.load_state_dict(fitting, strict=False)
    sizes = {name: parameter.numel() for name, parameter in module.named_parameters()}
    used = {*pairs.values(), *head.left}
    return LoadReport(
        source=source,
        matched=_counted(name for name in own if name in fitting),
        missing=_counted(n for n in own if n not in pairs and n not in head.replaced and not is_computed(n)),
        unused=tuple(name for name in weights if name.startswith(stripped) and name not in used),
        mismatched=tuple(mismatched),
        replaced=_counted(name for name in own if name in head.replaced),
        adapted=tuple(adapted),
        head=head.note,
        style=style_of(weights),
        stripped=stripped,
        added=added,
        parameters=sum(size for name, size in sizes.items() if name in fitting),
        all_parameters=sum(sizes.values()),
        sha256=sha256,
    )


def _take_sizes(module: nn.Module, found: Weights) -> bool:
    """Let parts whose sizes follow from data, such as label sets, take them from a file; whether there are any."""
    parts = [(f'{name}.' if name else '', part) for name, part in module.named_modules() if hasattr(part, 'take_sizes')]
    for start, part in parts:
        taker: Any = part
        taker.take_sizes({name[len(start) :]: value for name, value in found.items() if name.startswith(start)})
    return bool(parts)


def _counted(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in names if not name.endswith(_COUNTER))


def _without_copies(weights: Weights, own: Weights) -> Weights:
    """What is no part of a network: statistics of a preprocessor, and the averaged copies that mmcls kept under
    ``ema_`` and the name with its dots replaced."""
    copies = {f'ema_{name.replace(".", "_")}' for name in weights}
    return {
        name: value
        for name, value in weights.items()
        if name in own or (name not in copies and not name.startswith('data_preprocessor.'))
    }


def _pair(weights: Weights, own: Weights) -> tuple[dict[str, str], str, str]:
    """Names of the module and of the file that belong together, with the prefix taken off the latter and the one put
    on."""
    shapes, own_shapes = shapes_of(weights), shapes_of(own)
    names, own_names = common_names(shapes), common_names(own_shapes)
    stripped, added = find_prefixes(
        {names[name]: shapes[name] for name in _counted(shapes)},
        {own_names[name]: own_shapes[name] for name in _counted(own_shapes)},
    )
    by_common = {common: name for name, common in own_names.items()}
    pairs = {}
    for name, common in names.items():
        target = by_common.get(added + common[len(stripped) :]) if common.startswith(stripped) else None
        if target is not None:
            pairs[target] = name
    return pairs, stripped, added


def _pair_after(weights: Weights, own: Weights, prefix: str, source: str) -> dict[str, str]:
    """As :func:`_pair`, for the prefix that was asked for."""
    rest = {name[len(prefix) :]: name for name in weights if name.startswith(prefix)}
    if not rest:
        heads = {name.split('.')[0] for name in weights}
        raise CheckpointError(f"{source}: no name starts with '{prefix}'{did_you_mean(prefix.rstrip('.'), heads)}")
    names = common_names({name: tuple(weights[full].shape) for name, full in rest.items()})
    by_common = {common: name for name, common in common_names(shapes_of(own)).items()}
    return {by_common[common]: rest[name] for name, common in names.items() if common in by_common}


def _nothing_fits(module: nn.Module, weights: Weights, own: Weights, source: str, mismatched: list[str]) -> str:
    """Why a file is of no use: what it holds, and what was looked for."""
    if not weights:
        return f'{source}: there are no tensors in it'
    text = (
        f'{source}: nothing in it fits {type(module).__name__}: the model has names in {_groups(own)}, '
        f"like '{next(iter(own), '-')}', the file in {_groups(weights)}, like '{next(iter(weights))}'; "
        'is it a file of another network?'
    )
    if 2 * len(mismatched) > len(_counted(own)):
        text += f' {len(mismatched)} names are in both, with other shapes: {mismatched[0]}.'
    network = looks_like(weights)
    return f'{text} It looks like a {network}' if network else text


def _groups(names: Iterable[str]) -> str:
    """First parts of names, with how many have them."""
    counts = Counter(name.split('.')[0] for name in _counted(names))
    shown = ', '.join(f'{group} ({count})' for group, count in list(counts.items())[:8])
    return shown + (f', ... ({len(counts)} in all)' if len(counts) > 8 else '')


def log_report(module: nn.Module, report: LoadReport) -> None:
    """Log what became of a file: as a warning where a good part of the module stays random."""
    logger = MMLogger.get_current_instance()
    text = f'{type(module).__name__} weights from {report}'
    if report.share >= FEW:
        logger.info(text)
    else:
        logger.warning(
            f'{text}\n  ONLY {report.share:.0%} OF THE TENSORS ARE FILLED; the rest is random. Is it the file of this '
            'network, depth and width?'
        )


def load_pretrained(
    module: nn.Module, checkpoint: str, prefix: str | None = None, key: str | None = None
) -> LoadReport:
    """Fill a module from a weights file, log what matched, and keep the report on the module (`loaded_weights`).

    Args:
        module: To be filled in place.
        checkpoint: A local file, a URL or a ``torchvision://`` name.
        prefix: See :func:`load_weights`.
        key: Where in the file the weights are, for example ``'state_dict_ema'``; None looks in the usual places.

    Raises:
        CheckpointError: The file is missing, damaged or unsafe, or nothing in it fits.
    """
    path = resolve_checkpoint(checkpoint)
    content = read_weights(path, mmap=True)
    try:
        weights = find_state_dict(content, key)
    except CheckpointError as error:
        raise CheckpointError(f'{path}: {error}') from None
    del content
    report = load_weights(module, weights, str(path), prefix, sha256=file_digest(Path(path)))
    log_report(module, report)
    remember(module, report)
    return report
