"""A whole batch from a dataset, its images written where the process that uses it will read them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import numpy as np
import torch

from mlcls.structures import Batch

from .collate import check_packed, collate_batch, size_error, stack_indices, stack_targets
from .shared_slots import Pixels

Load = Callable[[int, np.ndarray | None], dict[str, Any] | None]


def make_batch(load: Load, indices: Sequence[int]) -> Batch | None:
    """Load images into one buffer.

    Args:
        load: ``load(index, out)`` gives a packed sample, or None to leave the image out. ``out`` is the image's place
            in the buffer, uint8 (H, W, 3), or None while the size of the images is not known. A sample whose pixels lie
            elsewhere is copied.
        indices: What to load.

    Returns:
        A batch whose ``inputs`` are uint8 (N, 3, H, W) in channels-last memory; None if all images are left out.

    Raises:
        ConfigError: If samples are not packed.
        DataError: If the images differ in size.
    """
    pixels: Pixels | None = None
    samples: list[dict[str, Any]] = []
    rest = iter(indices)
    for index in rest:
        place = None if pixels is None else pixels.array[len(samples)]
        sample = load(index, place)
        if sample is None:
            continue
        check_packed(sample)
        image = sample['inputs']
        if pixels is None:
            if image.dtype != torch.uint8 or image.ndim != 3 or len(image) != 3:
                return _collated(sample, (load(index, None) for index in rest))
            pixels = Pixels(len(indices), *image.shape[1:])
            place = pixels.array[0]
        if image is not place:
            _copy(image, pixels.tensor[len(samples)])
        samples.append(sample)
    if pixels is None:
        return None
    return cast(Batch, pixels.batch(len(samples), stack_targets(samples), stack_indices(samples)))


def _copy(image: torch.Tensor | np.ndarray, place: torch.Tensor) -> None:
    """Copy an image, a tensor (3, H, W) or an array (H, W, 3), to its place (H, W, 3)."""
    if isinstance(image, np.ndarray):  # packed into a copy of the place
        image = torch.from_numpy(image).permute(2, 0, 1)
    if image.shape[1:] != place.shape[:2]:
        raise size_error([place.shape[:2], image.shape[1:]])
    place.copy_(image.permute(1, 2, 0))


def _collated(first: dict[str, Any], others: Iterable[dict[str, Any] | None]) -> Batch | None:
    """The batch of samples that are not what `PackInputs` packs."""
    return collate_batch([first, *(sample for sample in others if sample is not None)])
