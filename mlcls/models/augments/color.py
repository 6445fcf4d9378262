"""Changes of colour of a batch, on the device.

Images are float32 RGB (N, 3, H, W), 0 to 255, and may be overwritten; amounts are (N, 1, 1, 1) on their device. The
definitions are torchvision's (which are Pillow's), without rounding to whole levels in between.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from mlcls.registry import MODELS

from . import arguments
from .base import DeviceAugment, to_device, uniform

#: Weights of red, green and blue in grey (ITU-R BT.601).
GREY = (0.299, 0.587, 0.114)


def grey(images: torch.Tensor) -> torch.Tensor:
    """Grey versions, (N, 1, H, W)."""
    red, green, blue = images.unbind(1)
    return (red * GREY[0]).add_(green, alpha=GREY[1]).add_(blue, alpha=GREY[2])[:, None]


def _blend(images: torch.Tensor, other: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    # In place, and exactly the image where the factor is 1.
    return images.mul_(factor).add_(other * (1 - factor)).clamp_(0, 255)


def adjust_brightness(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """``factor`` 0 gives black, 1 the image."""
    return images.mul_(factor).clamp_(0, 255)


def adjust_contrast(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """``factor`` 0 gives each image's mean grey everywhere, 1 the image."""
    return _blend(images, grey(images).mean(dim=(2, 3), keepdim=True), factor)


def adjust_saturation(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """``factor`` 0 gives the grey image, 1 the image."""
    return _blend(images, grey(images), factor)


def adjust_sharpness(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """``factor`` 0 gives a smoothed image (3 x 3, the middle counts five times), 1 the image; borders stay."""
    if min(images.shape[2:]) <= 2:
        return images
    inner = images[:, :, 1:-1, 1:-1]
    smooth = F.avg_pool2d(images, 3, stride=1).mul_(9 / 13).add_(inner, alpha=4 / 13)
    _blend(inner, smooth, factor)
    return images


def adjust_hue(images: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Turn all hues by ``shift`` of the full circle."""
    value, chroma = images.amax(dim=1), images.amax(dim=1) - images.amin(dim=1)
    red, green, blue = images.unbind(1)
    safe = torch.where(chroma > 0, chroma, 1)
    # The hue in sixths of the circle.
    hue = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    hue = hue + 6 * shift[:, 0]
    for channel, offset in enumerate((5, 3, 1)):
        distance = (hue + offset).remainder_(6)
        images[:, channel] = value - chroma * torch.minimum(distance, 4 - distance).clamp_(0, 1)
    return images


def posterize(images: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    """Keep the highest ``bits`` (0 to 8) of each level; levels between whole ones are rounded first."""
    step = torch.exp2(8 - bits)
    return images.round_().div_(step).floor_().mul_(step)


def solarize(images: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    """Invert the levels at or above the threshold."""
    return torch.where(images >= threshold, 255 - images, images)


def autocontrast(images: torch.Tensor) -> torch.Tensor:
    """Stretch the levels of each channel to 0 to 255; a channel of one level stays."""
    low, high = images.amin(dim=(2, 3), keepdim=True), images.amax(dim=(2, 3), keepdim=True)
    flat = low == high
    scale = torch.where(flat, 1, 255 / (high - low).masked_fill(flat, 1))
    return images.sub_(low.masked_fill(flat, 0)).mul_(scale).clamp_(0, 255)


def equalize(images: torch.Tensor) -> torch.Tensor:
    """Spread the levels of each channel so that all are equally frequent, as Pillow does; they are rounded first."""
    levels = images.round_().long().flatten(2)
    planes = levels.shape[0] * levels.shape[1]
    offsets = torch.arange(planes, device=images.device).view(*levels.shape[:2], 1) * 256
    counts = torch.zeros(planes * 256, dtype=torch.int64, device=images.device)
    flat = (levels + offsets).flatten()
    counts = counts.scatter_add_(0, flat, torch.ones_like(flat)).view(*levels.shape[:2], 256)
    pixels = levels.shape[2]
    step = (pixels - counts.gather(2, levels.amax(dim=2, keepdim=True))) // 255  # without the brightest level
    before = counts.cumsum(2) - counts
    table = ((before + step // 2) // step.clamp(min=1)).clamp_(max=255)
    table = torch.where(step > 0, table, torch.arange(256, device=images.device))
    return table.gather(2, levels).view(images.shape).to(images.dtype)


@MODELS.register_module()
class BatchColorJitter(DeviceAugment):
    """Change brightness, contrast, saturation and hue of each image by random amounts.

    As the transform ``ColorJitter``, but the order of the four is drawn once for the batch.

    Args:
        brightness: The factor is drawn from [max(0, 1 - brightness), 1 + brightness], or from the given [min, max].
        contrast: As ``brightness``.
        saturation: As ``brightness``.
        hue: The shift is drawn from [-hue, hue], hue at most 0.5, or from the given [min, max] within [-0.5, 0.5].

    Raises:
        ConfigError: A value outside these.
    """

    ADJUSTMENTS = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)

    def __init__(
        self,
        brightness: float | Sequence[float] = 0.0,
        contrast: float | Sequence[float] = 0.0,
        saturation: float | Sequence[float] = 0.0,
        hue: float | Sequence[float] = 0.0,
    ) -> None:
        factors = {'brightness': brightness, 'contrast': contrast, 'saturation': saturation}
        self.ranges = [self._range(name, value, 1.0, 0.0, float('inf')) for name, value in factors.items()]
        self.ranges.append(self._range('hue', hue, 0.0, -0.5, 0.5))

    @staticmethod
    def _range(
        name: str, value: float | Sequence[float], centre: float, low: float, high: float
    ) -> tuple[float, float] | None:
        """The range to draw from, or None if it leaves the image as it is."""
        what = f'BatchColorJitter: {name}'
        if isinstance(value, (int, float)):
            amount = arguments.number(value, 0, high, what)
            value = (max(centre - amount, low), centre + amount)
        limits = arguments.interval(value, low, high, what)
        return None if limits == (centre, centre) else limits

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Adjust all."""
        order = torch.randperm(4).tolist()
        draws = [None if limits is None else uniform(len(images), *limits) for limits in self.ranges]
        for number in order:
            if (amounts := draws[number]) is not None:
                images = self.ADJUSTMENTS[number](images, to_device(amounts, images.device).view(-1, 1, 1, 1))
        return images
