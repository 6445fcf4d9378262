"""What TensorBoard shows beside scalars, read back by TensorBoard's own reader."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from mlcls.apis import train
from mlcls.engine.hooks import TensorBoardHook
from mlcls.engine.hooks.tensorboard import add_pr_curves, image_grid, summary_writer
from mlcls.engine.random_state import seed_step
from mlcls.engine.vis_backends import TensorboardVisBackend, visualizer_config
from mlcls.errors import ConfigError
from mlcls.fileio import read_checkpoint


def events(folder: Path) -> Any:
    """Everything in the event files of a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder), size_guidance={'images': 0, 'tensors': 0})
    accumulator.Reload()
    return accumulator


@pytest.mark.parametrize('kind', ['mixup', 'plain'])
def test_a_run_is_shown_and_not_changed(tiny_config: Path, tmp_path: Path, kind: str) -> None:
    """Curves, images, settings and graph are in the events, and the weights are those of a run without them."""
    mixed = {'model.data_preprocessor.batch_augments': dict(augments=dict(type='Mixup', alpha=0.8))}
    options = {'train_cfg.max_epochs': 2, 'param_scheduler.T_max': 2, **(mixed if kind == 'mixup' else {})}
    hook = dict(type='TensorBoardHook', images=5, graph=kind == 'plain')
    off = dict(type='TensorBoardHook', images=0, pr_curves=0, hparams=False)
    with_hook, without = (
        train(
            tiny_config,
            options={**options, 'default_hooks.tensorboard': settings, 'work_dir': str(tmp_path / name)},
        )
        for name, settings in (('with', hook), ('without', off))
    )
    a, b = (read_checkpoint(run / 'epoch_2.pth')['state_dict'] for run in (with_hook, without))
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)

    assert events(next(without.glob('*/vis_data'))).Tags()['tensors'] == ['config/text_summary']
    found = events(next(with_hook.glob('*/vis_data')))
    curves = [tag for tag in found.Tags()['tensors'] if tag.startswith('precision-recall/')]
    assert sorted(curves) == ['precision-recall/blue', 'precision-recall/green', 'precision-recall/red']
    assert [event.step for event in found.Tensors('precision-recall/red')] == [1, 2]
    (picture,) = found.Images('training batch')
    assert (picture.width, picture.height) == (3 * 32 + 2 * 2, 2 * 32 + 2)  # five images of 32 pixels
    assert bool(found.Tags()['graph']) == (kind == 'plain')

    settings = hparams_of(found)
    assert settings['lr'] == pytest.approx(0.05) and settings['batch_size'] == 8 and settings['epochs'] == 2
    assert (settings['optimizer'], settings['backbone']) == ('SGD', 'ResNet 18')
    assert settings['loss'] == 'CrossEntropyLoss'
    assert {'multi-label/mAP', 'multi-label/CF1'} <= metrics_of(found) <= set(found.Tags()['scalars'])


def test_numbers_of_a_line_are_one_event_and_read_as_many(tmp_path: Path) -> None:
    backend = TensorboardVisBackend(str(tmp_path))
    for step in (10, 20):
        given = {'loss': step / 4, 'lr': torch.tensor(0.5), 'count': 3, 'share': np.float32(0.25), 'note': 'no number'}
        backend.add_scalars(given, step=step, file_path='not used')
    backend.add_scalar('multi-label/mAP', 71.5, step=20)
    backend.close()
    found = events(tmp_path)
    assert set(found.Tags()['scalars']) == {'loss', 'lr', 'count', 'share', 'multi-label/mAP'}
    assert [(event.step, event.value) for event in found.Scalars('loss')] == [(10, 2.5), (20, 5.0)]
    assert [found.Scalars(name)[-1].value for name in ('lr', 'count', 'share')] == [0.5, 3.0, 0.25]
    assert len({event.wall_time for name in ('loss', 'lr', 'share') for event in found.Scalars(name)}) == 2


