"""Which tensors of a file go into a module as they are, which are changed to fit, and which do not."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import torch
from torch import nn

from mlcls.models.weights.adapt import (
    adapt_channels,
    first_convolution,
    grid_of,
    is_computed,
    is_positions,
    is_relative_table,
    prefix_tokens,
    resize_positions,
    resize_table,
    square_grid,
)
from mlcls.models.weights.prefixes import Shapes

Weights = Mapping[str, torch.Tensor]
Grid = tuple[int, tuple[int, int]]


class Fit(NamedTuple):
    """Args:
    fitting: Tensors by the module's names.
    adapted: Sentences on those that were changed.
    mismatched: Names whose shapes differ, with both shapes.
    """

    fitting: dict[str, torch.Tensor]
    adapted: list[str]
    mismatched: list[str]


def shapes_of(tensors: Weights) -> dict[str, tuple[int, ...]]:
    """Names and shapes."""
    return {name: tuple(value.shape) for name, value in tensors.items()}


def fit_tensors(
    weights: Weights, own: Weights, pairs: Mapping[str, str], skipped: Collection[str], changes: Changes | None
) -> Fit:
    """Sort the tensors of a file.

    Args:
        weights: Those of the file.
        own: Those of the module.
        pairs: Names of the module, and those of the file that go with them.
        skipped: Names of the module that are not filled.
        changes: What may be done to tensors of another shape; None if nothing.
    """
    found = Fit({}, [], [])
    for name, full in pairs.items():
        value, wanted = weights[full], own[name]
        if name in skipped or (value.shape != wanted.shape and is_computed(name)):
            continue
        if not _is_plain(value):
            found.mismatched.append(f'{name} (file {_kind(value)}, model {tuple(wanted.shape)})')
        elif value.shape == wanted.shape:
            found.fitting[name] = value
        elif changes is not None and (changed := changes.apply(name, value, wanted)) is not None:
            found.fitting[name], words = changed
            found.adapted.append(f'{name}: {words}')
        else:
            found.mismatched.append(f'{name} (file {tuple(value.shape)}, model {tuple(wanted.shape)})')
    return found


class Changes:
    """What may be done to a tensor of another shape so that it fits.

    Args:
        module: The module to be filled.
        file: Names of the file and their shapes.
        own: The same of the module.
    """

    def __init__(self, module: nn.Module, file: Shapes, own: Shapes) -> None:
        self.module = module
        self.first = first_convolution(module)
        self.file_prefixes, self.own_prefixes = prefix_tokens(file), prefix_tokens(own)

    def apply(self, name: str, value: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, str] | None:
        """The changed tensor and a sentence on it; None where nothing helps.

        Args:
            name: The module's name.
            value: The file's tensor.
            wanted: The module's, whose shape is wanted.
        """
        shape, own_shape = value.shape, wanted.shape
        if name == self.first and value.ndim == 4 and shape[:1] + shape[2:] == own_shape[:1] + own_shape[2:]:
            weight = adapt_channels(value, own_shape[1])
            words = f'first convolution from {shape[1]} to {own_shape[1]} input channels'
            return None if weight is None else (weight, words)
        if is_positions(name) and value.ndim == wanted.ndim == 3 and shape[2] == own_shape[2]:
            given = square_grid(shape[1], self.file_prefixes)
            asked = grid_of(self.module, own_shape[1], self.own_prefixes)
            if given is None or asked is None:
                return None
            return resize_positions(value, wanted, given, asked), _resized(given, asked)
        if is_relative_table(name) and value.ndim == wanted.ndim == 2 and shape[1] == own_shape[1]:
            table = resize_table(value, own_shape[0])
            words = f'relative positions resized from {shape[0]} to {own_shape[0]} entries (bicubic)'
            return None if table is None else (table, words)
        if _without_ones(shape) == _without_ones(own_shape) and value.ndim >= 2:
            return value.reshape(own_shape), f'{tuple(shape)} taken as {tuple(own_shape)}'
        return None


def _is_plain(value: torch.Tensor) -> bool:
    """Whether a tensor holds ordinary numbers that can be copied into another."""
    return value.layout == torch.strided and not (value.is_meta or value.is_quantized or value.is_complex())


def _kind(value: torch.Tensor) -> str:
    what = 'no data' if value.is_meta else str(value.layout if value.layout != torch.strided else value.dtype)
    return f'{tuple(value.shape)} of {what.removeprefix("torch.")}'


def _without_ones(shape: torch.Size) -> tuple[int, ...]:
    """A shape without the ones at its end: a 1x1 convolution and a linear layer hold the same numbers."""
    sizes = list(shape)
    while len(sizes) > 2 and sizes[-1] == 1:
        sizes.pop()
    return tuple(sizes)


def _resized(given: Grid, asked: Grid) -> str:
    (before, (h, w)), (own_before, (own_h, own_w)) = given, asked
    words = f'position embeddings resized from {h}x{w} to {own_h}x{own_w} (bicubic), {min(before, own_before)} kept'
    if before > own_before:
        words += f', {before - own_before} of the file left out'
    elif before < own_before:
        words += f', {own_before - before} stay as initialised'
    return words + ' before the grid'
