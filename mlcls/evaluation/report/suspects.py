"""Labels that the scores contradict so clearly that the label may be the one that is wrong.

A class by itself is a question of yes and no. As in confident learning (Northcutt, Jiang and Chuang, "Confident
Learning: Estimating Uncertainty in Dataset Labels", 2021), a score is not judged by itself but against what the model
usually gives to images with that label, since a model is surer of some classes than of others: t1 is the mean score of
the labels of 1 of a class, t0 that of its labels of 0. Suspected are

- a *missing* label: 0, but the model decides that it is present, with a score of at least t1 or one half, whichever is
  lower;
- a *wrong* label: 1, but the model decides against it, with a score of at most t0.

How strong a suspicion is: how far the score lies beyond t1 (or below t0) in log odds. Differences of the scores
themselves, the usual margin, put hesitant classes first, whose t1 is low.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from .histograms import column_blocks

#: Suspects in a report, and how many of these are kept for wrong labels where there are that many.
MAX_SUSPECTS, ROOM_FOR_WRONG = 2000, 500
#: Labels of 1 that a class needs: the mean score of fewer says little.
MIN_POSITIVES = 3
CSV_HEADER = 'image,class,label,score,kind'
#: The label that a row of the CSV file gives to each kind.
CORRECTED = {'missing': 1, 'wrong': 0}
_EDGE = 1e-7


class Suspects(NamedTuple):
    """Suspects of one kind, the strongest first; equal ones by class and row.

    ``rows``: int64 (n,), rows of the score matrix. ``columns``: int64 (n,), classes. ``scores``: float32 (n,).
    ``strength``: float32 (n,), in log odds.
    """

    rows: np.ndarray
    columns: np.ndarray
    scores: np.ndarray
    strength: np.ndarray


def find_suspects(
    scores: torch.Tensor, targets: torch.Tensor, thresholds: Sequence[float], limit: int = MAX_SUSPECTS
) -> tuple[Suspects, Suspects]:
    """Suspected missing and wrong labels, at most ``limit`` together. Labels that are unknown are never suspected.

    Args:
        scores: (N, C), float32 or float16, in [0, 1]; of images that the model was not trained on.
        targets: int8 (N, C) of 1, 0 and -1.
        thresholds: One a class.
        limit: Number of suspects, at most.
    """
    home = np.asarray(thresholds, np.float64).astype(np.float32)
    missing, wrong = _empty(), _empty()
    for numbers, block, labels in column_blocks(scores, targets, range(scores.shape[1])):
        high, low = _mean(block, labels == 1, MIN_POSITIVES), _mean(block, labels == 0, 1)
        decided = block >= torch.from_numpy(home[numbers])[:, None]
        found = (labels == 0) & decided & (block >= high.clamp(max=0.5)) & high.isfinite()
        missing = _strongest(missing, _taken(numbers, block, found, high, 1), limit)
        found = (labels == 1) & ~decided & (block <= low)
        wrong = _strongest(wrong, _taken(numbers, block, found, low, -1), limit)
    kept = min(len(missing.rows), max(limit - ROOM_FOR_WRONG, limit - len(wrong.rows)))
    return _first(missing, kept), _first(wrong, limit - kept)


def suspects_csv(suspects: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> str:
    """The suspects of a payload as CSV that ``tools/prepare_data.py --corrections`` applies.

    Args:
        suspects: ``payload['suspects']``, or those of them that a person confirmed.
        classes: Class names.

    Returns:
        A header and a line each of image, class, corrected label, score and kind.
    """
    lines = [CSV_HEADER]
    for entry in suspects:
        name, kind = _quoted(entry['name']), entry['kind']
        lines.append(f'{name},{_quoted(classes[entry["class"]])},{CORRECTED[kind]},{entry["score"]},{kind}')
    return '\n'.join(lines) + '\n'


def _mean(block: torch.Tensor, taken: torch.Tensor, least: int) -> torch.Tensor:
    """Mean of what is taken of each row, float32 (n, 1); NaN where that is less than ``least``."""
    count = taken.sum(dim=1, keepdim=True)
    total = torch.where(taken, block, 0).sum(dim=1, keepdim=True, dtype=torch.float64)
    return torch.where(count >= least, total / count, torch.nan).float()


def _taken(numbers: np.ndarray, block: torch.Tensor, found: torch.Tensor, usual: torch.Tensor, sign: int) -> Suspects:
    """What was found in a block of classes."""
    places, rows = (array.numpy() for array in found.nonzero(as_tuple=True))
    scores = block.numpy()[places, rows]
    strength = sign * (_log_odds(scores) - _log_odds(usual.numpy()[places, 0]))
    return Suspects(rows, numbers[places], scores, strength)


def _strongest(first: Suspects, second: Suspects, limit: int) -> Suspects:
    merged = Suspects(*(np.concatenate(pair) for pair in zip(first, second)))
    order = np.lexsort((merged.rows, merged.columns, -merged.strength))[:limit]
    return Suspects(*(values[order] for values in merged))


def _first(suspects: Suspects, count: int) -> Suspects:
    return Suspects(*(values[:count] for values in suspects))


def _empty() -> Suspects:
    return Suspects(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.float32))


def _log_odds(scores: np.ndarray) -> np.ndarray:
    inside = np.clip(scores.astype(np.float64), _EDGE, 1 - _EDGE)
    return np.log(inside / (1 - inside)).astype(np.float32)


def _quoted(text: str) -> str:
    return f'"{text.replace(chr(34), chr(34) * 2)}"' if any(sign in text for sign in '",\r\n') else text
