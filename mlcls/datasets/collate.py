"""From a list of packed samples to a batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import default_collate

from mlcls.errors import ConfigError, DataError
from mlcls.registry import FUNCTIONS
from mlcls.structures import Batch


# Under mmpretrain's names too, so that its configs find the function that makes our batches.
@FUNCTIONS.register_module(name=['collate_batch', 'default_collate', 'pseudo_collate'])
def collate_batch(samples: Sequence[dict[str, Any]]) -> Batch:
    """Stack packed samples; in a worker process directly into shared memory.

    Args:
        samples: Results of pipelines that end with ``PackInputs``.

    Returns:
        ``inputs`` uint8 (N, 3, H, W), ``targets`` int8 (N, C), or float32 if some are soft, ``index`` int64 (N,).

    Raises:
        ConfigError: If the samples are not packed.
        DataError: If the images differ in size.
    """
    for sample in samples:
        if not isinstance(sample, dict) or 'inputs' not in sample or 'targets' not in sample:
            raise ConfigError('the pipeline must end with PackInputs')
    inputs = [sample['inputs'] for sample in samples]
    sizes = Counter(tuple(image.shape[1:]) for image in inputs)
    if len(sizes) > 1:
        shown = ', '.join(f'{width}x{height}' for height, width in list(sizes)[:3])
        raise DataError(
            f'the images of a batch differ in size ({shown}{", ..." * (len(sizes) > 3)}); add Resize, or '
            'ResizeEdge and CenterCrop, to the pipeline'
        )
    targets = [sample['targets'] for sample in samples]
    if any(target.is_floating_point() for target in targets):
        targets = [target.float() for target in targets]
    # torch's own collate function knows how to allocate shared memory in a worker.
    return {
        'inputs': default_collate(inputs),
        'targets': default_collate(targets),
        'index': torch.tensor([int(sample['index']) for sample in samples]),
    }
