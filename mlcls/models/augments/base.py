"""What the augmentations share: their two kinds, and how a part of a batch is changed.

Parameters are drawn on the CPU from torch's generator, which the training loop seeds by (seed, epoch, rank): a run on
a GPU draws what a run on a CPU draws, the device is never waited for, and a resumed epoch is augmented as before.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch

from mlcls.errors import ConfigError
from mlcls.registry import MODELS

#: Images of the selected rows (n, 3, H, W), which may be overwritten, and the rows' numbers on the CPU (n,).
Change = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class DeviceAugment(ABC):
    """A change of the images of a batch, with random parameters for each image."""

    @abstractmethod
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Change them.

        Args:
            images: float32 RGB (N, 3, H, W), 0 to 255, on any device. They may be overwritten.

        Returns:
            The changed images, of the same shape, range, device and memory format.
        """


class BatchAugment(ABC):
    """A change of the images and labels of a batch."""

    @abstractmethod
    def __call__(self, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Change them.

        Args:
            images: float32 (N, 3, H, W). They may be overwritten.
            targets: (N, C) of 1, 0, -1 (unknown) and soft values in [0, 1].

        Returns:
            Images as they came in, and targets: float32 if images were mixed, otherwise the given ones.
        """


def build_augment(config: Any, kind: type, **defaults: Any) -> Any:
    """Build an augmentation.

    Args:
        config: Its config; or an augmentation, which is returned.
        kind: What it must be.
        **defaults: Settings, such as the type, that a config may leave out.

    Raises:
        ConfigError: It cannot be built, or is of another kind.
    """
    built = config
    if isinstance(config, Mapping):
        try:
            built = MODELS.build({**defaults, **config})
        except (KeyError, TypeError) as error:  # mmengine's, of an unknown type or argument
            raise ConfigError(f'{dict(config)!r} builds no {kind.__name__}: {error.args[0]}') from error
    if not isinstance(built, kind):
        raise ConfigError(f'expected the config of a {kind.__name__}, a dict with a type, got {config!r}')
    return built


def to_device(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Send parameters from the CPU to the device without waiting for it."""
    if device.type == 'cuda':
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def uniform(count: int, low: float, high: float) -> torch.Tensor:
    """Random numbers in [low, high), float32 (count,), on the CPU."""
    return torch.rand(count) * (high - low) + low


def change_some(images: torch.Tensor, chosen: torch.Tensor, change: Change) -> torch.Tensor:
    """Change some images of a batch, in place.

    Args:
        images: (N, 3, H, W).
        chosen: Which ones, bool (N,), on the CPU.
        change: Called with these images and their numbers, unless there are none.

    Returns:
        ``images``.
    """
    rows = chosen.nonzero().flatten()
    if len(rows):
        index = to_device(rows, images.device)
        images.index_copy_(0, index, change(images.index_select(0, index), rows))
    return images


def box_mask(boxes: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Pixels inside a box for each image, bool (N, H, W), on the device of the images.

    Args:
        boxes: Top, bottom, left and right edge in pixels, (N, 4); bottom and right are not inside.
        images: (N, 3, H, W).
    """
    top, bottom, left, right = to_device(boxes, images.device)[:, :, None].unbind(1)
    y = torch.arange(images.shape[2], device=images.device)
    x = torch.arange(images.shape[3], device=images.device)
    rows, columns = (y >= top) & (y < bottom), (x >= left) & (x < right)
    return rows[:, :, None] & columns[:, None, :]


def fill_boxes(images: torch.Tensor, boxes: torch.Tensor, color: tuple[float, float, float]) -> torch.Tensor:
    """Paint a box into each image, in place; arguments of :func:`box_mask`."""
    mask = box_mask(boxes, images)
    for channel, level in enumerate(color):
        images[:, channel].masked_fill_(mask, level)
    return images
