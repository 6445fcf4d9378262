"""Plain formulas to test against: loops over all candidate thresholds, in Python numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import torch

#: tp, fp, positives, negatives -> how good.
Value = Callable[[int, int, int, int], float]


def column(scores: torch.Tensor, targets: torch.Tensor, c: int) -> list[tuple[float, int]]:
    """Score and label of every image whose label of class c is known."""
    pairs = zip(scores[:, c].float().tolist(), targets[:, c].tolist())
    return [(score, label) for score, label in pairs if label >= 0]


def counts_at(pairs: list[tuple[float, int]], threshold: float) -> tuple[int, int, int, int]:
    """tp, fp, positives, negatives where score >= threshold decides."""
    tp = sum(label for score, label in pairs if score >= threshold)
    fp = sum(1 - label for score, label in pairs if score >= threshold)
    positives = sum(label for _, label in pairs)
    return tp, fp, positives, len(pairs) - positives


def candidates(pairs: list[tuple[float, int]]) -> list[float]:
    """Every threshold in [0, 1] that decides differently from the others."""
    return sorted({score for score, _ in pairs} | {1.0})


def best_value(pairs: list[tuple[float, int]], value: Value) -> float:
    """The highest value over all thresholds."""
    return max(value(*counts_at(pairs, threshold)) for threshold in candidates(pairs))


def f_beta(beta: float) -> Value:
    def value(tp: int, fp: int, positives: int, negatives: int) -> float:
        whole = tp + fp + beta**2 * positives
        return (1 + beta**2) * tp / whole if whole else 0.0

    return value


def divide(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def joint_values(columns: list[list[tuple[float, int]]]) -> Iterator[tuple[float, float]]:
    """OF1 and CF1 in [0, 1] of every combination of thresholds."""
    for thresholds in itertools.product(*map(candidates, columns)):
        found = [counts_at(pairs, threshold) for pairs, threshold in zip(columns, thresholds)]
        tp, fp, positives, _ = (sum(values) for values in zip(*found))
        p = sum(divide(each[0], each[0] + each[1]) for each in found) / len(found)
        r = sum(divide(each[0], each[2]) for each in found) / len(found)
        yield divide(2 * tp, tp + fp + positives), divide(2 * p * r, p + r)


def world(images: int, classes: int, seed: int, spread: float = 0.5, unknown: float = 0.0, rare: float = 0.01):
    """Scores as a model gives them and labels: prevalence from ``rare`` to 0.3; log-odds of a class off by ``spread``.

    Two calls with seeds that agree modulo 1,000 draw other images of the same classes.
    """
    generator = torch.Generator().manual_seed(seed % 1000)
    share = torch.exp(torch.linspace(float(torch.tensor(rare).log()), float(torch.tensor(0.3).log()), classes).double())
    distance = 1.5 + 2.5 * torch.rand(classes, generator=generator).double()
    shift = spread * torch.randn(classes, generator=generator).double()
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(images, classes, generator=generator).double() < share).double()
    noise = torch.randn(images, classes, generator=generator).double()
    odds = distance * (noise + labels * distance) - distance**2 / 2 + (share / (1 - share)).log() + shift
    targets = labels.to(torch.int8)
    if unknown:
        targets[torch.rand(images, classes, generator=generator) < unknown] = -1
    return odds.sigmoid().float(), targets
