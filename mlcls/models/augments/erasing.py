"""Random erasing (Zhong et al., arXiv 1708.04896), on the device."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from mlcls.registry import MODELS

from . import arguments
from .base import DeviceAugment, box_mask, fill_boxes, to_device, uniform

#: Rectangles drawn for an image until one fits into it; an image without one stays whole.
TRIES = 10


@MODELS.register_module()
class BatchRandomErasing(DeviceAugment):
    """Paint a rectangle of random area, shape and place over each image; arguments of mmpretrain's ``RandomErasing``.

    The labels stay, also of what it covers. The noise of ``mode='rand'`` is drawn on the device: of all random numbers
    these alone differ between a CPU and a GPU.

    Args:
        erase_prob: Probability for each image.
        min_area_ratio: Least area, as a share of the image's.
        max_area_ratio: Largest area.
        aspect_range: Height over width of the rectangle, drawn evenly on a logarithmic scale; or one bound, the other
            being its inverse.
        mode: ``'const'`` paints ``fill_color``, ``'rand'`` noise.
        fill_color: Colour, one number or (red, green, blue), 0 to 255; with ``'rand'`` and ``fill_std`` the mean.
        fill_std: Standard deviation of the noise; None draws it evenly from 0 to 255.

    Raises:
        ConfigError: A value outside these.
    """

    def __init__(
        self,
        erase_prob: float = 0.5,
        min_area_ratio: float = 0.02,
        max_area_ratio: float = 0.4,
        aspect_range: float | Sequence[float] = (3 / 10, 10 / 3),
        mode: str = 'const',
        fill_color: float | Sequence[float] = (128, 128, 128),
        fill_std: float | Sequence[float] | None = None,
    ) -> None:
        name = 'BatchRandomErasing:'
        self.prob = arguments.number(erase_prob, 0, 1, f'{name} erase_prob')
        self.areas = arguments.interval(
            (min_area_ratio, max_area_ratio), 0, 1, f'{name} (min_area_ratio, max_area_ratio)'
        )
        if isinstance(aspect_range, (int, float)):
            bound = arguments.positive(aspect_range, f'{name} aspect_range')
            aspect_range = sorted((bound, 1 / bound))
        self.aspects = arguments.interval(aspect_range, 1e-3, 1e3, f'{name} aspect_range')
        self.mode = arguments.choice(mode, ('const', 'rand'), f'{name} mode')
        self.color = arguments.color(fill_color, f'{name} fill_color')
        self.std = None if fill_std is None else arguments.color(fill_std, f'{name} fill_std')

    def boxes(self, count: int, height: int, width: int) -> torch.Tensor:
        """Draw rectangles, (count, 4) as :func:`box_mask` takes them; empty where nothing is erased."""
        chosen = torch.rand(count) < self.prob
        areas = uniform(count * TRIES, *self.areas) * (height * width)
        aspects = uniform(count * TRIES, *map(math.log, self.aspects)).exp()
        heights = (areas * aspects).sqrt().round().long().view(count, TRIES)
        widths = (areas / aspects).sqrt().round().long().view(count, TRIES)
        fits = (heights < height) & (widths < width)
        first = fits.int().argmax(dim=1, keepdim=True)
        chosen &= fits.any(dim=1)
        h, w = heights.gather(1, first)[:, 0] * chosen, widths.gather(1, first)[:, 0] * chosen
        top = (torch.rand(count) * (height - h + 1)).long()
        left = (torch.rand(count) * (width - w + 1)).long()
        return torch.stack([top, top + h, left, left + w], dim=1)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Paint over some."""
        boxes = self.boxes(len(images), *images.shape[2:])
        if self.mode == 'const':
            return fill_boxes(images, boxes, self.color)
        noise = torch.empty_like(images)
        if self.std is None:
            noise.uniform_(0, 255)
        else:
            mean, std = to_device(torch.tensor([self.color, self.std]), images.device)[:, :, None, None]
            noise.normal_().mul_(std).add_(mean).clamp_(0, 255)
        return images.copy_(torch.where(box_mask(boxes, images)[:, None], noise, images))
