"""What every function here asks of its tensors, so that a wrong one is named instead of giving a number."""

from __future__ import annotations

import numpy as np
import torch

from mlcls.errors import DataError

#: Images looked at together, to count those with a wrong score.
_ROWS = 1024


def check_scores(scores: torch.Tensor) -> torch.Tensor:
    """Check scores and bring them to a type in which they compare exactly.

    Args:
        scores: (N, C), any real type and device.

    Returns:
        (N, C), float32 (from float16 and bfloat16, exactly) or float64 (from integers), detached, on the same device.

    Raises:
        DataError: Not two-dimensional, or a score is NaN: it has no place in an order, so no measure is defined.
    """
    scores = check_no_nan(scores)
    return scores.to(exact_type(scores.dtype))


def check_no_nan(scores: torch.Tensor) -> torch.Tensor:
    """Check scores as ``check_scores`` does, and leave their type as it is: nothing is copied.

    Returns:
        The same, detached.
    """
    if scores.ndim != 2:
        raise DataError(f'scores must have the shape (images, classes), not {tuple(scores.shape)}')
    scores = scores.detach()
    # The smallest value is NaN where any is: one cheap pass instead of a mask of the whole matrix.
    if scores.is_floating_point() and scores.numel() and bool(scores.amin().isnan()):
        images = sum(int(rows.isnan().any(dim=1).sum()) for rows in scores.split(_ROWS))
        raise DataError(f'the scores of {images} of {len(scores)} images contain NaN')
    return scores


def exact_type(dtype: torch.dtype) -> torch.dtype:
    """The type in which scores of a type compare exactly: float32 for half types, float64 for integers."""
    if dtype in (torch.float16, torch.bfloat16):
        return torch.float32
    return dtype if dtype.is_floating_point else torch.float64


def check_targets(targets: torch.Tensor) -> torch.Tensor:
    """Check labels and bring them to int8.

    Args:
        targets: (N, C) of 1 (present), 0 (absent) and -1 (unknown), any type and device.

    Returns:
        The same as int8, on the same device.

    Raises:
        DataError: Not two-dimensional, or a value that is not 1, 0 or -1.
    """
    if targets.ndim != 2:
        raise DataError(f'targets must have the shape (images, classes), not {tuple(targets.shape)}')
    targets = targets.detach()
    labels = whole_labels(targets)
    if labels.numel():
        low, high = labels.aminmax()
        if bool((low < -1) | (high > 1)):
            raise not_a_label(labels[(labels > 1) | (labels < -1)][0])
    return labels


def whole_labels(targets: torch.Tensor) -> torch.Tensor:
    """Labels as int8; raise DataError for those that int8 would change, as 0.7 to 0 or 257 to 1."""
    labels = targets.to(torch.int8)
    if targets.dtype not in (torch.int8, torch.bool):
        wrong = labels != targets
        if bool(wrong.any()):
            raise not_a_label(targets[wrong][0])
    return labels


def not_a_label(value: torch.Tensor | np.generic) -> DataError:
    """The error that names a value which is no label."""
    return DataError(
        f'a label must be 1 (present), 0 (absent) or -1 (unknown), not {value.item():g}; '
        'soft labels cannot be evaluated'
    )


def check_pair(first: torch.Tensor, targets: torch.Tensor) -> None:
    """Raise DataError unless both have the same (N, C) shape."""
    if first.shape != targets.shape:
        raise DataError(f'scores or decisions are {tuple(first.shape)}, but targets are {tuple(targets.shape)}')
