"""A training run that is tried: one batch of each phase, and what the whole will take."""

from __future__ import annotations

import math
import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mlcls.apis.finding_batch_size import peak_memory
from mlcls.apis.settings import real_launcher
from mlcls.apis.training import TrainFlags, apply_flags, prepare_config
from mlcls.errors import ConfigError, DataError

if TYPE_CHECKING:
    from mmengine.config import Config

    from mlcls.engine import Runner

#: Steps that are timed after the first one, if that does not take longer than this.
_STEPS, _SECONDS = 20, 10.0
#: Steps that are timed after the first one, however long they take.
_LEAST = 3
#: The same of an evaluation.
_EVAL_BATCHES, _EVAL_SECONDS = 5, 5.0
#: Share of the disk that may be filled before it is called tight.
_TIGHT = 0.9


@dataclass(frozen=True)
class PhaseReport:
    """One phase: training, validation or test.

    Args:
        batches: Batches of an epoch, or of an evaluation.
        tensors: Name to ``'uint8 (64, 3, 224, 224)'``, of a batch as the loader gives it.
        first_seconds: The first batch: waiting for it, and the step.
        seconds: Median of the next ones, waiting included; of the first where there is no other.
        wait_seconds: Median of the waiting in it.
    """

    batches: int
    tensors: dict[str, str]
    first_seconds: float
    seconds: float
    wait_seconds: float

    @property
    def expected_seconds(self) -> float:
        """For all batches."""
        return self.first_seconds + max(0, self.batches - 1) * self.seconds


@dataclass(frozen=True)
class DryRunReport:
    """What a dry run has found. ``str()`` makes the table.

    Args:
        work_dir: Where the run would write.
        device: Where it was tried.
        train: The training epoch.
        val: A validation; None without one.
        test: A test; None without one.
        parameters: Numbers in the network.
        trained: Those of them that are trained in the first epoch.
        memory: Most bytes taken: on a GPU by tensors, on a CPU by the process; None where the system does not say.
        memory_total: Bytes of the GPU; None on a CPU.
        epochs: Epochs that remain.
        validations: Validations that remain.
        checkpoint_bytes: Size of a checkpoint.
        kept_bytes: Size of all that is kept in the end, and of the file being written.
        free_bytes: Free space where the work folder is or would be; None where that cannot be told.
        notes: What else should be known.
    """

    work_dir: str
    device: str
    train: PhaseReport
    val: PhaseReport | None
    test: PhaseReport | None
    parameters: int
    trained: int
    memory: int | None
    memory_total: int | None
    epochs: int
    validations: int
    checkpoint_bytes: int
    kept_bytes: int
    free_bytes: int | None
    notes: list[str] = field(default_factory=list)

    @property
    def run_seconds(self) -> float:
        """Expected time of the whole run, validations included, checkpoints and metrics not."""
        first = self.train.first_seconds - self.train.seconds  # of the first epoch alone: compiling, caches
        training = first + self.epochs * self.train.batches * self.train.seconds
        return max(0.0, training) + (0 if self.val is None else self.validations * self.val.expected_seconds)

    @property
    def fits(self) -> bool:
        """Whether the disk has room for what will be kept."""
        return self.free_bytes is None or self.kept_bytes <= self.free_bytes

    def __str__(self) -> str:
        return describe(self)


