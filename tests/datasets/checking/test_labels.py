"""Findings about labels: each defect alone is found by its code, and chance is not."""

from __future__ import annotations

import numpy as np
import pytest

from mlcls.datasets.checking.labels import MIN_POSITIVES, differing_classes, label_findings
from mlcls.datasets.checking.names import plain_name, similar_names
from mlcls.datasets.checking.report import Finding
from mlcls.datasets.checking.splits import Split

from .conftest import labels_with, make_split


def found(*splits: Split) -> dict[str, Finding]:
    return {finding.code: finding for finding in label_findings(splits)}


def spread(counts: list[int], images: int, seed: int = 0) -> np.ndarray:
    """Labels of which each image has at least one, so that nothing but the counts can be remarked."""
    dense = labels_with(counts, images)
    dense[~(dense == 1).any(axis=1), 0] = 1
    return dense


GOOD = spread([60, 40, 30, 25], 100)


def test_good_labels_give_nothing() -> None:
    assert found(make_split('train', GOOD), make_split('val', GOOD)) == {}
    assert found(make_split('data', GOOD)) == {}
    assert label_findings([]) == []


def without(column: int, dense: np.ndarray = GOOD) -> np.ndarray:
    dense = dense.copy()
    dense[:, column] = 0
    dense[~dense.any(axis=1), (column + 1) % dense.shape[1]] = 1
    return dense


def test_a_class_that_no_split_shows() -> None:
    findings = found(make_split('train', without(2)), make_split('val', without(2)))
    assert set(findings) == {'class-absent'}
    assert findings['class-absent'].items == ('c2',) and findings['class-absent'].severity == 'warning'
    assert '1 class is shown by no image, so nothing can be learnt about it' in findings['class-absent'].message


def test_a_class_that_one_split_lacks() -> None:
    findings = found(make_split('train', GOOD), make_split('val', without(2)))
    assert findings['class-not-in-split'].split == 'val'
    assert '1 class is shown by no image here, so it cannot be measured' in findings['class-not-in-split'].message
    findings = found(make_split('train', without(2)), make_split('val', GOOD))
    assert findings['class-not-in-train'].items == ('c2',) and findings['class-not-in-train'].split == 'train'


@pytest.mark.parametrize('positives, told', [(1, True), (MIN_POSITIVES - 1, True), (MIN_POSITIVES, False)])
def test_classes_too_rare_to_measure(positives: int, told: bool) -> None:
    dense = spread([60, 40, 30, 0], 100)
    dense[:positives, 3] = 1
    findings = found(make_split('train', np.repeat(dense, 10, axis=0)), make_split('test', dense))
    assert ('class-rare-in-split' in findings) == told
    if told:
        assert findings['class-rare-in-split'].items == (f'c3 ({positives})',)
        assert 'too few to measure it' in findings['class-rare-in-split'].message


def test_the_rarest_classes_come_first_and_are_counted() -> None:
    dense = spread([80, *range(1, 10), *range(1, 10)], 100)
    finding = found(make_split('train', np.repeat(dense, 10, axis=0)), make_split('val', dense))['class-rare-in-split']
    assert finding.count == 18 and len(finding.items) == 10
    assert [item.split('(')[1] for item in finding.items[:4]] == ['1)', '1)', '2)', '2)']
    assert 'with 1 image, a recall of 50% is known to within 45 points' in finding.message


def test_a_class_in_every_image() -> None:
    dense = GOOD.copy()
    dense[:, 1] = 1
    assert found(make_split('train', GOOD), make_split('val', dense))['class-always-present'].split == 'val'
    findings = found(make_split('train', dense), make_split('val', dense))
    assert findings['class-constant'].items == ('c1',)
    assert 'class-always-present' not in findings  # which says less


@pytest.mark.parametrize('empty, severity', [(3, 'note'), (60, 'warning')])
def test_images_without_labels(empty: int, severity: str) -> None:
    dense = spread([60, 60, 60, 60], 100)
    dense[:empty] = 0
    finding = found(make_split('data', dense))['images-without-labels']
    assert (finding.severity, finding.count, finding.items[0]) == (severity, empty, 'data/0.jpg')
    assert finding.message.startswith(f'{empty} images ({empty}.0%) without any label')


def test_unknown_labels() -> None:
    dense = GOOD.copy()
    dense[:70, 3] = -1
    findings = found(make_split('train', dense), make_split('val', dense))
    finding = findings['labels-unknown']
    assert finding.split == 'val' and finding.severity == 'warning' and finding.items == ('c3 (70% unknown)',)
    assert '17.5% of the labels are unknown; of 1 class, half or more' in finding.message
    dense[:, 3] = GOOD[:, 3]
    dense[:3, 3] = -1
    assert found(make_split('val', dense))['labels-unknown'].severity == 'note'


def test_ids_counted_from_one() -> None:
    dense = np.concatenate([np.zeros((100, 1), np.int8), GOOD], axis=1)
    findings = found(make_split('train', dense, ('background', 'a', 'b', 'c', 'd')))
    assert findings['ids-off-by-one'].items == ('background',)
    assert "class 0 ('background') never occurs and all others do: are ids counted from 1?" in (
        findings['ids-off-by-one'].message
    )
    assert 'ids-off-by-one' not in found(make_split('train', dense, source='csv'))  # it has no ids


