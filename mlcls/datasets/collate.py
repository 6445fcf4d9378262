"""From a list of packed samples to a batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import default_collate

from mlcls.errors import ConfigError, DataError
from mlcls.registry import FUNCTIONS
from mlcls.structures import Batch


# Under mmpretrain's names too, so that its configs find the function that makes our batches.
@FUNCTIONS.register_module(name=['collate_batch', 'default_collate', 'pseudo_collate'])
def collate_batch(samples: Sequence[dict[str, Any]] | Batch | None) -> Batch | None:
    """Stack packed samples; in a worker process directly into shared memory.

    Args:
        samples: Results of pipelines that end with ``PackInputs``. What a dataset has made whole, a batch or None, is
            returned as it is.

    Returns:
        ``inputs`` uint8 (N, 3, H, W), channels-last in memory if the samples are; ``targets`` int8 (N, C), or float32
        if some are soft; ``index`` int64 (N,).

    Raises:
        ConfigError: If the samples are not packed.
        DataError: If the images differ in size.
    """
    if samples is None or isinstance(samples, dict):
        return samples
    for sample in samples:
        check_packed(sample)
    images = [sample['inputs'] for sample in samples]
    if len({image.shape[1:] for image in images}) > 1:
        raise size_error([image.shape[1:] for image in images])
    # torch's own collate function knows how to allocate shared memory in a worker.
    if images[0].is_contiguous():
        inputs = default_collate(images)
    else:
        inputs = default_collate([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)
    return {'inputs': inputs, 'targets': stack_targets(samples), 'index': stack_indices(samples)}


def check_packed(sample: Any) -> None:
    """Check that a sample comes from ``PackInputs`` or its like.

    Raises:
        ConfigError: If it does not.
    """
    if not isinstance(sample, dict) or 'inputs' not in sample or 'targets' not in sample:
        raise ConfigError('the pipeline must end with PackInputs')


def size_error(sizes: Sequence[Sequence[int]]) -> DataError:
    """The error about images of a batch that differ in size (height, width)."""
    different = list(Counter(tuple(size) for size in sizes))
    shown = ', '.join(f'{width}x{height}' for height, width in different[:3])
    return DataError(
        f'the images of a batch differ in size ({shown}{", ..." * (len(different) > 3)}); add Resize, or '
        'ResizeEdge and CenterCrop, to the pipeline'
    )


def stack_targets(samples: Sequence[dict[str, Any]]) -> torch.Tensor:
    """Targets of packed samples, (N, C): as they are, or float32 if some are soft."""
    stacked = np.stack([np.asarray(sample['targets']) for sample in samples])
    return torch.from_numpy(stacked.astype(np.float32, copy=False) if stacked.dtype.kind == 'f' else stacked)


def stack_indices(samples: Sequence[dict[str, Any]]) -> torch.Tensor:
    """Indices of packed samples, int64 (N,)."""
    return torch.tensor([int(sample['index']) for sample in samples])
