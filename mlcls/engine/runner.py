"""mmengine's Runner with loops, logging, evaluation and (from persistence.py) saving and loading of our own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import barrier, master_only
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.model import convert_sync_batchnorm, revert_sync_batchnorm
from mmengine.runner import BaseLoop
from torch import nn
from torch.utils.data import DataLoader

from mlcls.config.schema import HOOK_SLOTS
from mlcls.engine.agreement import Agreement
from mlcls.engine.checkpoint import unwrap
from mlcls.engine.compiling import compile_training
from mlcls.engine.dataloader import batch_size_of, build_dataloader, order_of
from mlcls.engine.distributed import init_distributed, losing_peers
from mlcls.engine.feasibility import check_feasible
from mlcls.engine.log_processor import LogProcessor
from mlcls.engine.logs import FormattedConfig, describe_environment, log_to_file, make_logger
from mlcls.engine.loops import TestLoop
from mlcls.engine.meter import StepMeter
from mlcls.engine.persistence import Persistence
from mlcls.engine.preflight import check_batches, check_head, check_run
from mlcls.engine.run_record import RunRecord, recorded
from mlcls.engine.scale_lr import real_batch_size, scale_lr, scale_schedules
from mlcls.engine.signals import StopSignals
from mlcls.engine.snapshot import Snapshots
from mlcls.engine.train_loop import TrainLoop
from mlcls.engine.vis_backends import visualizer_config
from mlcls.engine.worker_watch import WatchedLoader
from mlcls.engine.writer import CheckpointWriter
from mlcls.errors import ConfigError, RunStopped
from mlcls.evaluation import Evaluator, Rows, build_evaluator
from mlcls.evaluation.operating_points import OperatingPoints
from mlcls.models.fitting import fit_heads, fit_losses, start_biases
from mlcls.registry import LOG_PROCESSORS, MODEL_WRAPPERS, RUNNERS
from mlcls.structures import LabelStatistics


@RUNNERS.register_module()
class Runner(Persistence):
    """Builds and runs what a config describes; arguments of mmengine's Runner.

    What differs: checkpoints are written atomically and read without executing anything in them; evaluation streams
    tensors; training checks that config and data agree before its first step; DDP works without a GPU; the console
    shows what a person needs and the log file everything. ``channels_last = True`` in the config stores convolution
    weights in that format.
    """

    _timestamp: str
    _statistics: LabelStatistics | None = None
    _stored_counts: list[int] | None = None
    #: Thresholds fitted at the last validation, of the weights as they are; None from the next training epoch on.
    operating_points: OperatingPoints | None = None
    #: The same of the weights in training, where averaged ones were validated, too.
    raw_points: OperatingPoints | None = None
    #: What is known of this run, kept in its folder; None outside of a training.
    record: RunRecord | None = None
    model: Any
    param_schedulers: Any
    _train_dataloader: Any
    _test_loop: Any

    def setup_env(self, env_cfg: dict[str, Any]) -> None:
        """As in mmengine, but the process group also starts on a machine without a GPU; and float32 on tensor cores."""
        if self.distributed:
            init_distributed(self.launcher, **env_cfg.get('dist_cfg', {}))
        super().setup_env(env_cfg)
        if env_cfg.get('tf32') is not None:
            torch.set_float32_matmul_precision('high' if env_cfg['tf32'] else 'highest')
            torch.backends.cudnn.allow_tf32 = bool(env_cfg['tf32'])
        self._make_timestamp_unique()
        self._of_step: dict[str, list[Any]] = {}
        self.meter = StepMeter(self.world_size)
        self.agreement = Agreement(('stop', 'save'))
        #: What all ranks have agreed to do between two steps: ``'save'``, ``'stop'``.
        self.decided: set[str] = set()
        self.signals = StopSignals(lambda: self.agreement.wishes.add('stop'))
        self.checkpoint_writer = CheckpointWriter(lambda message: self.logger.warning(message))
        self._snapshots = Snapshots()

    def _make_timestamp_unique(self) -> None:
        # Runs of one process share loggers by name: a second one within a second would write to the first one's file.
        name = self.cfg.get('experiment_name') or (Path(self.cfg.filename).stem if self.cfg.filename else '')
        started, number = self._timestamp, 1
        while MMLogger.check_instance_created('_'.join(part for part in (name, self._timestamp) if part)):
            number += 1
            self._timestamp = f'{started}_{number}'

    def set_randomness(self, seed: int | None, diff_rank_seed: bool = False, deterministic: bool = False) -> None:
        """Seed everything random, on all ranks alike.

        Raises:
            ConfigError: ``diff_rank_seed=True``: what differs between ranks here is keyed by the draw, not streamed.
        """
        if diff_rank_seed:
            raise ConfigError(
                'randomness.diff_rank_seed=True is not available, and not needed: augmentation is keyed by image'
            )
        super().set_randomness(seed, False, deterministic)

    def build_param_scheduler(self, scheduler: Any) -> Any:
        """As in mmengine, for one optimiser.

        Raises:
            ConfigError: Schedulers of several optimisers.
        """
        if isinstance(scheduler, dict) and 'type' not in scheduler:
            raise ConfigError('param_scheduler: several optimisers are not available; give one scheduler or a list')
        built = super().build_param_scheduler(scheduler)
        if getattr(self.optim_wrapper, '_accumulative_counts', 1) > 1:
            self.optim_wrapper._global_step = 0  # else mmengine warns: inside a cycle, schedules step before optimisers
        return built

    def build_logger(self, log_level: int | str = 'INFO', log_file: str | None = None, **kwargs: Any) -> MMLogger:
        """The run's logger; its file is ``<log dir>/<timestamp>.log``."""
        path = Path(log_file or Path(self.log_dir) / f'{self.timestamp}.log')
        return make_logger(self.experiment_name, path, log_level)

    def build_visualizer(self, visualizer: Any = None) -> Any:
        """The sink of scalars; JSON lines and TensorBoard unless the config says otherwise."""
        return super().build_visualizer(visualizer_config(visualizer, self.cfg.get('vis_backends')))

    def _log_env(self, env_cfg: dict[str, Any]) -> None:
        environment = '\n'.join(f'  {key}: {value}' for key, value in describe_environment().items())
        log_to_file(self.logger, f'Environment:\n{environment}\n  seed: {self.seed}, processes: {self.world_size}')
        log_to_file(self.logger, f'Config:\n{FormattedConfig(self.cfg).pretty_text}')
        device = (
            torch.cuda.get_device_name() if torch.cuda.is_available() else f'CPU, {torch.get_num_threads()} thread(s)'
        )
        self.logger.info(f'{self.experiment_name}: seed {self.seed}, {self.world_size} process(es), {device}')

    def register_hooks(
        self, default_hooks: dict[str, Any] | None = None, custom_hooks: list[Any] | None = None
    ) -> None:
        """mmengine's default hooks, the progress bar, the watch for what is not finite, the list of images that cannot
        be used, and what TensorBoard shows beside scalars."""
        ours = {name: {'type': kind} for name, kind in HOOK_SLOTS.items()}
        given = {
            name: {**ours.get(name, {}), **hook} if isinstance(hook, Mapping) else hook
            for name, hook in (default_hooks or {}).items()
        }
        hooks = {**ours, **given}
        # mmengine takes out those of its own that are None.
        super().register_hooks(
            {name: hook for name, hook in hooks.items() if hook or name in _MMENGINE_SLOTS}, custom_hooks
        )

    @property
    def device(self) -> torch.device:
        """Of the network on this rank."""
        return next(unwrap(self.model).parameters()).device

    def build_log_processor(self, log_processor: Any) -> LogProcessor:
        """What makes log lines; ours unless another type of ours is given."""
        return LOG_PROCESSORS.build({'type': 'LogProcessor', **(log_processor or {})})

    def register_hook(self, hook: Any, priority: Any = None) -> None:
        """As in mmengine."""
        super().register_hook(hook, priority)
        self._of_step = {}

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call a method of all hooks that have it; in every step, only of those in which it does something."""
        if fn_name not in _STEP_STAGES:
            super().call_hook(fn_name, **kwargs)
            return
        called = self._of_step.get(fn_name)
        if called is None:
            acting = [hook for hook in self._hooks if not _is_idle(hook, fn_name)]
            called = self._of_step[fn_name] = [getattr(hook, fn_name) for hook in acting if hasattr(hook, fn_name)]
        for method in called:
            method(self, **kwargs)

    # mmengine's look at the type of the loop each time; they are asked for several times a step.
    @property
    def iter(self) -> int:
        """Steps finished."""
        loop = self._train_loop
        return loop._iter if isinstance(loop, TrainLoop) else super().iter

    @property
    def epoch(self) -> int:
        """Epochs finished."""
        loop = self._train_loop
        return loop._epoch if isinstance(loop, TrainLoop) else super().epoch

    def decide(self, at_end: bool = False) -> None:
        """Take up, on all ranks at the same step, what one of them wishes for: ``decided`` has it until it is done.

        Args:
            at_end: The epoch is over: wishes under way are waited for.
        """
        agreed = self.agreement.settle() if at_end else self.agreement.decide()
        if agreed:
            self.decided |= agreed

    @property
    def is_between_steps(self) -> bool:
        """Whether no gradients wait for the rest of their cycle of accumulation."""
        return bool(getattr(self.optim_wrapper, 'is_between_steps', True))

    def check_stop(self) -> None:
        """End an evaluation if this process, which is alone, was asked to stop; several go on to its end.

        Raises:
            RunStopped: It was.
        """
        if 'stop' in self.agreement.wishes and self.world_size == 1:
            raise self.stopped()

    def stopped(self) -> RunStopped:
        """What ends the run after it was asked to stop, once what is being written is on the disk."""
        self._finish_writing()
        name = self.signals.received or 'a wish'
        if self.last_saved is None or self.last_saved[1] != self.iter:
            kept = 'nothing was saved since the last checkpoint'
        else:
            kept = f'everything is in {self.last_saved[0]}'
        words = f'stopped by {name} after iteration {self.iter}; {kept}; to go on, run the same command with --resume'
        return RunStopped(words, self.signals.exit_code)

    def train(self) -> nn.Module:
        """Train to the end; returns the model.

        Raises:
            RunStopped: The process was asked to stop by SIGTERM, SIGUSR1 or Ctrl-C, and has saved.
            UserError: It cannot go on.
        """
        with self.signals, recorded(self) as self.record, losing_peers():
            model = super().train()
            self._finish_writing()
        return model

    def _finish_writing(self) -> None:
        """Wait for what is being written, on all ranks: launchers end all processes when one of them ends."""
        self.checkpoint_writer.close()
        if self.world_size > 1:
            barrier()

    def _maybe_compile(self, target: str) -> None:
        """Compile what the setting ``compile`` names."""
        compile_training(unwrap(self.model), self.optim_wrapper, self.cfg.get('compile'), self.logger)

    def wrap_model(self, model_wrapper_cfg: dict[str, Any] | None, model: nn.Module) -> nn.Module:
        """Move the model to its device and, with several processes, wrap it for DDP."""
        self._fit_to_labels(model)
        if self.cfg.get('channels_last', False):
            model = model.to(memory_format=torch.channels_last)
        model = model.to(get_device())
        if not self.distributed:
            return revert_sync_batchnorm(model)
        on_gpu = torch.cuda.is_available()
        if on_gpu and self.cfg.get('sync_bn'):
            model = convert_sync_batchnorm(model, self.cfg.sync_bn)
        elif not on_gpu:
            model = revert_sync_batchnorm(model)
        return self._distribute(model, model_wrapper_cfg)

    def _distribute(self, model: nn.Module, wrapper_cfg: dict[str, Any] | None, **others: Any) -> nn.Module:
        settings = {'type': 'MMDistributedDataParallel', **(wrapper_cfg or {}), **others}
        defaults: dict[str, Any] = {'module': model}
        if 'DistributedDataParallel' in str(settings['type']):
            defaults['device_ids'] = [torch.cuda.current_device()] if torch.cuda.is_available() else None
            defaults['broadcast_buffers'] = False
            defaults['find_unused_parameters'] = self.cfg.get('find_unused_parameters', False)
        return MODEL_WRAPPERS.build(settings, default_args=defaults)

    def rewrap_model(self) -> None:
        """Wrap the model for DDP anew, after other parameters of it are trained than before; on all ranks together.

        The wrapper notes once which parameters have gradients, and waits for those of each of them.
        """
        if not self.distributed:
            return
        # The weights are equal on all ranks, and states that differ between ranks are to stay as they are.
        self.model = self._distribute(unwrap(self.model), self.cfg.get('model_wrapper_cfg'), init_sync=False)

    def _fit_to_labels(self, model: nn.Module) -> None:
        """Read the training labels, and let losses and heads take from them what the config leaves open."""
        if self._train_dataloader is None:
            return
        if isinstance(self._train_dataloader, dict):
            self._train_dataloader = self.build_dataloader(self._train_dataloader, seed=self.seed)
        dataset = self._train_dataloader.dataset
        if not hasattr(dataset, 'labels'):
            return  # refused by check_run, with the reason
        check_head(model, dataset.metainfo['classes'])
        draws = getattr(order_of(self._train_dataloader), 'draws', getattr(dataset, 'draws', None))
        self._statistics = LabelStatistics(dataset.labels, draws)
        for sentence in [*fit_losses(model, self._statistics), *fit_heads(model, self._statistics)]:
            self.logger.info(sentence)

    @property
    def train_counts(self) -> list[int] | None:
        """Positive images of each class in training, (C,): of the training data or, in a test, of the checkpoint; None
        where neither says."""
        return self._stored_counts if self._statistics is None else self._statistics.labels.counts().tolist()

    def open_test(self) -> TestLoop:
        """Build the test loop and load the weights, so that `collect` or the loop's ``run`` can follow.

        Raises:
            UserError: The data or the checkpoint cannot be used.
        """
        self._test_loop = self.build_test_loop(self._test_loop)
        self.call_hook('before_run')
        self.load_or_resume()
        return self._test_loop

    def collect(self) -> Rows:
        """Score the test data, after `open_test`; no metric is computed."""
        rows = self._test_loop.collect()
        self.call_hook('after_run')
        self.close()
        return rows

    @staticmethod
    def build_dataloader(dataloader: Any, seed: int | None = None, diff_rank_seed: bool = False) -> DataLoader:
        """A loader from its config; see `mlcls.engine.dataloader`."""
        return build_dataloader(dataloader, seed)

    def build_evaluator(self, evaluator: Any) -> Evaluator:  # type: ignore[override]
        """An evaluator from the config of one or several metrics."""
        return build_evaluator(evaluator)

    def build_train_loop(self, loop: BaseLoop | dict[str, Any]) -> BaseLoop:
        """The training loop, by epochs unless another type is given.

        Raises:
            ConfigError: ``by_epoch=False``.
        """
        if isinstance(loop, dict) and (loop.get('by_epoch') is False or loop.get('type') == 'IterBasedTrainLoop'):
            raise ConfigError('train_cfg: training by iterations is not available; set by_epoch=True and max_epochs')
        if isinstance(loop, dict) and 'type' not in loop:
            loop = {'type': 'TrainLoop', **{key: value for key, value in loop.items() if key != 'by_epoch'}}
        built = super().build_train_loop(loop)
        check_batches(self, built.dataloader)
        check_feasible(self, built)
        return built

    def scale_lr(self, optim_wrapper: Any, auto_scale_lr: Any = None) -> None:
        """Scale the learning rates by the number of images that a step sees, if the config says so."""
        if not (auto_scale_lr or {}).get('enable'):
            return
        base = auto_scale_lr.get('base_batch_size')
        size = batch_size_of(self.train_dataloader)
        images = real_batch_size(size, self.world_size, optim_wrapper._accumulative_counts)
        factor = scale_lr(optim_wrapper, base, images)
        self.param_schedulers = scale_schedules(self.param_schedulers, factor)
        self.logger.info(f'learning rates times {factor:g}: a step sees {images} images, they were chosen for {base}')

    def build_val_loop(self, loop: BaseLoop | dict[str, Any]) -> BaseLoop:
        """The validation loop."""
        return super().build_val_loop(_with_type(loop, 'ValLoop'))

    def build_test_loop(self, loop: BaseLoop | dict[str, Any]) -> BaseLoop:
        """The test loop."""
        return super().build_test_loop(_with_type(loop, 'TestLoop'))

    def _init_model_weights(self) -> None:
        """Check that all parts of the run agree, then fill the weights."""
        check_run(self)
        super()._init_model_weights()
        if self._statistics is not None:
            for sentence in start_biases(unwrap(self.model), self._statistics):
                self.logger.info(sentence)

    @master_only
    def dump_config(self) -> None:
        """Keep the resolved config of a training run in its work folder."""
        if self._train_loop is not None:
            name = Path(self.cfg.filename).stem if self.cfg.filename else 'config'
            FormattedConfig(self.cfg).dump(str(Path(self.work_dir) / f'{name}.py'))

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Leave the terminal and the event files in order, however the run ends."""
        try:
            yield
        finally:
            self.close()

    def close(self) -> None:
        """Leave the terminal and the event files in order, and end data workers; may be called twice."""
        for loop in (self._train_loop, self._val_loop, self._test_loop):
            loader = getattr(loop, 'dataloader', None)
            if isinstance(loader, WatchedLoader):
                loader.close()
        for hook in self.hooks:
            if hasattr(hook, 'close'):
                hook.close()
        self.checkpoint_writer.settle()
        with suppress(OSError):  # events that cannot be written: it was warned of
            self.visualizer.close()


#: Hooks that mmengine adds by itself.
_MMENGINE_SLOTS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')
#: Stages of hooks that are called in every step.
_STEP_STAGES = frozenset({f'{when}_{phase}_iter' for when in ('before', 'after') for phase in ('train', 'val', 'test')})


def _is_idle(hook: Any, stage: str) -> bool:
    """Whether a hook's method of this name, and the one that it calls, are those of mmengine's base class."""
    inner = f'_{stage.split("_")[0]}_iter'
    return all(
        name not in vars(hook) and getattr(type(hook), name, None) is getattr(Hook, name) for name in (stage, inner)
    )


def _with_type(loop: BaseLoop | dict[str, Any], name: str) -> BaseLoop | dict[str, Any]:
    return loop if isinstance(loop, BaseLoop) else {'type': name, **loop}