def test_a_first_class_that_is_missing_among_rare_ones_is_no_shift() -> None:
    dense = np.concatenate([np.zeros((100, 1), np.int8), GOOD], axis=1)
    dense[np.flatnonzero(dense[:, 4])[2:], 4] = 0
    assert 'ids-off-by-one' not in found(make_split('train', dense))


@pytest.mark.parametrize('shift, words', [(1, 'one higher'), (-1, 'one lower')])
def test_one_split_counts_its_ids_otherwise(shift: int, words: str) -> None:
    counts = [300, 10, 150, 40, 90, 20, 60]
    dense = spread(counts, 400)
    findings = found(make_split('train', dense), make_split('val', np.roll(dense, shift, axis=1)))
    told = findings['ids-off-by-one']
    assert 'frequencies fit' in told.message
    three = label_findings(
        [make_split('train', dense), make_split('val', dense), make_split('test', np.roll(dense, shift, 1))]
    )
    assert [(each.split, words in each.message) for each in three if each.code == 'ids-off-by-one'] == [('test', True)]


def test_other_frequencies_alone_are_no_shift() -> None:
    dense, other = spread([300, 10, 150, 40, 90, 20, 60], 400), spread([100, 90, 80, 70, 60, 50, 40], 400)
    findings = found(make_split('train', dense), make_split('val', other))
    assert 'ids-off-by-one' not in findings and 'frequencies-differ' in findings


def test_frequencies_that_differ() -> None:
    findings = found(make_split('train', spread([900, 100, 300], 1000)), make_split('val', spread([180, 80, 60], 200)))
    finding = findings['frequencies-differ']
    assert finding.split == 'train, val' and finding.items == ('c1 (10.0% in train, 40.0% in val)',)


def test_random_splits_have_the_same_frequencies() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        dense = (rng.random((600, 40)) < rng.uniform(0.02, 0.5, 40)).astype(np.int8)
        order = rng.permutation(600)
        findings = found(make_split('train', dense[order[:400]]), make_split('val', dense[order[400:]]))
        assert 'frequencies-differ' not in findings and 'ids-off-by-one' not in findings


def test_a_class_that_implies_another_and_two_that_are_one() -> None:
    dense = GOOD.copy()
    dense[dense[:, 3] == 1, 2] = 1
    finding = found(make_split('data', dense))['class-implies-class']
    assert finding.severity == 'note' and finding.items[0].startswith("'c3' with 'c2' (25 of 25; ")
    dense[:, 2] = dense[:, 3]
    findings = found(make_split('data', dense))
    assert findings['classes-identical'].items == ("'c2' and 'c3' (25 images)",)
    assert 'class-implies-class' not in findings


def test_classes_that_differ_between_splits() -> None:
    first = make_split('train', GOOD, ('a', 'b', 'c', 'd'))
    assert differing_classes([first, make_split('val', GOOD, ('a', 'b', 'c', 'd'))]) == []
    (finding,) = differing_classes([first, make_split('val', GOOD, ('a', 'c', 'b', 'd'))])
    assert finding.severity == 'error'
    assert "the same names in another order: class 1 is 'c' here, 'b' there" in finding.message
    (finding,) = differing_classes([first, make_split('val', GOOD, ('a', 'b', 'c', 'e'))])
    assert finding.items == ('e', 'd') and "only one of them has 'e', 'd'" in finding.message


@pytest.mark.parametrize(
    'a, b',
    [('cat', 'Cats'), ('traffic light', 'traffic_light'), ('Bus', 'buses'), ('café', 'cafe'), ('city', 'cities')],
)
def test_names_that_differ_in_spelling(a: str, b: str) -> None:
    ((same, message, pair),) = similar_names(['dog', a, 'house', b])
    assert same and pair == (a, b) and 'differ in spelling alone' in message


@pytest.mark.parametrize('a, b', [('umbrella', 'umbrela'), ('elephant', 'elefhant'), ('scissor', 'scixssor')])
def test_names_that_differ_in_a_letter(a: str, b: str) -> None:
    ((same, message, pair),) = similar_names(['dog', a, 'house', b])
    assert not same and set(pair) == {a, b} and 'differ in one letter' in message


@pytest.mark.parametrize(
    'names',
    [('cat', 'cot'), ('class 1', 'class 2'), ('type_10', 'type_11'), ('male', 'female'), ('glass', 'gas'), ('+', '-')],
)
def test_names_that_are_two_things(names: tuple[str, str]) -> None:
    assert list(similar_names(names)) == []


def test_the_names_of_coco_are_all_different(test_data: object) -> None:
    names = (test_data / 'datasets/coco_tiny/labels.csv').read_text().split('\n', 1)[0].split(',')[2:]  # type: ignore[operator]
    assert len(names) == 80 and list(similar_names(names)) == []
    assert plain_name('Traffic-Lights') == plain_name('traffic light') == 'trafficlight'