def dry_run(
    config: str | Path, flags: TrainFlags = TrainFlags(), options: Mapping[str, Any] | None = None
) -> DryRunReport:
    """Try a training: build all of it, train for a few steps, score a batch of the validation and of the test data.

    Nothing is written into the work folder; logs go to a temporary one, and to no service that the config names.

    Args:
        config: Path of the config file.
        flags: As of the training.
        options: Overrides of single settings, dotted keys to values.

    Raises:
        UserError: What the training itself would be ended by.
    """
    if real_launcher(flags.launcher) != 'none':
        raise ConfigError('--dry-run tries one process: start it without a launcher (python tools/train.py ...)')
    if flags.amp:
        options = {'optim_wrapper.type': 'AmpOptimWrapper', **(options or {})}
    cfg = prepare_config(config, options)
    if cfg.get('train_dataloader') is None:
        raise ConfigError(f'{config}: has no train_dataloader, optim_wrapper and train_cfg; nothing to train')
    apply_flags(cfg, flags)
    work_dir = Path(cfg.work_dir)
    asked = {key: cfg.get(key) for key in ('work_dir', 'visualizer', 'vis_backends')}
    with tempfile.TemporaryDirectory(prefix='mlcls_dry_run_') as folder:
        _keep_out(cfg, folder, work_dir)
        from mlcls.engine import Runner
        from mlcls.registry import RUNNERS

        kind = RUNNERS.get(cfg.get('runner_type', 'Runner'))
        if not issubclass(kind, Runner):
            raise ConfigError(f'runner_type: {kind.__name__} is not derived from the Runner of mlcls.engine')
        runner = kind.from_cfg(cfg)
        runner.cfg.update(asked)  # which is compared with a checkpoint's, and saved in one
        with runner.closing():
            return _try_run(runner, work_dir)


def _keep_out(cfg: Config, folder: str, work_dir: Path) -> None:
    """Let the run write to another folder, and nowhere else."""
    if cfg.get('resume') and not cfg.get('load_from'):
        from mlcls.engine.checkpoint import find_good

        cfg.load_from = str(find_good(work_dir, print))
    cfg.work_dir = folder
    cfg.vis_backends = None
    cfg.visualizer = dict(type='Visualizer', vis_backends=[])


def _try_run(runner: Runner, work_dir: Path) -> DryRunReport:
    found: list[DryRunReport] = []
    # All that comes before the first step is done by the runner itself, as in a training; only the loop is another.
    loop: Any = runner.build_train_loop(runner._train_loop)
    runner._train_loop = loop
    loop.run = lambda: found.append(_probe(runner, work_dir))
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    runner.train()
    return found[0]


def _probe(runner: Runner, work_dir: Path) -> DryRunReport:
    """Run the phases, in place of the training loop."""
    from mlcls.engine.checkpoint import unwrap

    loop: Any = runner.train_loop
    runner.call_hook('before_train')
    runner.call_hook('before_train_epoch')
    train = _try_training(runner)
    weights = list(unwrap(runner.model).parameters())
    counts = sum(weight.numel() for weight in weights), sum(each.numel() for each in weights if each.requires_grad)
    size = _checkpoint_bytes(runner)
    epochs = max(0, loop.max_epochs - loop.epoch)
    kept = _kept_bytes(runner, size, epochs, train.batches)
    val = None if runner.val_loop is None else _try_scoring(runner, runner.val_loop)
    test = None
    if runner._test_loop is not None:
        runner._test_loop = runner.build_test_loop(runner._test_loop)
        test = _try_scoring(runner, runner._test_loop)
    on_gpu = runner.device.type == 'cuda'
    return DryRunReport(
        work_dir=str(work_dir),
        device=torch.cuda.get_device_name() if on_gpu else f'CPU, {torch.get_num_threads()} threads',
        train=train,
        val=val,
        test=test,
        parameters=counts[0],
        trained=counts[1],
        memory=torch.cuda.max_memory_allocated() if on_gpu else peak_memory(),
        memory_total=torch.cuda.get_device_properties(runner.device).total_memory if on_gpu else None,
        epochs=epochs,
        validations=_validations(loop) if val is not None else 0,
        checkpoint_bytes=size,
        kept_bytes=kept,
        free_bytes=free_space(work_dir),
    )


class _Enough(Exception):
    """Ends an epoch when there is enough to see."""


class _Watch:
    """In the place of hooks: times steps, looks at the first batch, and ends the epoch."""

    def __init__(self, runner: Runner) -> None:
        self.tensors: dict[str, str] = {}
        self.times: list[tuple[float, float]] = []  # waited, and in all
        self._cuda = runner.device.type == 'cuda'
        self._began = self._ended = self._got = time.perf_counter()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self._got = time.perf_counter()
        self.tensors = self.tensors or shapes(data_batch)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if self._cuda:
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.times.append((self._got - self._ended, now - self._ended))
        self._ended = now
        if 'stop' in runner.agreement.wishes:
            raise KeyboardInterrupt
        more = len(self.times) - 1
        if more >= _STEPS or (more >= _LEAST and now - self._began > _SECONDS):
            raise _Enough


