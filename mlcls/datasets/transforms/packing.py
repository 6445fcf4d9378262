"""The last step of a pipeline: from arrays to the tensors of a batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from mlcls.errors import ConfigError, DataError
from mlcls.registry import TRANSFORMS

from .base import Sample, Transform


@TRANSFORMS.register_module()
class PackInputs(Transform):
    """Pack a sample into ``dict(inputs=uint8 (3, H, W), targets=(C,), index=int)``, channels-last in memory.

    If the sample has a place in a batch, under ``out``, and the image fits there, it is written there, and nothing else
    is made of it: ``inputs`` is that array, uint8 (H, W, 3), and ``targets`` and ``index`` are as they are.

    Args:
        input_key: Where the image is.
        algorithm_keys: Only empty: a batch holds images, targets and indices, and nothing else.
        meta_keys: Accepted for configs of mmpretrain, and without effect: batches carry no meta data.
    """

    def __init__(
        self, input_key: str = 'img', algorithm_keys: Sequence[str] = (), meta_keys: Sequence[str] = ()
    ) -> None:
        if algorithm_keys:
            raise ConfigError(f'PackInputs: algorithm_keys is not supported, got {list(algorithm_keys)}')
        self.input_key = input_key

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Pack it.

        Raises:
            DataError: If the image is not uint8 (H, W, 3).
        """
        if self.input_key not in sample:
            raise DataError(
                f"PackInputs: the sample has no '{self.input_key}'; the pipeline must begin with LoadImageFromFile"
            )
        image = sample[self.input_key]
        if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            found = f'{image.dtype} {image.shape}' if isinstance(image, np.ndarray) else type(image).__name__
            raise DataError(
                f'PackInputs: images must be uint8 (H, W, 3), got {found}; normalisation belongs in the '
                'data_preprocessor'
            )
        out = sample.get('out')
        if out is not None and out.shape == image.shape:
            if image is not out:
                np.copyto(out, image)
            return {'inputs': out, 'targets': sample['targets'], 'index': sample['index']}
        return {
            'inputs': torch.from_numpy(np.array(image, order='C')).permute(2, 0, 1),
            'targets': torch.as_tensor(sample['targets']),
            'index': int(sample['index']),
        }