def hparams_of(found: Any) -> dict[str, Any]:
    from tensorboard.plugins.hparams import plugin_data_pb2

    content = found.SummaryMetadata('_hparams_/session_start_info').plugin_data.content
    data = plugin_data_pb2.HParamsPluginData.FromString(content)
    return {name: getattr(value, value.WhichOneof('kind')) for name, value in data.session_start_info.hparams.items()}


def metrics_of(found: Any) -> set[str]:
    from tensorboard.plugins.hparams import plugin_data_pb2

    content = found.SummaryMetadata('_hparams_/experiment').plugin_data.content
    data = plugin_data_pb2.HParamsPluginData.FromString(content)
    return {info.name.tag for info in data.experiment.metric_infos}


def result_of(scores: torch.Tensor, targets: torch.Tensor, classes: list[str]) -> SimpleNamespace:
    positives = (targets == 1).sum(0).tolist()
    return SimpleNamespace(scores=scores, targets=targets, classes=classes, positives=positives)


def test_precision_and_recall_are_right_and_unknown_labels_left_out(tmp_path: Path) -> None:
    """Counted by hand at one threshold; the class with most positives is the one that is kept."""
    from torch.utils.tensorboard import SummaryWriter

    scores = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.2, 0.4], [0.95, 0.6]]).half()
    targets = torch.tensor([[1, 0], [0, 0], [1, 0], [1, 0], [-1, 1]], dtype=torch.int8)
    with SummaryWriter(str(tmp_path)) as writer:
        add_pr_curves(writer, result_of(scores, targets, ['a/b', 'c']), 1, step=7)
    found = events(tmp_path)
    (tag,) = found.Tags()['tensors']
    assert tag == 'precision-recall/a∕b'  # a slash would begin a group
    (event,) = found.Tensors(tag)
    table = np.frombuffer(event.tensor_proto.tensor_content, np.float32)
    if not len(table):
        table = np.array(event.tensor_proto.float_val, np.float32)
    true, false, _, missed, precision, recall = table.reshape(6, -1)[:, 63]  # threshold 63/126 = 0.5
    assert (event.step, true, false, missed) == (7, 2, 1, 1)
    assert precision == pytest.approx(2 / 3) and recall == pytest.approx(2 / 3)


def test_a_class_without_positives_has_no_curve() -> None:
    written = []
    writer = SimpleNamespace(add_pr_curve=lambda tag, *rest: written.append(tag))
    targets = torch.tensor([[1, 0, 1], [0, 0, 1], [0, -1, 0]], dtype=torch.int8)
    add_pr_curves(writer, result_of(torch.rand(3, 3), targets, ['one', 'none', 'two']), 20, 1)
    assert written == ['precision-recall/two', 'precision-recall/one']


def test_grid_places_images_row_by_row_and_makes_large_ones_small() -> None:
    images = torch.arange(1, 6, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 3, 4, 6).clone()
    grid = image_grid(images)
    assert grid.shape == (2 * 4 + 2, 3 * 6 + 4, 3)
    assert grid[0, 0, 0] == 1 and grid[3, 8, 2] == 2 and grid[0, -1, 1] == 3 and grid[6, 0, 0] == 4
    assert (grid[6:, -6:] == 255).all() and (grid[4:6] == 255).all()  # the place of a sixth, and the gap
    assert image_grid(torch.full((1, 3, 1024, 512), 200, dtype=torch.uint8)).shape == (256, 128, 3)


class Refusing:
    """A run whose hook must not touch anything."""

    epoch = iter = 0

    def __init__(self, visualizer: Any) -> None:
        self.visualizer = visualizer
        self.val_loop = SimpleNamespace(result=result_of(torch.rand(2, 1), torch.ones(2, 1, dtype=torch.int8), ['a']))

    @property
    def model(self) -> Any:
        raise AssertionError('the model was looked at')

    optim_wrapper = model