def _try_training(runner: Runner) -> PhaseReport:
    """The beginning of an epoch, without the run's hooks: they would log, save and show what nobody asked for."""
    loop: Any = runner.train_loop
    hooks, watch = runner._hooks, _Watch(runner)
    runner._hooks, runner._of_step = [watch], {}  # type: ignore[list-item]
    state = loop.epoch, loop.iter, loop.batches_done
    try:
        loop.run_epoch()
    except _Enough:
        pass
    finally:
        runner._hooks, runner._of_step = hooks, {}
    loop.take_up(*state)
    if not watch.times:
        raise DataError('train_dataloader gives no batch')
    return _phase(len(loop.dataloader), watch.tensors, watch.times)


@torch.no_grad()
def _try_scoring(runner: Runner, loop: Any) -> PhaseReport:
    """The first batches of an evaluation, up to its evaluator."""
    from mlcls.engine.dataloader import order_of
    from mlcls.engine.prefetch import prefetched

    runner.model.eval()
    loop.evaluator.prepare(len(order_of(loop.dataloader)))
    tensors: dict[str, str] = {}
    times: list[tuple[float, float]] = []
    began = ended = time.perf_counter()
    for batch in prefetched(loop.dataloader, runner.device):
        got = time.perf_counter()
        if batch is None:
            continue
        tensors = tensors or shapes(batch)
        with torch.autocast(loop.device_type, loop.dtype, enabled=loop.dtype is not None):
            output = loop._score(batch)
        loop.evaluator.process(output['scores'], output['targets'], output['index'])
        if runner.device.type == 'cuda':
            torch.cuda.synchronize()
        now = time.perf_counter()
        times.append((got - ended, now - ended))
        ended = now
        if 'stop' in runner.agreement.wishes:
            raise KeyboardInterrupt
        if len(times) > _EVAL_BATCHES or (len(times) > 1 and now - began > _EVAL_SECONDS):
            break
    if not times:
        raise DataError(f'{loop.stage}_dataloader gives no batch: none of its images can be used')
    return _phase(len(loop.dataloader), tensors, times)


def _phase(batches: int, tensors: dict[str, str], times: list[tuple[float, float]]) -> PhaseReport:
    rest = times[1:] or times
    return PhaseReport(
        batches=batches,
        tensors=tensors,
        first_seconds=times[0][1],
        seconds=statistics.median(total for _, total in rest),
        wait_seconds=statistics.median(wait for wait, _ in rest),
    )


def shapes(batch: Mapping[str, Any] | None) -> dict[str, str]:
    """Type and shape of each tensor of a batch."""
    return {
        name: f'{str(value.dtype).removeprefix("torch.")} {tuple(value.shape)}'
        for name, value in (batch or {}).items()
        if isinstance(value, torch.Tensor)
    }


class _Counter:
    """A file that keeps nothing but its length."""

    def __init__(self) -> None:
        self.size = 0

    def write(self, content: Any) -> int:
        length = memoryview(content).nbytes
        self.size += length
        return length

    def flush(self) -> None:
        """Nothing is held back."""


def _checkpoint_bytes(runner: Runner) -> int:
    from mlcls.engine.checkpoint import as_data, make_payload

    file: Any = _Counter()
    torch.save(as_data(make_payload(runner, runner.epoch + 1, runner.iter)), file)
    return file.size


def _kept_bytes(runner: Runner, size: int, epochs: int, batches: int) -> int:
    """What `CheckpointHook` will keep, with the file that is being written before an old one goes."""
    from mlcls.engine.checkpoint import unwrap
    from mlcls.engine.hooks import CheckpointHook

    total = 0
    for hook in runner.hooks:
        if not isinstance(hook, CheckpointHook):
            continue
        weights = sum(value.numel() * value.element_size() for value in unwrap(runner.model).state_dict().values())
        files = kept_files(hook.interval, hook.max_keep_ckpts, epochs if hook.by_epoch else epochs * batches)
        files += bool(hook.minutes) and hook.by_epoch
        bests = len(hook.save_best)
        total += (files + bests + 1) * size + (bests * weights if hook.safetensors else 0)
    return total


