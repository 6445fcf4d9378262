"""The payload as a whole: agrees with the measures, fits its room, and says what it leaves out."""

from __future__ import annotations

import base64
import io
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from mlcls.errors import ConfigError, DataError
from mlcls.evaluation.functional import confusion_counts, decide, precision_recall_f1
from mlcls.evaluation.report import payload as module
from mlcls.evaluation.report import thumbnails
from mlcls.evaluation.report.payload import build_payload, gallery_classes, steps_for
from mlcls.evaluation.report.source import ReportSource
from mlcls.evaluation.report.thumbnails import short, shown_labels, thumbnail
from mlcls.evaluation.report.words import class_notes

from .example import class_names, example_payload, make_example, make_result, picture
from .test_histograms import decode


@pytest.fixture(scope='module')
def example() -> tuple[Any, ReportSource, dict[str, Any]]:
    result, source = make_example()
    return result, source, build_payload(result, source)


def test_it_is_plain_data(example: tuple[Any, ReportSource, dict[str, Any]]) -> None:
    payload = example[2]
    assert json.loads(json.dumps(payload, allow_nan=False)) == payload
    words = ['title', 'facts', 'protocol', 'data_hash', 'calibration', 'num_images', 'notes']
    numbers = ['headline', 'steps', 'histograms', 'home', 'classes', 'reliability']
    lists = ['images', 'galleries', 'maps', 'confusions', 'pairs', 'suspects']
    assert set(payload) == {*words, *numbers, *lists}


def test_counts_at_every_threshold_of_the_page(example: tuple[Any, ReportSource, dict[str, Any]]) -> None:
    result, _, payload = example
    steps = payload['steps']
    bins = decode(payload['histograms'], 2 * len(result.classes), steps + 1).reshape(-1, 2, steps + 1)
    for k in range(steps + 1):
        wanted = confusion_counts(decide(result.scores, float(np.float32(k / steps))), result.targets)
        assert bins[:, 0, k:].sum(axis=1).tolist() == wanted.tp.tolist()
        assert bins[:, 1, k:].sum(axis=1).tolist() == wanted.fp.tolist()


def test_numbers_at_home(example: tuple[Any, ReportSource, dict[str, Any]]) -> None:
    result, source, payload = example
    counts = confusion_counts(decide(result.scores, list(source.thresholds)), result.targets)
    assert payload['home'] == [list(row) for row in zip(*(value.tolist() for value in counts[:3]))]
    measures = precision_recall_f1(*counts[:3])
    values = {row['name']: row['value'] for row in payload['headline']}
    for name in ('CP', 'CR', 'CF1', 'OP', 'OR', 'OF1', 'macro_F1'):
        assert values[name] == getattr(measures, name)
    assert [row['threshold'] for row in payload['classes']] == [short(value) for value in source.thresholds]


def test_class_figures_against_scikit_learn(example: tuple[Any, ReportSource, dict[str, Any]]) -> None:
    result, _, payload = example
    aps = []
    for c, row in enumerate(payload['classes']):
        labels = result.targets[:, c].numpy()
        known = labels >= 0
        truth, scores = labels[known], result.scores[known, c].numpy()
        assert (row['positives'], row['negatives']) == (int(truth.sum()), int((1 - truth).sum()))
        assert row['unknown'] == int((~known).sum()) > 0
        aps.append(100 * average_precision_score(truth, scores))
        assert row['ap'] == pytest.approx(aps[-1], abs=1e-3)
        assert row['auroc'] == pytest.approx(100 * roc_auc_score(truth, scores), abs=1e-3)
        assert row['brier'] == pytest.approx(100 * brier_score_loss(truth, scores), abs=1e-3)
        bins = payload['reliability'][c]
        assert len(bins) == 10 and sum(count for count, _, _ in bins) == len(truth)
        error = sum(abs(count * mean - hits) for count, hits, mean in bins if count) / len(truth)
        assert row['ece'] == pytest.approx(100 * error, abs=0.02)
    assert payload['headline'][-1]['value'] == pytest.approx(np.mean(aps))


