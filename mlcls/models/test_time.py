"""Test-time augmentation: the mean score over several views of each picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from torch.nn import functional as F

from mlcls.errors import ConfigError, UserError, did_you_mean

_KEYS = ('flip', 'scales', 'five_crops')
#: What networks raise at a picture of a size that they do not take.
_REFUSALS = (RuntimeError, ValueError, AssertionError, IndexError)


class TestTimeViews:
    """Views of a batch of pictures, the first of which is the picture itself.

    The views are the picture; the picture at each scale; its four corners and its centre, cut out as they are; and,
    with ``flip``, each of these mirrored. Labels, classes and thresholds are not touched: a score is the mean of the
    scores (probabilities) of the views.

    Args:
        flip: Add the left-right mirrored form of every view.
        scales: Factors by which height and width are multiplied (bilinear, with antialiasing), each above 0 and not 1.
        five_crops: Share of height and width, in (0, 1), that the corners and the centre cover; None adds none.

    Raises:
        ConfigError: A value outside these, or no view but the picture itself.
    """

    __test__ = False  # no test of pytest's

    def __init__(self, flip: bool = True, scales: Sequence[float] = (), five_crops: float | None = None) -> None:
        if not isinstance(flip, bool):
            raise ConfigError(f'tta: flip must be True or False, not {flip!r}')
        if isinstance(scales, (str, bytes)) or not isinstance(scales, Sequence):
            raise ConfigError(f'tta: scales must be a list of factors such as [0.8, 1.25], not {scales!r}')
        for scale in scales:
            if not _is_number(scale) or not 0 < scale < math.inf:
                raise ConfigError(f'tta: scales must be factors above 0, not {scale!r}')
            if scale == 1:
                raise ConfigError('tta: the scale 1 is the picture itself, which is always among the views')
        if len(set(scales)) < len(scales):
            raise ConfigError(f'tta: a scale is given twice in {list(scales)}')
        if five_crops is not None and not (_is_number(five_crops) and 0 < five_crops < 1):
            raise ConfigError(
                f'tta: five_crops must be the share of height and width of each crop, in (0, 1), not {five_crops!r}'
            )
        if not flip and not scales and five_crops is None:
            raise ConfigError('tta: flip=False leaves the picture itself as the only view; give scales or five_crops')
        self.flip, self.five_crops = flip, five_crops
        self.scales = tuple(float(scale) for scale in scales)

    @classmethod
    def from_config(cls, config: Any) -> TestTimeViews | None:
        """Build from ``tta`` of a config: None or False (no augmentation), True (mirror), or a dict of arguments.

        Raises:
            ConfigError: Something else, an unknown key, or an impossible value.
        """
        if config is None or config is False:
            return None
        if isinstance(config, cls):
            return config
        if config is True:
            return cls()
        if not isinstance(config, Mapping):
            raise ConfigError(
                f'tta must be True, or a dict such as dict(flip=True, scales=[0.8, 1.25]), not {config!r}'
            )
        for key in config:
            if key not in _KEYS:
                raise ConfigError(f"tta has no setting '{key}'{did_you_mean(str(key), _KEYS)}")
        return cls(**config)

    def __len__(self) -> int:
        return (1 + len(self.scales) + (0 if self.five_crops is None else 5)) * (2 if self.flip else 1)

    def views(self, images: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        """The views, one after the other, each with its name.

        Args:
            images: uint8 (N, 3, H, W), on any device.

        Returns:
            Name and pictures uint8 (N, 3, H', W') on the same device; first ``'the picture'`` and the images as they
            are.
        """
        for name, view in self._plain_views(images):
            yield name, view
            if self.flip:
                yield ('mirrored' if view is images else f'{name}, mirrored'), view.flip(-1)

    def _plain_views(self, images: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        yield 'the picture', images
        height, width = images.shape[-2:]
        for scale in self.scales:
            yield f'scaled by {scale:g}', _resize(images, max(1, round(height * scale)), max(1, round(width * scale)))
        if self.five_crops is not None:
            high, wide = max(1, round(height * self.five_crops)), max(1, round(width * self.five_crops))
            down, right = height - high, width - wide
            for name, top, left in (
                ('top left', 0, 0),
                ('top right', 0, right),
                ('bottom left', down, 0),
                ('bottom right', down, right),
                ('centre', round(down / 2), round(right / 2)),
            ):
                yield f'{name} crop', images[..., top : top + high, left : left + wide]

    def mean_scores(self, images: torch.Tensor, score: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """The mean of the scores of all views.

        Args:
            images: uint8 (N, 3, H, W).
            score: Gives scores (N, C), probabilities, of pictures (N, 3, H', W').

        Returns:
            float32 (N, C).

        Raises:
            ConfigError: The network refuses the size of a view; the message names the view.
        """
        total = None
        for name, view in self.views(images):
            try:
                scores = score(view).float()
            except (UserError, torch.OutOfMemoryError):
                raise
            except _REFUSALS as error:
                if view.shape == images.shape:
                    raise  # size is not what is wrong
                raise ConfigError(
                    f"tta: the network cannot score the view '{name}' of {view.shape[-1]} x {view.shape[-2]} pixels "
                    f'(the pictures have {images.shape[-1]} x {images.shape[-2]}): {_first_line(error)}; leave this '
                    'view out'
                ) from error
            total = scores if total is None else total + scores
        assert total is not None
        return total / len(self)

    def describe(self) -> str:
        """The views in words, for results files."""
        kinds = ['the picture', *(f'scaled by {scale:g}' for scale in self.scales)]
        if self.five_crops is not None:
            kinds.append(f'five crops of {self.five_crops:g} of height and width')
        mirrored = ', each also mirrored' if self.flip else ''
        return f'mean score of {len(self)} views: {", ".join(kinds)}{mirrored}'


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _first_line(error: BaseException) -> str:
    return str(error).strip().split('\n')[0].rstrip('.') or type(error).__name__


def _resize(images: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Bilinear with antialiasing, in float32, so that every device gives the same picture."""
    resized = F.interpolate(images.float(), (height, width), mode='bilinear', align_corners=False, antialias=True)
    return resized.round_().clamp_(0, 255).to(torch.uint8)