def kept_files(interval: int, keep: int, length: int) -> int:
    """How many checkpoints are there in the end.

    Args:
        interval: Epochs, or steps, between two; -1 writes only the last.
        keep: How many are kept; -1 keeps all.
        length: Epochs, or steps, of the run.
    """
    written = 1 if interval < 0 else math.ceil(length / interval)
    return written if keep < 0 else min(written, keep)


def _validations(loop: Any) -> int:
    """How many are due in the epochs that remain, without what changes the interval on the way."""
    due = (
        epoch >= loop.val_begin and (epoch % loop.val_interval == 0 or epoch == loop.max_epochs)
        for epoch in range(loop.epoch + 1, loop.max_epochs + 1)
    )
    return sum(due)


def free_space(folder: Path) -> int | None:
    """Free bytes on the disk of a folder that need not exist; None where that cannot be told."""
    folder = folder.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def describe(report: DryRunReport) -> str:
    """The table."""
    rows: list[tuple[str, str]] = [('device', report.device)]
    for name, phase in (('training', report.train), ('validation', report.val), ('test', report.test)):
        if phase is None:
            rows.append((name, 'none'))
            continue
        rows.append((name, f'{phase.batches} batch(es) ' + ('an epoch' if name == 'training' else 'in all')))
        rows += [(f'  {key}', text) for key, text in phase.tensors.items()]
        waits = f', {_seconds(phase.wait_seconds)} of it waiting for data'
        rows.append(
            ('  time a batch', f'{_seconds(phase.seconds)}{waits} (the first: {_seconds(phase.first_seconds)})')
        )
    rows.append(('parameters', f'{report.parameters:,}, of which {report.trained:,} are trained'))
    if report.memory is None:
        rows.append(('memory', 'not told by this system'))
    elif report.memory_total is None:
        rows.append(('memory', f'{_size(report.memory)} at most, of the whole process without loader workers'))
    else:
        rows.append(('memory', f'{_size(report.memory)} at most, of {_size(report.memory_total)} on the GPU'))
    epoch = replace(report.train, first_seconds=report.train.seconds).expected_seconds
    rows.append(('an epoch', f'about {_duration(epoch)}'))
    if report.val is not None:
        rows.append(('a validation', f'about {_duration(report.val.expected_seconds)}'))
    count = f'{report.epochs} epoch(s)' + (f', {report.validations} validation(s)' if report.val else '')
    rows.append(('the whole run', f'about {_duration(report.run_seconds)}: {count}'))
    rows.append(('a checkpoint', _size(report.checkpoint_bytes)))
    rows.append(('disk', _disk_words(report)))
    width = max(len(name) for name, _ in rows)
    lines = [f'{name:<{width}}  {text}' for name, text in rows]
    return '\n'.join(['dry run: nothing was written, and the weights are forgotten', '', *lines, *report.notes])


def _disk_words(report: DryRunReport) -> str:
    needs = f'{_size(report.kept_bytes)} of checkpoints will be kept in {report.work_dir}'
    if report.free_bytes is None:
        return f'{needs}; how much is free cannot be told'
    free = f'{_size(report.free_bytes)} are free'
    if not report.fits:
        return (
            f'NOT ENOUGH: {needs}, {free}: lower default_hooks.checkpoint.max_keep_ckpts, or choose another --work-dir'
        )
    tight = '; that is tight' if report.kept_bytes > _TIGHT * report.free_bytes else ''
    return f'{needs}, {free}{tight}'


def _seconds(value: float) -> str:
    return f'{1000 * value:.1f} ms' if value < 1 else f'{value:.2f} s'


def _size(value: float) -> str:
    for unit in ('B', 'KiB', 'MiB'):
        if value < 1024:
            return f'{value:.0f} {unit}'
        value /= 1024
    return f'{value:.1f} GiB'


def _duration(seconds: float) -> str:
    """Two units at most: ``'3 h 20 min'``."""
    if seconds < 60:
        return f'{seconds:.1f} s'
    minutes = round(seconds / 60)
    days, hours, minutes = minutes // 1440, minutes % 1440 // 60, minutes % 60
    if days:
        return f'{days} d {hours} h'
    return f'{hours} h {minutes} min' if hours else f'{minutes} min'
