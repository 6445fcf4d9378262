"""Transforms made of transforms, under mmcv's names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlcls.errors import ConfigError
from mlcls.registry import TRANSFORMS

from .arguments import share
from .base import Sample, Transform
from .pipeline import Compose


def _compose(transforms: Any) -> Compose:
    """A pipeline from one transform or from a list of them."""
    return Compose(
        transforms if isinstance(transforms, Sequence) and not isinstance(transforms, Mapping) else [transforms]
    )


@TRANSFORMS.register_module()
class RandomApply(Transform):
    """Apply transforms, all or none.

    Args:
        transforms: A transform or a list of them.
        prob: Probability to apply them.
    """

    def __init__(self, transforms: Any, prob: float = 0.5) -> None:
        self.transforms, self.prob = _compose(transforms), share(prob, 'RandomApply: prob')

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Apply them, or not."""
        return self.transforms(sample, rng) if rng.random() < self.prob else sample


@TRANSFORMS.register_module()
class RandomChoice(Transform):
    """Apply one of several pipelines.

    Args:
        transforms: The pipelines; each a transform or a list of them.
        prob: Probability of each; equal if None.
    """

    def __init__(self, transforms: Sequence[Any], prob: Sequence[float] | None = None) -> None:
        self.transforms = [_compose(pipeline) for pipeline in transforms]
        if not self.transforms:
            raise ConfigError('RandomChoice: transforms is empty')
        self.prob = None if prob is None else [share(value, 'RandomChoice: prob') for value in prob]
        if self.prob is not None and (len(self.prob) != len(self.transforms) or abs(sum(self.prob) - 1) > 1e-6):
            raise ConfigError(
                f'RandomChoice: prob must give each of the {len(self.transforms)} pipelines a share, '
                f'1 in all, got {prob!r}'
            )

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Choose one and apply it."""
        return self.transforms[int(rng.choice(len(self.transforms), p=self.prob))](sample, rng)
