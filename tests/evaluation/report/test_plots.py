"""Pictures and TensorBoard events of a report."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import precision_recall_curve
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mlcls.errors import ConfigError, DataError
from mlcls.evaluation.report import plots, tensorboard
from mlcls.evaluation.report.plots import pr_curve, write_plots
from mlcls.evaluation.report.source import ReportSource
from mlcls.evaluation.report.tensorboard import write_tensorboard

from .example import make_example, make_result


def test_curve_against_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 12, 200).astype(np.float32) / 11
    labels = rng.integers(-1, 2, 200).astype(np.int8)
    recall, precision = pr_curve(scores, labels)
    known = labels >= 0
    wanted = precision_recall_curve(labels[known], scores[known])
    assert recall == pytest.approx(wanted[1][-2::-1]) and precision == pytest.approx(wanted[0][-2::-1])


@pytest.mark.parametrize('classes', [1, 7])
def test_five_pictures(tmp_path: Path, classes: int) -> None:
    written = write_plots(tmp_path / 'new', *make_example(200, classes))
    assert [path.name for path in written] == [
        'precision_recall.png',
        'reliability.png',
        'scores.png',
        'f1.png',
        'thresholds.png',
    ]
    for path in written:
        pixels = np.asarray(Image.open(path).convert('RGB'))
        assert min(pixels.shape[:2]) > 150
        edge = np.concatenate([pixels[:, :2].reshape(-1, 3), pixels[:, -2:].reshape(-1, 3), pixels[-2:].reshape(-1, 3)])
        assert (edge > 200).all(), 'something is cut off at the edge'
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50, 'nothing is drawn'


def test_names_that_mean_something_to_matplotlib(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    result, source = make_example(60, 2)
    object.__setattr__(result, 'classes', ('$x_{', '狐' * 60))
    write_plots(tmp_path, result, source)
    assert not [str(warning.message) for warning in recwarn if 'Glyph' in str(warning.message)]


def test_no_class_with_positives(tmp_path: Path) -> None:
    result = make_result(np.full((5, 2), 0.3, np.float32), np.zeros((5, 2), np.int8))
    source = ReportSource('', list('abcde'), lambda row: None, [], [0.5, 0.5])
    assert len(write_plots(tmp_path, result, source)) == 5
    write_tensorboard(tmp_path / 'events', result, source)


def test_errors(tmp_path: Path) -> None:
    result, source = make_example(30)
    (tmp_path / 'file').write_text('')
    with pytest.raises(DataError, match=r'file: the plots cannot be written \(.+\)'):
        write_plots(tmp_path / 'file', result, source)
    with pytest.raises(DataError, match=r'file: TensorBoard events cannot be written \(.+\)'):
        write_tensorboard(tmp_path / 'file', result, source)
    wrong = make_example(30, thresholds=[0.5])[1]
    for write in (write_plots, write_tensorboard):
        with pytest.raises(ConfigError, match='a report needs one threshold for each of the 6 classes, got 1'):
            write(tmp_path / 'x', result, wrong)


def test_no_state_is_left_behind(tmp_path: Path) -> None:
    """matplotlib is imported when something is drawn, pyplot never, and settings stay as they were."""
    code = (
        'import sys; sys.path.insert(0, sys.argv[1]); import mlcls.evaluation.report as r\n'
        "names = ('matplotlib', 'PIL', 'jinja2', 'tensorboard', 'scipy', 'sklearn')\n"
        'print([name for name in names if name in sys.modules])\n'
        'from report.example import make_example\n'
        'import matplotlib; before = list(matplotlib.rcParams["font.family"])\n'
        'r.write_plots(sys.argv[2], *make_example(40, 2))\n'
        "print('matplotlib.pyplot' in sys.modules, matplotlib.rcParams['font.family'] == before)\n"
    )
    folder = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, '-c', code, folder, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.split('\n')[:2] == ['[]', 'False True']


def test_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorboard, 'MAX_CLASSES', 3)
    result, source = make_example(200, 6)
    object.__setattr__(result, 'classes', ('a/b', *result.classes[1:]))
    write_tensorboard(tmp_path, result, source, step=7)
    events = EventAccumulator(str(tmp_path), size_guidance={'tensors': 0, 'histograms': 0, 'images': 0})
    events.Reload()
    tags = events.Tags()
    assert len([tag for tag in tags['tensors'] if tag.startswith('precision-recall/')]) == 3
    assert 'precision-recall/a∕b' in tags['tensors'], 'a slash of a name begins no group'
    histograms = [tag for tag in tags['histograms'] if tag.startswith('scores of ')]
    assert len(histograms) == 6
    positives = events.Histograms('scores of positives/a∕b')[0]
    assert positives.step == 7 and positives.histogram_value.num == int((result.targets[:, 0] == 1).sum())
    assert {tag.split('/')[0] for tag in tags['images']} == {'false positives', 'false negatives', 'uncertain'}
    assert events.Images('uncertain/a∕b')[0].height == 224
    assert {tag for tag in tags['scalars']} == {
        f'report/{name}' for name in ('CP', 'CR', 'CF1', 'OP', 'OR', 'OF1', 'macro_F1')
    }
    assert plots.MAX_PANELS == 20
