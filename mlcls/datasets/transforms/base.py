"""What a transform is.

A transform takes the sample of one image and a random generator, and returns the sample:

    @TRANSFORMS.register_module()
    class Invert(Transform):
        def __call__(self, sample, rng):
            sample['img'] = 255 - sample['img']
            return sample

Images are uint8 RGB arrays (H, W, 3) under the key ``img``. All randomness comes from ``rng``, which the dataset makes
from the draw's key, so a sample is the same in any worker. An image may be read-only, and it may lie in the batch: a
transform that keeps one beyond its call must copy it. Transforms of mmcv and mmengine, ``__call__(results)``, work
too; they are wrapped by `Adapter`.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from mlcls.errors import DataError

Sample = dict[str, Any]


class Transform(ABC):
    """Base class of our transforms. Subclasses override `__call__`."""

    @abstractmethod
    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Transform a sample.

        Args:
            sample: At least ``img_path``, ``targets`` (int8 (C,)) and ``index``; ``img`` once it is loaded. It may be
                changed in place.
            rng: The only source of randomness.

        Returns:
            The sample, never None.
        """

    def __repr__(self) -> str:
        settings = ', '.join(f'{name}={value!r}' for name, value in vars(self).items() if not name.startswith('_'))
        return f'{type(self).__name__}({settings})'


class Adapter(Transform):
    """Lets a transform of mmcv's or mmengine's kind, ``__call__(results) -> results``, stand in a pipeline.

    Such transforms draw from global generators. numpy's, Python's and torch's are seeded from ``rng`` before the call;
    torch's, from which the model draws too, is put back afterwards. Images stay RGB (H, W, 3): the BGR of mmcv's
    ``LoadImageFromFile`` (or a class derived from it) is turned round, grey images get three channels.

    Args:
        transform: The transform.
    """

    def __init__(self, transform: Callable[[Sample], Sample | None]) -> None:
        self.transform = transform
        self._loads_bgr = any(
            base.__module__.startswith('mmcv.') and base.__name__ == 'LoadImageFromFile'
            for base in type(transform).__mro__
        )

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Run the transform.

        Raises:
            DataError: If it returns None, which would mean to drop the image.
        """
        seed = int(rng.integers(2**32))
        np.random.seed(seed)
        random.seed(seed)
        image = sample.get('img')
        if isinstance(image, np.ndarray) and not image.flags.writeable:
            sample['img'] = image.copy()  # of a pack; such transforms may write into it
        kept = torch.default_generator.get_state()
        torch.default_generator.manual_seed(seed)
        try:
            result = self.transform(sample)
        finally:
            torch.default_generator.set_state(kept)
        if result is None:
            raise DataError(f'{type(self.transform).__name__} returned None; images are never dropped silently')
        image = result.get('img')
        if isinstance(image, np.ndarray):
            if image.ndim == 2:  # mmcv keeps grey images without channels
                result['img'] = np.repeat(image[..., None], 3, axis=2)
            elif self._loads_bgr:
                result['img'] = np.ascontiguousarray(image[..., 2::-1])  # without alpha, if there is one
        return result

    def __repr__(self) -> str:
        return repr(self.transform)
