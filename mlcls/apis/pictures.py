"""The images of a dataset before augmentation, to be looked at."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from mlcls.datasets import innermost
from mlcls.errors import ConfigError, DataError


class Originals:
    """The images of a dataset as its first transform, which loads them, gives them.

    Args:
        dataset: Any dataset, wrapped or not.
        what: What asks for them, for the message.

    Raises:
        ConfigError: The dataset has no pipeline of ours.
    """

    def __init__(self, dataset: Any, what: str) -> None:
        from mlcls.datasets import Compose

        inner = innermost(dataset)
        if not hasattr(inner, 'pipeline') or not len(inner.pipeline) or not hasattr(inner, 'load'):
            raise ConfigError(f'{what}: {type(inner).__name__} has no pipeline whose first step loads an image')
        self._dataset = copy.copy(inner)
        self._dataset.pipeline = Compose(inner.pipeline.transforms[:1])

    def __getitem__(self, index: int) -> np.ndarray | None:
        """Image of a position in the dataset, uint8 RGB (H, W, 3); None if it is left out by ``on_error='skip'``.

        Raises:
            DataError: It cannot be used.
        """
        sample = self._dataset.load(index)
        return None if sample is None else sample['img']

    def readable(self, index: int) -> np.ndarray | None:
        """The same, and None where the image cannot be used."""
        try:
            return self[index]
        except DataError:
            return None
