"""When a label is missed, which one was decided instead."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .pairs import PairTables

#: Confusions in a report, the images that one of them needs, and its least score.
MAX_CONFUSIONS, MIN_COUNT, MIN_SCORE = 300, 2, 2.0


@dataclass(frozen=True)
class Confusion:
    """One class missed and another decided wrongly, in the same images.

    Args:
        missed: Number of the class that is present and not decided.
        instead: Number of the class that is absent and decided.
        count: Images where both happen.
        of: Images where ``missed`` is missed.
        expected: What the count would be if false alarms for ``instead`` were as frequent there as everywhere.
        score: How far the count is above that; see `find_confusions`.
    """

    missed: int
    instead: int
    count: int
    of: int
    expected: float
    score: float


def find_confusions(tables: PairTables, limit: int = MAX_CONFUSIONS) -> list[Confusion]:
    """Confusions that are more frequent than chance, the clearest first.

    A class with many false alarms is decided wrongly beside every missed label. So each count k is compared with
    e = (misses) x (false alarms) / (images), which it would be if the two had nothing to do with each other, and ranked
    by the signed root of the likelihood ratio of two Poisson rates, ``sqrt(2 (k log(k / e) - (k - e)))``: about the
    number of standard errors, and reliable for small counts too (Dunning, "Accurate Methods for the Statistics of
    Surprise and Coincidence", 1993).

    Args:
        tables: From `count_pairs`.
        limit: Number of confusions, at most.

    Returns:
        Those of at least two images, above chance, with a score of at least 2.
    """
    keys, counts = tables.swapped.items()
    keys, counts = keys[counts >= MIN_COUNT], counts[counts >= MIN_COUNT]
    missed, instead = keys // tables.classes, keys % tables.classes
    images = max(int(tables.used.sum()), 1)
    expected = tables.missed[missed] * (tables.alarms[instead] / images)
    ratio = counts * np.log(counts / expected) - (counts - expected)
    scores = np.where(counts > expected, np.sqrt(2 * np.maximum(ratio, 0)), 0)
    order = np.lexsort((keys, -counts, -scores))[:limit]
    return [
        Confusion(
            int(missed[place]),
            int(instead[place]),
            int(counts[place]),
            int(tables.missed[missed[place]]),
            float(expected[place]),
            float(scores[place]),
        )
        for place in order.tolist()
        if scores[place] >= MIN_SCORE
    ]