def test_the_grid_is_what_the_network_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not another draw of the batch augmentations; and the draws that follow are as without the hook."""
    from mlcls.models.preprocessor import ClsDataPreprocessor

    mix = dict(augments=dict(type='Mixup', alpha=0.8))
    prepare = ClsDataPreprocessor(mean=[60, 70, 80], std=[50, 60, 70], batch_augments=mix)
    batch = {
        'inputs': torch.randint(256, (6, 3, 8, 8), dtype=torch.uint8),
        'targets': torch.ones(6, 2, dtype=torch.int8),
        'index': torch.arange(6),
    }
    shown: list[np.ndarray] = []
    writer = SimpleNamespace(add_image=lambda tag, image, *_, **__: shown.append(image))
    monkeypatch.setattr('mlcls.engine.hooks.tensorboard.summary_writer', lambda _: writer)
    model = SimpleNamespace(data_preprocessor=prepare)
    runner = SimpleNamespace(model=model, visualizer=None, seed=3, iter=11, rank=0)
    hook = TensorBoardHook(images=4)
    seed_step(3, 11, 0)
    seen = prepare(batch, True)['inputs']
    torch.rand(3)  # dropout of the step
    state = torch.get_rng_state()
    for number in range(2):
        hook.after_train_iter(runner, number, batch, {})
    assert torch.equal(torch.get_rng_state(), state)
    (grid,) = shown  # once
    assert np.array_equal(grid, image_grid(prepare.restore(seen[:4])).numpy())
    assert not np.array_equal(grid, image_grid(batch['inputs'][:4]).numpy())


def test_without_tensorboard_nothing_happens() -> None:
    from mmengine.visualization import LocalVisBackend

    for backends in ({}, {'local': LocalVisBackend('unused')}):
        runner = Refusing(SimpleNamespace(_vis_backends=backends))
        assert summary_writer(runner.visualizer) is None
        hook = TensorBoardHook(graph=True)
        hook.after_train_iter(runner, 0, {'inputs': None}, {})
        hook.after_val_epoch(runner, {})
        hook.after_train(runner)


def test_other_ranks_write_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('mlcls.engine.hooks.tensorboard.is_main_process', lambda: False)
    monkeypatch.setattr('mlcls.engine.hooks.tensorboard.summary_writer', lambda _: pytest.fail('a writer was made'))
    runner = Refusing(None)
    hook = TensorBoardHook()
    hook.after_train_iter(runner, 0, {'inputs': None}, {})
    hook.after_val_epoch(runner, {})
    hook.after_train(runner)


def test_a_full_disk_is_one_warning(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('mlcls.engine.hooks.tensorboard.summary_writer', lambda _: SimpleNamespace(add_pr_curve=full))
    runner = Refusing(None)
    runner.logger = logging.getLogger('full')
    hook = TensorBoardHook()
    with caplog.at_level('WARNING'):
        hook.after_val_epoch(runner, {})
        hook.after_val_epoch(runner, {})
    assert [record.getMessage() for record in caplog.records] == [
        'TensorBoard events cannot be written (No space left on device); training goes on without them'
    ]


def test_a_full_device_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The step itself may have been made in halves; pictures are not worth a run."""

    class Full:
        restore = None

        def __call__(self, *_: Any) -> None:
            raise torch.OutOfMemoryError

    monkeypatch.setattr('mlcls.engine.hooks.tensorboard.summary_writer', lambda _: SimpleNamespace())
    model, logger = SimpleNamespace(data_preprocessor=Full()), logging.getLogger('device')
    runner = SimpleNamespace(model=model, logger=logger, visualizer=None, seed=None, iter=0, rank=0)
    with caplog.at_level('WARNING'):
        TensorBoardHook().after_train_iter(runner, 0, {'inputs': None}, {})
    assert 'no memory is left for pictures of the first batch' in caplog.text