def test_images_and_what_is_shown_with_them(example: tuple[Any, ReportSource, dict[str, Any]]) -> None:
    result, source, payload = example
    images, names = payload['images'], list(source.names)
    assert len({image['name'] for image in images}) == len(images), 'an image is embedded twice'
    unreadable = 0
    for image in images:
        row = names.index(image['name'])
        labels = result.targets[row].numpy()
        assert image['present'] == np.flatnonzero(labels == 1).tolist()
        assert (
            image['unknown'] == np.flatnonzero(labels == -1).tolist() and image['unknown_count'] == (labels < 0).sum()
        )
        assert {c for c, _ in image['scores']} == set(range(6)), 'six classes all fit'
        scores = [score for _, score in image['scores']]
        assert scores == sorted(scores, reverse=True)
        for c, score in image['scores']:
            assert np.float32(score) == result.scores[row, c].item()
        if image['thumb'] is None:
            unreadable += 1
            assert row % 40 == 39 and image['width'] is None and image['height'] is None
        else:
            small = Image.open(io.BytesIO(base64.b64decode(image['thumb'].removeprefix('data:image/jpeg;base64,'))))
            assert small.format == 'JPEG' and max(small.size) == 112
            assert (image['width'], image['height']) == source.load_image(row).shape[1::-1]
    assert unreadable > 0
    assert f'The pictures of {unreadable} of the {len(images)} images shown cannot be read.' in payload['notes']


def test_galleries_and_suspects_lead_to_their_images(example: tuple[Any, ReportSource, dict[str, Any]]) -> None:
    result, source, payload = example
    names = list(source.names)
    wanted = {'false_positives': 0, 'false_negatives': 1}
    for c, kinds in payload['galleries'].items():
        for kind, entries in kinds.items():
            assert len(entries) <= 12
            for place, score in entries:
                row = names.index(payload['images'][place]['name'])
                label = int(result.targets[row, int(c)])
                assert label == wanted.get(kind, label) and label >= 0
                assert np.float32(score) == result.scores[row, int(c)].item()
    kinds = [entry['kind'] for entry in payload['suspects']]
    assert kinds == sorted(kinds), 'missing labels come first'
    for entry in payload['suspects']:
        row = names.index(entry['name'])
        assert entry['label'] == int(result.targets[row, entry['class']]) == int(entry['kind'] == 'wrong')
        assert payload['images'][entry['image']]['name'] == entry['name']


def test_intervals_only_of_the_same_number() -> None:
    result, source = make_example(images=60)
    value = next(row['value'] for row in build_payload(result, source)['headline'] if row['name'] == 'CF1')
    for own, expected in ((value, (61.0, 88.0)), (value + 1, (None, None))):
        result.metrics['multi-label/CF1'] = own
        (row,) = (row for row in build_payload(result, source)['headline'] if row['name'] == 'CF1')
        assert (row['low'], row['high']) == expected


@pytest.mark.parametrize('limit', [30_000, 60_000, 150_000])
def test_it_keeps_to_its_room(limit: int) -> None:
    payload = example_payload(images=300, max_bytes=limit)
    assert len(json.dumps(payload, separators=(',', ':'))) <= limit
    full = example_payload(images=300)
    assert len(payload['images']) < len(full['images'])
    (note,) = (note for note in payload['notes'] if 'places in the galleries' in note)
    shown = sum(len(entries) for kinds in payload['galleries'].values() for entries in kinds.values())
    total = sum(len(entries) for kinds in full['galleries'].values() for entries in kinds.values())
    assert note.startswith(f'{total - shown} of {total} places in the galleries are left out, to keep the page below ')
    for c, kinds in payload['galleries'].items():
        for kind, entries in kinds.items():
            names = [payload['images'][place]['name'] for place, _ in entries]
            every = [full['images'][place]['name'] for place, _ in full['galleries'][c][kind]]
            assert names == every[: len(names)], 'a gallery has a gap'
    for entry in payload['suspects']:
        assert entry['image'] is None or payload['images'][entry['image']]['name'] == entry['name']


def test_room_is_shared_among_classes_and_kinds() -> None:
    """No class and no kind gets all the room."""
    payload = example_payload(images=300, max_bytes=90_000)
    full = example_payload(images=300)['galleries']
    lengths = [len(payload['galleries'][c][kind]) for c, kinds in full.items() for kind in kinds if kinds[kind]]
    assert len(lengths) > 12 and min(lengths) >= 1 and max(lengths) <= 5


def test_figures_longer_than_the_room_are_kept() -> None:
    payload = example_payload(images=60, max_bytes=100)
    assert payload['images'] == [] and payload['histograms'] and all(e['image'] is None for e in payload['suspects'])


def test_pictures_are_bounded_whatever_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, 'MAX_PICTURES', 10)
    assert len(example_payload(images=80)['images']) == 10


