"""How good a split is, against counts by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mlcls.datasets.splitting import measure_split
from mlcls.structures import LabelMatrix

LABELS = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [1, 0, 0], [0, 0, -1], [0, 0, 0]], np.int8)
PARTS = np.array([0, 0, 0, 1, 1, 1])


def test_by_hand():
    quality = measure_split(LabelMatrix.from_dense(LABELS), PARTS, [0.5, 0.5])
    assert quality.sizes.tolist() == quality.wanted.tolist() == [3, 3]
    assert quality.counts.tolist() == [[2, 2, 0], [1, 0, 0]]
    assert quality.missing == [(1, 1)]
    # Odds of the first class: 2/1 and 1/2 against 3/3; of the second: 2/1 and 0 against 2/4.
    assert quality.labels_distribution == pytest.approx((1 + 0.5 + 1.5 + 0.5) / 6)
    np.testing.assert_allclose(quality.deviations, [[1 / 3, 1, np.nan], [-1 / 3, -1, np.nan]])
    assert quality.mean_deviation == pytest.approx((1 / 3 + 1 + 1 / 3 + 1) / 4)


def test_a_perfect_split():
    labels = LabelMatrix.from_dense(np.array([[1], [0], [1], [0]], np.int8))
    quality = measure_split(labels, np.array([0, 0, 1, 1]), [0.5, 0.5])
    assert quality.labels_distribution == quality.mean_deviation == 0 and quality.shortcomings('ab', ['x']) == []


def test_a_class_that_all_images_of_a_part_show_has_finite_odds():
    labels = LabelMatrix.from_dense(np.array([[1], [1], [1], [0]], np.int8))
    assert np.isfinite(measure_split(labels, np.array([0, 0, 1, 1]), [0.5, 0.5]).labels_distribution)


def test_what_is_not_given_is_said():
    labels = np.zeros((12, 4), np.int8)
    labels[:2, 0] = labels[:6, 1] = labels[6:, 2] = 1
    parts = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 2])
    groups = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 3])
    quality = measure_split(LabelMatrix.from_dense(labels), parts, [1, 1, 1], groups)
    assert quality.shortcomings(['train', 'val', 'test'], ['a', 'b', 'c', 'd']) == [
        "part 'val' has 7 images instead of 4, because groups stay whole",
        "part 'test' has 1 image instead of 4, because groups stay whole",
        "class 'a' is not in 'val', 'test': 2 images in 1 group cannot serve 3 parts",
        "class 'b' is not in 'test': 6 images in 2 groups cannot serve 3 parts",
        "class 'c' is not in 'train': 6 images in 2 groups cannot serve 3 parts",
        "class 'd' has no images",
    ]
    alone = measure_split(LabelMatrix.from_dense(labels), parts, [1, 1, 1]).shortcomings('xyz', 'abcd')
    assert "class 'a' is not in 'y', 'z': 2 images cannot serve 3 parts" in alone
    assert "class 'b' is not in 'z': no way was found to give every part one" in alone
