"""What a report needs beside the numbers: names, pictures, thresholds and facts about the run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mlcls.errors import ConfigError, DataError, UserError

if TYPE_CHECKING:
    from mlcls.evaluation.operating_points import OperatingPoints
    from mlcls.evaluation.result import EvaluationResult

#: Bytes that the data of a page may have unless a source says otherwise: with the page around it, under 15 MB.
MAX_BYTES = 12_000_000
#: From a row number and class numbers to a picture for each class.
Look = Callable[[int, Sequence[int]], Sequence[np.ndarray] | None]


@dataclass(frozen=True, eq=False)
class ReportSource:
    """Where a report takes all that is not in the result of the evaluation.

    The scores of the result are those that the thresholds are compared with: where a calibration is in use, they are
    calibrated already. A report never changes a score.

    Args:
        title: Heading of the page.
        names: Name of the image of each row of the result's scores, as in the annotations, so that corrections which
            the report proposes can be applied to them.
        load_image: From a row number to uint8 RGB (H, W, 3); None if the image cannot be read.
        facts: Pairs of a label and a text, shown as they are, such as ``('checkpoint', 'best.pth')``.
        thresholds: One a class, in class order, in [0, 1]: those in use.
        points: The operating points that the thresholds come from: their intervals and notes are shown.
        intervals: 95 % interval of headline numbers, by the name of the number (``'CF1'`` or ``'multi-label/CF1'``).
        data_hash: Hash of classes, image names and labels.
        max_bytes: How long the payload may be as JSON, thumbnails and all.
        train_counts: Positives of each class in the training data, if known.
        calibration: What was applied to the scores, in words; empty if nothing was.
        look: From a row number and class numbers to one picture a class of where the network saw it, uint8 RGB
            (H, W, 3) of any size; None if there are none of this row. None shows no such pictures.
        look_words: How these were made, a sentence or two.
    """

    title: str
    names: Sequence[str]
    load_image: Callable[[int], np.ndarray | None]
    facts: Sequence[tuple[str, str]]
    thresholds: Sequence[float]
    points: OperatingPoints | None = None
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    data_hash: str = ''
    max_bytes: int = MAX_BYTES
    train_counts: Sequence[int] | None = None
    calibration: str = ''
    look: Look | None = None
    look_words: str = ''

    def check(self, result: EvaluationResult) -> None:
        """Refuse a source that does not belong to a result.

        Raises:
            DataError: Not one name for each row of the scores.
            ConfigError: Not one threshold (or training count) for each class, or a threshold outside [0, 1].
        """
        images, classes = len(result.scores), len(result.classes)
        if len(self.names) != images:
            raise DataError(f'a report needs one name for each of the {images} images, got {len(self.names)}')
        for what, values in (('threshold', self.thresholds), ('training count', self.train_counts)):
            if values is not None and len(values) != classes:
                raise ConfigError(f'a report needs one {what} for each of the {classes} classes, got {len(values)}')
        for name, threshold in zip(result.classes, self.thresholds):
            if not (math.isfinite(threshold) and 0 <= threshold <= 1):
                raise ConfigError(f"the threshold of class '{name}' must be between 0 and 1, not {threshold}")

    def picture(self, row: int) -> np.ndarray | None:
        """The image of a row, uint8 RGB (H, W, 3); None if it cannot be read or is no such array."""
        try:
            image = self.load_image(row)
        except (UserError, OSError):
            return None
        if image is None or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            return None
        return image