def test_galleries_are_of_the_most_frequent_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, 'MAX_GALLERY_CLASSES', 2)
    payload = example_payload(images=80)
    counts = [row['positives'] for row in payload['classes']]
    chosen = sorted(range(6), key=lambda c: -counts[c])[:2]
    assert set(payload['galleries']) == {str(c) for c in chosen}
    assert 'Galleries are of the 2 classes with the most positives.' in payload['notes']
    assert gallery_classes([{'positives': 3}, {'positives': 9}, {'positives': 3}]) == [1, 0]


def test_many_classes_make_coarser_steps() -> None:
    assert [steps_for(classes) for classes in (1, 1500, 1501, 4000, 9600)] == [400, 400, 200, 200, 100]


def test_many_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a table of pairs holds: the notes say what is not counted."""
    rng = np.random.default_rng(0)
    labels = (rng.random((50, 2000)) < 0.01).astype(np.int8)
    labels[:, 1500:] = -1
    scores = (0.9 * labels.clip(0) + 0.05).astype(np.float16)
    scores[0] = 0.99
    names = [f'{row}.jpg' for row in range(50)]
    source = ReportSource('many', names, lambda row: None, [], [0.5] * 2000)
    payload = build_payload(make_result(scores, labels), source)
    assert payload['steps'] == 200
    assert (
        'Pairs of labels and confusions leave out 1 images with more than 64 labels or decisions.' in payload['notes']
    )
    image = next(image for image in payload['images'] if image['name'] == '1.jpg')
    assert image['unknown_count'] == 500 and len(image['unknown']) <= 12 and len(image['scores']) == 12
    assert payload['images'][0]['thumb'] is None


def test_dropped_pairs_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = SimpleNamespace(
        used=np.ones(3, bool),
        **{name: SimpleNamespace(pruned=name == 'both') for name in ('observed', 'predicted', 'both', 'swapped')},
    )
    assert module._table_notes(tables) == ['Of the pairs of labels, some that occur in a single image are not counted.']


def points(**changes: Any) -> Any:
    given = {
        'objective': 'f1',
        'source': 'fitted on 500 images.',
        'intervals': ((0.2, 0.4),) * 6,
        'notes': ('dog: 3 positives.',),
        'data_hash': 'ffff',
        'calibration': None,
        **changes,
    }
    return SimpleNamespace(**given)


def test_operating_points_are_told() -> None:
    payload = example_payload(images=60, points=points())
    assert ['thresholds', 'objective f1; fitted on 500 images.'] in payload['protocol']
    assert ['calibration', 'none'] in payload['protocol']
    assert payload['classes'][3]['interval'] == [0.2, 0.4] and 'dog: 3 positives.' in payload['notes']
    assert not any('very images' in note for note in payload['notes'])
    same = example_payload(images=60, points=points(data_hash='0123456789abcdef', intervals=()))
    assert same['notes'][0] == 'The thresholds were chosen on these very images, so the figures at them are too good.'
    assert same['classes'][0]['interval'] is None
    assert ['thresholds', 'given, one a class'] in example_payload(images=60)['protocol']


def test_the_protocol_repeats_the_metrics(example: tuple[Any, ReportSource, dict[str, Any]]) -> None:
    result, source = make_example(images=60)
    entry = {'metric': 'ThresholdMetric', 'numbers': 'multi-label/CF1', 'threshold': 'score >= 0.5', 'thr': 0.5}
    result.protocol.append(entry)
    protocol = build_payload(result, source)['protocol']
    assert protocol[-1] == ['ThresholdMetric', 'CF1. threshold: score >= 0.5']
    assert ['thresholds in the page', 'k / 400, k = 0 to 400; counts at each of them are exact'] in protocol
    unknown = int((result.targets == -1).sum())
    assert ['unknown labels (-1)', f'{unknown}, ignored everywhere'] in protocol


def test_absent_classes_and_images_left_out() -> None:
    labels = np.zeros((20, 3), np.int8)
    labels[:, 1], labels[:5, 2] = -1, 1
    result = make_result(np.full((20, 3), 0.25, np.float32), labels)
    object.__setattr__(result, 'left_out', (4, 7))
    source = ReportSource('', [str(row) for row in range(20)], lambda row: None, [], [0.5] * 3, train_counts=[7, 8, 9])
    payload = build_payload(result, source)
    assert payload['notes'][:2] == [
        '2 images could not be used and are in none of the figures.',
        'No positive label in 2 of 3 classes (person, traffic light): these are left out of mAP, and count as 0 in CP, '
        'CR and macro F1.',
    ]
    rows = payload['classes']
    assert [row['train'] for row in rows] == [7, 8, 9]
    assert (rows[0]['ap'], rows[0]['auroc'], rows[1]['ece'], rows[1]['brier']) == (None,) * 4
    assert rows[0]['note'] == 'no positive label: recall and AP are not defined'
    assert rows[1]['note'] == 'no known label' and rows[1]['unknown'] == 20
    assert rows[2]['note'] == 'only 5 positive labels: its figures are uncertain'
    assert payload['reliability'][1] == [[0, 0, None]] * 10
    assert payload['galleries']['1'] == {'false_positives': [], 'false_negatives': [], 'uncertain': []}


def test_notes_of_classes() -> None:
    notes = class_notes(np.array([1, 30, 30]), np.array([5, 0, 5]))
    assert notes == ['only 1 positive label: its figures are uncertain', 'every known label is positive', None]


@pytest.mark.parametrize('shape', [(1, 1), (1, 5), (7, 1)])
def test_one_image_and_one_class(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, shape).astype(np.int8)
    names = [f'{row}.jpg' for row in range(shape[0])]
    source = ReportSource('small', names, lambda row: picture(labels[row], row), [], [0.5] * shape[1])
    payload = build_payload(make_result(rng.random(shape, dtype=np.float32), labels), source)
    json.dumps(payload, allow_nan=False)
    assert payload['num_images'] == shape[0] and len(payload['images']) == shape[0]


def test_sources_that_do_not_fit() -> None:
    result, source = make_example(images=30)

    def changed(**changes: Any) -> ReportSource:
        return make_example(images=30, **changes)[1]

    with pytest.raises(DataError, match='a report needs one name for each of the 30 images, got 2'):
        build_payload(result, changed(names=['a', 'b']))
    with pytest.raises(ConfigError, match='a report needs one threshold for each of the 6 classes, got 1'):
        build_payload(result, changed(thresholds=[0.5]))
    with pytest.raises(ConfigError, match='a report needs one training count for each of the 6 classes, got 0'):
        build_payload(result, changed(train_counts=[]))
    for value in (1.5, float('nan')):
        with pytest.raises(ConfigError, match=f"the threshold of class 'dog' must be between 0 and 1, not {value}"):
            build_payload(result, changed(thresholds=[0.5, 0.5, value, 0.5, 0.5, 0.5]))
    assert source.picture(39) is None


@pytest.mark.parametrize(
    'image',
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        DataError('damaged'),
        OSError('no such file'),
    ],
    ids=['grey', 'alpha', 'float', 'empty', 'user error', 'system error'],
)
def test_pictures_that_cannot_be_used(image: Any) -> None:
    def load(row: int) -> Any:
        if isinstance(image, Exception):
            raise image
        return image

    assert make_example(images=30, load_image=load)[1].picture(0) is None
    payload = example_payload(images=30, load_image=load)
    assert payload['images'] and all(entry['thumb'] is None for entry in payload['images'])


def test_thumbnails_keep_shape_and_size() -> None:
    def size(height: int, width: int) -> tuple[int, int]:
        data = thumbnail(np.zeros((height, width, 3), np.uint8))
        return Image.open(io.BytesIO(base64.b64decode(data.split(',')[1]))).size

    assert size(300, 600) == (112, 56) and size(600, 300) == (56, 112)
    assert size(20, 10) == (10, 20) and size(1, 5000) == (112, 1)


def test_labels_that_are_shown() -> None:
    scores = np.linspace(1, 0, 40, dtype=np.float32)
    labels = np.zeros(40, np.int8)
    labels[[39, 38]] = 1
    thresholds = np.full(40, 2, np.float32)
    thresholds[[30, 31]] = 0
    chosen = shown_labels(scores, labels, thresholds).tolist()
    assert chosen == [0, 1, 2, 3, 4, 5, 6, 7, 30, 31, 38, 39], 'present, decided, and the highest others'


def test_short_scores_read_back() -> None:
    values = [*torch.rand(200).tolist(), 0.0, 1.0, 1e-30]
    assert all(np.float32(short(value)) == np.float32(value) for value in values)
    assert short(np.float32(0.3)) == 0.3 and class_names(10)[9] == 'class 0009'
