"""What is advised, and when."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from mlcls.datasets import ClassBalancedDataset
from mlcls.datasets.checking.advice import advice
from mlcls.datasets.checking.report import Finding
from mlcls.datasets.checking.splits import splits_of_datasets

from .conftest import DataSet, labels_with, make_split

GOOD = make_split('train', labels_with([60, 40, 30], 100))


@pytest.mark.parametrize(
    'codes, words',
    [
        (['image-damaged'], "Mend, replace or leave out the files that cannot be used. Until then missing='skip'"),
        (['near-identical-across-splits'], '--keep-duplicates-together: it keeps look-alikes in one split.'),
        (['class-not-in-split'], 'tools/split_data.py: it shares the classes out evenly.'),
        (['file-in-two-splits', 'frequencies-differ'], 'in one split and shares the classes out evenly.'),
        (['identical-conflict'], 'one of each pair is labelled wrongly'),
    ],
)
def test_findings_lead_to_advice(codes: list[str], words: str) -> None:
    (sentence,) = advice([Finding('warning', code, '') for code in codes], [GOOD])
    assert words in sentence


def test_notes_lead_to_none() -> None:
    assert advice([Finding('note', 'image-grey', ''), Finding('note', 'reader-remark', '')], [GOOD]) == []
    assert advice([], []) == []


def test_a_split_where_nothing_is_found() -> None:
    (sentence,) = advice([Finding('error', 'image-missing', '', 'train', count=100)], [GOOD])
    assert sentence == 'No image of a split was found, so first set the folder of the images right.'
    (sentence,) = advice([Finding('error', 'image-missing', '', 'train', count=99)], [GOOD])
    assert sentence.startswith('Mend')


@pytest.mark.parametrize('rare, told', [(1, False), (2, True)])
def test_a_split_in_which_most_classes_are_rare(rare: int, told: bool) -> None:
    val = make_split('val', labels_with([9] * rare + [40] * (3 - rare), 100))
    sentences = advice([], [GOOD, val])
    assert any("Do not choose a model by 'val'" in sentence for sentence in sentences) == told


def test_oversampling_is_advised_with_a_threshold_that_works(clean: DataSet) -> None:
    train = make_split('train', labels_with([500, 200, 12], 1000))
    (sentence,) = advice([], [train])
    assert 'The most frequent class of train has 42 times as many images as the rarest' in sentence
    threshold = float(re.search(r'threshold of ([0-9.]+)\)', sentence)[1])  # type: ignore[index]

    class Inner:
        labels = train.annotations.labels

    assert ClassBalancedDataset(Inner(), threshold).repeat_factors.max() > 1.2
    assert advice([], [replace(train, balanced=True)]) == []
    assert advice([], [make_split('train', labels_with([500, 51], 1000))]) == []  # less than 10 times
    assert advice([], [make_split('train', np.zeros((5, 2), np.int8))]) == []


def test_a_wrapper_that_balances_is_seen(clean: DataSet) -> None:
    inner = {'type': 'MultiLabelDataset', 'ann_file': 'train.json', 'data_root': str(clean.write())}
    wrapped = {'type': 'ClassBalancedDataset', 'oversample_thr': 0.1, 'dataset': inner}
    found = splits_of_datasets({'train': wrapped, 'val': inner})
    assert [split.balanced for split in found.splits] == [True, False]
