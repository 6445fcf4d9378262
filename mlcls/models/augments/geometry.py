"""Affine maps of a batch, on the device."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from .base import to_device

INTERPOLATIONS = ('nearest', 'bilinear')


def affine(
    images: torch.Tensor, maps: torch.Tensor, interpolation: str = 'nearest', fill: tuple[float, ...] = (0.0, 0.0, 0.0)
) -> torch.Tensor:
    """Move the pixels of each image by its own affine map.

    Args:
        images: float32 (N, 3, H, W).
        maps: float32 (N, 2, 3), on the same device: from a place (x, y, 1) in the result to the place in the image
            that is seen there; in pixels from the centre, x to the right and y down.
        interpolation: ``'nearest'`` or ``'bilinear'``.
        fill: Colour outside the image, a level a channel.

    Returns:
        The moved images, of the same shape.
    """
    height, width = images.shape[2:]
    x = torch.arange(width, device=images.device) + (0.5 - width / 2)
    y = torch.arange(height, device=images.device)[:, None] + (0.5 - height / 2)
    # Element by element: the matrix product of F.affine_grid would run in float16 under autocast.
    horizontal, vertical = (
        (row[:, 0, None, None] * x + row[:, 1, None, None] * y + row[:, 2, None, None]) / (side / 2)
        for row, side in zip(maps.unbind(1), (width, height))
    )
    grid = torch.stack([horizontal, vertical], dim=-1)
    if not any(fill):
        return F.grid_sample(images, grid, interpolation, 'zeros', align_corners=False)
    level = to_device(torch.tensor(fill), images.device).view(-1, 1, 1)
    return F.grid_sample(images - level, grid, interpolation, 'zeros', align_corners=False).add_(level)
