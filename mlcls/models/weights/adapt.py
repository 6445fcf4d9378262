"""Changing tensors of a file so that they fit: other input channels, other image sizes. Every change is said."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional as F

_POSITIONS = re.compile(r'(^|\.)(pos_embed|pos_embedding|position_embeddings?|absolute_pos_embed)$')
_TABLE = re.compile(r'(^|\.)relative_position_bias_table$')
_TOKENS = re.compile(r'(^|\.)(cls_token|class_token|dist_token|reg_token|register_tokens)$')
#: Buffers that a network computes from the size of its windows; a file's are never needed.
_COMPUTED = re.compile(r'(^|\.)(relative_position_index|relative_coords_table|attn_mask)$')


def is_computed(name: str) -> bool:
    """Whether a tensor follows from the network's sizes alone, so that another size is no loss."""
    return _COMPUTED.search(name) is not None


def first_convolution(module: nn.Module) -> str:
    """Name of the weight of a module's first 2-d convolution, which sees the images' channels; empty if it has none."""
    for name, part in module.named_modules():
        if isinstance(part, nn.Conv2d):
            return f'{name}.weight' if name else 'weight'
    return ''


def adapt_channels(weight: torch.Tensor, channels: int) -> torch.Tensor | None:
    """A first convolution for images of another number of channels.

    Three channels to one: their sum, so that a grey image gives what it gave as three equal channels. Three to k:
    repeated and cut to k, times 3/k, so that equal channels give the same again. One to three: repeated, a third each.
    So does timm (``adapt_input_conv``); the repetition is that of Carreira and Zisserman, arXiv 1705.07750,
    section 2.4.

    Args:
        weight: (out, in, h, w), in 3 or 1.
        channels: Wanted number of input channels.

    Returns:
        (out, channels, h, w), of the same type; None for other numbers of channels.
    """
    given = weight.shape[1]
    if given == channels:
        return weight
    if given == 3 and channels == 1:
        return weight.float().sum(1, keepdim=True).to(weight.dtype)
    if given == 3 or (given == 1 and channels == 3):
        repeated = weight.float().repeat(1, math.ceil(channels / given), 1, 1)[:, :channels]
        return (repeated * (given / channels)).to(weight.dtype)
    return None


def is_positions(name: str) -> bool:
    """Whether a tensor holds absolute position embeddings."""
    return _POSITIONS.search(name) is not None


def prefix_tokens(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Numbers of tokens before the grid (class token, registers) that position embeddings may have, likely first."""
    counts = [shape[1] for name, shape in shapes.items() if _TOKENS.search(name) and len(shape) == 3]
    single = sum(count for count in counts if count == 1)
    return tuple(dict.fromkeys((sum(counts), single, 0, 1)))


def grid_of(module: nn.Module, count: int, prefixes: tuple[int, ...]) -> tuple[int, tuple[int, int]] | None:
    """Tokens before the grid and its height and width, for ``count`` embeddings of a module; None if unclear."""
    for part in module.modules():
        size = getattr(part, 'grid_size', None)
        if isinstance(size, (tuple, list)) and len(size) == 2 and count - size[0] * size[1] in prefixes:
            return count - size[0] * size[1], (int(size[0]), int(size[1]))
    return square_grid(count, prefixes)


def square_grid(count: int, prefixes: tuple[int, ...]) -> tuple[int, tuple[int, int]] | None:
    """As :func:`grid_of`, for square grids."""
    for prefix in prefixes:
        side = math.isqrt(max(0, count - prefix))
        if side > 0 and side * side == count - prefix:
            return prefix, (side, side)
    return None


def resize_positions(
    value: torch.Tensor,
    own: torch.Tensor,
    given: tuple[int, tuple[int, int]],
    wanted: tuple[int, tuple[int, int]],
) -> torch.Tensor:
    """Position embeddings for another grid: bicubic with antialiasing; tokens before the grid are kept.

    Args:
        value: (1, tokens, channels) of the file.
        own: (1, tokens, channels) of the module; its tokens before the grid stay where the file has none.
        given: Tokens before the grid, and the grid, of the file.
        wanted: The same of the module.

    Returns:
        As ``own``, float32.
    """
    (before, grid), (own_before, own_grid) = given, wanted
    tokens = value[:, before:].float().reshape(1, *grid, -1).permute(0, 3, 1, 2)
    if grid != own_grid:
        tokens = F.interpolate(tokens, own_grid, mode='bicubic', antialias=True, align_corners=False)
    tokens = tokens.permute(0, 2, 3, 1).reshape(1, own_grid[0] * own_grid[1], -1)
    kept = min(before, own_before)
    return torch.cat([value[:, :kept].float(), own[:, kept:own_before].float(), tokens], 1)


def is_relative_table(name: str) -> bool:
    """Whether a tensor is a table of relative position biases, as Swin transformers have them."""
    return _TABLE.search(name) is not None


def resize_table(value: torch.Tensor, count: int) -> torch.Tensor | None:
    """Relative position biases for another window: the (2 w - 1) by (2 w - 1) table resized bicubically.

    Args:
        value: (entries, heads).
        count: Wanted number of entries.

    Returns:
        (count, heads), float32; None where a number of entries is no square.
    """
    sides = [math.isqrt(value.shape[0]), math.isqrt(count)]
    if sides[0] ** 2 != value.shape[0] or sides[1] ** 2 != count:
        return None
    table = value.float().T.reshape(1, -1, sides[0], sides[0])
    table = F.interpolate(table, (sides[1], sides[1]), mode='bicubic', align_corners=False)
    return table.reshape(-1, count).T
