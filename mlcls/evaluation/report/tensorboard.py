"""The report as TensorBoard events: curves, histograms of scores, and the images a model is most wrong about."""

from __future__ import annotations

import os

import numpy as np

from mlcls.errors import DataError
from mlcls.evaluation.result import EvaluationResult

from .galleries import KINDS, find_galleries
from .histograms import column_blocks, counts_at, measures_of
from .source import ReportSource

#: Classes that are shown: those with the most positives. Images of each gallery.
MAX_CLASSES, MAX_IMAGES = 100, 4
#: Long side of an image in pixels.
_SIDE = 224


def write_tensorboard(
    folder: str | os.PathLike[str], result: EvaluationResult, source: ReportSource, step: int = 0
) -> None:
    """Write a precision-recall curve and two histograms a class, the worst images, and the headline numbers.

    Args:
        folder: Of the events; made if missing.
        result: The evaluation.
        source: Names, pictures and thresholds in use.
        step: Global step of the events.

    Raises:
        DataError: See `ReportSource.check`; or a file cannot be written.
        ConfigError: See `ReportSource.check`.
    """
    from torch.utils.tensorboard import SummaryWriter

    source.check(result)
    positives = np.array(result.positives)
    order = np.argsort(-positives, kind='stable')[:MAX_CLASSES]
    chosen = [int(c) for c in order if positives[c]]
    tags = class_tags(result, chosen)
    try:
        writer = SummaryWriter(str(folder))
    except OSError as error:
        raise DataError(f'{folder}: TensorBoard events cannot be written ({error.strerror})') from error
    try:
        counts = counts_at(result.scores, result.targets, source.thresholds)
        measures = measures_of(counts)
        for name in ('CP', 'CR', 'CF1', 'OP', 'OR', 'OF1', 'macro_F1'):
            writer.add_scalar(f'report/{name}', getattr(measures, name), step)
        for numbers, block, labels in column_blocks(result.scores, result.targets, chosen):
            for place, c in enumerate(numbers.tolist()):
                scores, marks = block[place], labels[place]
                known = marks >= 0
                writer.add_pr_curve(f'precision-recall/{tags[c]}', marks[known] == 1, scores[known], step)
                for kind, label in (('positives', 1), ('negatives', 0)):
                    if bool((marks == label).any()):
                        writer.add_histogram(f'scores of {kind}/{tags[c]}', scores[marks == label], step)
        for c, gallery in find_galleries(result.scores, result.targets, source.thresholds, chosen, MAX_IMAGES).items():
            for kind, ranked in zip(KINDS, gallery):
                images = [_fitted(image) for row in ranked.rows.tolist() if (image := source.picture(row)) is not None]
                if images:
                    tag = f'{kind.replace("_", " ")}/{tags[c]}'
                    writer.add_image(tag, np.concatenate(images, axis=1), step, dataformats='HWC')
    finally:
        writer.close()


def class_tags(result: EvaluationResult, chosen: list[int]) -> dict[int, str]:
    """Tags by class number: the name where TensorBoard takes it as it is; a slash would begin a group."""
    return {c: ' '.join(result.classes[c].split()).replace('/', '∕') or str(c) for c in chosen}


def _fitted(image: np.ndarray) -> np.ndarray:
    """The image in a grey square of `_SIDE`, so that several stand side by side."""
    from PIL import Image

    small = Image.fromarray(image)
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    square = Image.new('RGB', (_SIDE, _SIDE), (128, 128, 128))
    square.paste(small, ((_SIDE - small.width) // 2, (_SIDE - small.height) // 2))
    return np.asarray(square)
