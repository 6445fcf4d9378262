"""A made-up evaluation with pictures: what the tests of the report, and a person who tries the page, feed it with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from mlcls.evaluation.report.payload import build_payload
from mlcls.evaluation.report.source import ReportSource
from mlcls.evaluation.result import EvaluationResult

NAMES = ('person', 'traffic light', 'dog', 'bicycle', 'red "bus", old', 'naïve <b>cup</b>', 'Kuchen', '狐')


def class_names(count: int) -> tuple[str, ...]:
    """Names with spaces, quotes, commas, markup and other scripts; further ones are numbered."""
    return tuple(NAMES[c] if c < len(NAMES) else f'class {c:04d}' for c in range(count))


def make_labels(images: int, classes: int, rng: np.random.Generator) -> np.ndarray:
    """Labels of 1 and 0, int8 (N, C): frequent to rare classes, each image with a theme that some of them share."""
    theme = rng.integers(0, 3, images)
    frequency = np.geomspace(0.45, max(0.04, 3 / images), classes)
    odds = np.where(theme[:, None] == np.arange(classes) % 3, 1.8, 0.6) * frequency
    labels = (rng.random((images, classes)) < np.minimum(odds, 0.95)).astype(np.int8)
    labels[rng.integers(0, images, classes), np.arange(classes)] = 1
    return labels


def make_scores(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Scores of a fair model, float32 (N, C): better at some classes; takes class 1 for 2, and sees 3 where 0 is."""
    images, classes = labels.shape
    skill = np.linspace(5.5, 2.5, classes)
    seen = labels.copy()
    for c in range(2, classes, 5):
        taken = (labels[:, c - 1] == 1) & (rng.random(images) < 0.35)
        seen[taken, c - 1], seen[taken, c] = 0, 1
    for c in range(3, classes, 5):
        seen[(labels[:, c - 3] == 1) & (rng.random(images) < 0.25), c] = 1
    logits = skill * (seen - 0.55) + rng.normal(0, 1.1, labels.shape)
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


def make_result(scores: np.ndarray, labels: np.ndarray, classes: tuple[str, ...] | None = None) -> EvaluationResult:
    """An evaluation of these scores, without metrics of its own."""
    classes = class_names(labels.shape[1]) if classes is None else classes
    absent = tuple(name for name, count in zip(classes, (labels == 1).sum(axis=0)) if not count)
    return EvaluationResult(
        {}, {}, torch.from_numpy(scores), torch.from_numpy(labels), classes, len(labels), [], absent
    )


def picture(labels: np.ndarray, number: int, side: int = 160) -> np.ndarray:
    """A patch of colour for each label that is present, on noise; uint8 RGB, wide and high in turn."""
    rng = np.random.default_rng(number)
    height, width = (side, side * 3 // 4) if number % 2 else (side * 3 // 4, side)
    image = rng.integers(60, 110, (height, width, 3), dtype=np.uint8)
    for c in np.flatnonzero(labels == 1):
        x, y = rng.integers(0, width - 40), rng.integers(0, height - 40)
        image[y : y + 36, x : x + 36] = np.random.default_rng(1000 + c).integers(0, 256, 3)
    return image


def make_example(images: int = 240, classes: int = 6, seed: int = 0, **changes: Any) -> tuple[EvaluationResult, Any]:
    """A result and its source: some labels unknown, some in error, one picture in 40 missing.

    Args:
        images: N.
        classes: C.
        seed: Of everything random.
        **changes: Arguments of ``ReportSource`` to replace.
    """
    rng = np.random.default_rng(seed)
    truth = make_labels(images, classes, rng)
    scores = make_scores(truth, rng)
    labels = truth.copy()
    labels[(truth == 1) & (rng.random(truth.shape) < 0.04)] = 0
    labels[rng.random(truth.shape) < 0.02] = -1
    given: dict[str, Any] = {
        'title': 'Made-up street scenes',
        'names': [f'photos/{number:05d}.jpg' for number in range(images)],
        'load_image': lambda row: None if row % 40 == 39 else picture(truth[row], row),
        'facts': [('checkpoint', 'best.pth'), ('backbone', 'ResNet-50')],
        'thresholds': np.linspace(0.35, 0.62, classes).astype(np.float32).tolist(),
        'intervals': {'multi-label/CF1': (61.0, 88.0), 'multi-label/mAP': (70.0, 92.0)},
        'data_hash': '0123456789abcdef',
        **changes,
    }
    return make_result(scores, labels), ReportSource(**given)


def example_payload(images: int = 240, classes: int = 6, seed: int = 0, **changes: Any) -> dict[str, Any]:
    """The payload of `make_example`."""
    return build_payload(*make_example(images, classes, seed, **changes))