def test_a_network_that_cannot_be_traced_trains_on(caplog: pytest.LogCaptureFixture) -> None:
    class Odd(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.BatchNorm2d(3)
            self.norm.eval()  # kept fixed, in a network that trains
            self.data_preprocessor = lambda batch, training: batch
            self.data_preprocessor.restore = lambda images: images

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            raise RuntimeError('not this way\nmore')

    model = Odd().train()
    model.norm.eval()
    runner = SimpleNamespace(model=model, iter=0, logger=logging.getLogger('odd'))
    with caplog.at_level('WARNING'):
        TensorBoardHook(images=0, graph=True)._add_batch(
            writer_that_traces(), runner, {'inputs': torch.rand(2, 3, 4, 4)}
        )
    assert 'the network cannot be traced for graph=True (not this way)' in caplog.text
    assert model.training and not model.norm.training


def writer_that_traces() -> Any:
    return SimpleNamespace(add_graph=lambda model, inputs, **_: model(inputs))


@pytest.mark.parametrize('settings', [dict(pr_curves=-1), dict(images=-3), dict(images=2.5), dict(pr_curves=True)])
def test_numbers_that_cannot_be(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r'TensorBoardHook: \w+ must be a whole number, 0 or more'):
        TensorBoardHook(**settings)


def test_the_hook_does_not_import_tensorboard() -> None:
    code = "import sys, mlcls.engine.hooks.tensorboard; sys.exit('tensorboard' in sys.modules)"
    subprocess.run([sys.executable, '-c', code], check=True)


MLFLOW = dict(type='MLflowVisBackend', exp_name='birds', tracking_uri='file:mlruns')
WANDB = dict(type='WandbVisBackend', init_kwargs=dict(project='birds'))


@pytest.mark.parametrize('backend', [MLFLOW, WANDB], ids=['mlflow', 'wandb'])
def test_configs_of_other_backends_are_accepted(tiny_config: Path, backend: dict[str, Any]) -> None:
    from mlcls.apis.training import prepare_config

    backends = [dict(type='LocalVisBackend'), backend]
    assert prepare_config(tiny_config, {'vis_backends': backends}).vis_backends == backends
    visualizer = dict(type='UniversalVisualizer', vis_backends=backends)
    assert prepare_config(tiny_config, {'visualizer': visualizer}).visualizer == visualizer
    wrong = {**backend, 'exp_nam': 'birds'}
    with pytest.raises(ConfigError, match='exp_nam'):
        prepare_config(tiny_config, {'vis_backends': [wrong]})


@pytest.mark.parametrize('backend, package', [(MLFLOW, 'mlflow'), (WANDB, 'wandb')], ids=['mlflow', 'wandb'])
@pytest.mark.parametrize('place', ['visualizer', 'vis_backends'])
def test_a_missing_package_is_said_at_once(
    monkeypatch: pytest.MonkeyPatch, backend: dict[str, Any], package: str, place: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # absent, whether installed or not
    backends = [dict(type='LocalVisBackend'), backend]
    given = {place: dict(type='Visualizer', vis_backends=backends) if place == 'visualizer' else backends}
    with pytest.raises(ConfigError, match=f'{backend["type"]} needs the package {package}.*pip install {package}'):
        visualizer_config(**given)


def test_backends_of_a_run() -> None:
    assert [each['type'] for each in visualizer_config()['vis_backends']] == [
        'LocalVisBackend',
        'TensorboardVisBackend',
    ]
    one = dict(type='LocalVisBackend')
    assert visualizer_config(None, one) == {'type': 'Visualizer', 'vis_backends': [one]}
    chosen = visualizer_config(dict(type='UniversalVisualizer'), [one])
    assert chosen == {'type': 'UniversalVisualizer', 'vis_backends': [one]}
    assert chosen['vis_backends'][0] is not one  # mmengine writes into it
    assert visualizer_config(dict(type='Visualizer', vis_backends=[]), [one])['vis_backends'] == []  # none is an answer
    built = object()
    assert visualizer_config(built) is built
