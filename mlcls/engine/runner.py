"""mmengine's Runner with loops, logging, evaluation and (from persistence.py) saving and loading of our own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import master_only
from mmengine.logging import MMLogger
from mmengine.model import convert_sync_batchnorm, revert_sync_batchnorm
from mmengine.runner import BaseLoop
from torch import nn
from torch.utils.data import DataLoader

from mlcls.engine.checkpoint import unwrap
from mlcls.engine.dataloader import build_dataloader, order_of
from mlcls.engine.distributed import init_distributed
from mlcls.engine.logs import log_to_file, make_logger
from mlcls.engine.loops import TestLoop
from mlcls.engine.persistence import Persistence
from mlcls.engine.preflight import check_batches, check_head, check_run
from mlcls.errors import ConfigError
from mlcls.evaluation import Evaluator, Rows, build_evaluator
from mlcls.evaluation.operating_points import OperatingPoints
from mlcls.models.fitting import fit_heads, fit_losses, start_biases
from mlcls.registry import MODEL_WRAPPERS, RUNNERS
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
    model: Any
    _train_dataloader: Any
    _test_loop: Any

    def setup_env(self, env_cfg: dict[str, Any]) -> None:
        """As in mmengine, but the process group also starts on a machine without a GPU."""
        if self.distributed:
            init_distributed(self.launcher, **env_cfg.get('dist_cfg', {}))
        super().setup_env(env_cfg)
        self._make_timestamp_unique()

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
        return super().build_param_scheduler(scheduler)

    def build_logger(self, log_level: int | str = 'INFO', log_file: str | None = None, **kwargs: Any) -> MMLogger:
        """The run's logger; its file is ``<log dir>/<timestamp>.log``."""
        path = Path(log_file or Path(self.log_dir) / f'{self.timestamp}.log')
        return make_logger(self.experiment_name, path, log_level)

    def build_visualizer(self, visualizer: Any = None) -> Any:
        """The sink of scalars; JSON lines and TensorBoard unless the config says otherwise."""
        backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
        return super().build_visualizer(visualizer or dict(type='Visualizer', vis_backends=backends))

    def _log_env(self, env_cfg: dict[str, Any]) -> None:
        from mmengine.utils.dl_utils import collect_env

        environment = '\n'.join(f'  {key}: {value}' for key, value in collect_env().items())
        log_to_file(self.logger, f'Environment:\n{environment}\n  seed: {self.seed}, processes: {self.world_size}')
        log_to_file(self.logger, f'Config:\n{self.cfg.pretty_text}')
        device = (
            torch.cuda.get_device_name() if torch.cuda.is_available() else f'CPU, {torch.get_num_threads()} threads'
        )
        self.logger.info(f'{self.experiment_name}: seed {self.seed}, {self.world_size} process(es), {device}')

    def register_hooks(
        self, default_hooks: dict[str, Any] | None = None, custom_hooks: list[Any] | None = None
    ) -> None:
        """mmengine's default hooks, the progress bar, the watch for a loss that is no longer finite, the list of images
        that cannot be used."""
        ours = {
            'finite_loss': dict(type='FiniteLossHook'),
            'progress': dict(type='ProgressHook'),
            'bad_images': dict(type='BadImagesHook'),
        }
        hooks = {**ours, **(default_hooks or {})}
        super().register_hooks({name: hook for name, hook in hooks.items() if hook or name not in ours}, custom_hooks)

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
        settings = {
            'type': 'MMDistributedDataParallel',
            'broadcast_buffers': False,
            'find_unused_parameters': self.cfg.get('find_unused_parameters', False),
            **(wrapper_cfg or {}),
            **others,
        }
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else None
        return MODEL_WRAPPERS.build(settings, default_args={'module': model, 'device_ids': devices})

    def rewrap_model(self) -> None:
        """Wrap the model for DDP anew, after other parameters of it are trained than before; on all ranks together.

        The wrapper notes once which parameters have gradients, and waits for those of each of them.
        """
        if not self.distributed:
            return
        # The weights are equal on all ranks, and states that differ between ranks are to stay as they are.
        self.model = self._distribute(unwrap(self.model), self.cfg.get('model_wrapper_cfg'), init_sync=False)
        self._maybe_compile('train_step')

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
        return built

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
            self.cfg.dump(str(Path(self.work_dir) / f'{name}.py'))

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Leave the terminal and the event files in order, however the run ends."""
        try:
            yield
        finally:
            self.close()

    def close(self) -> None:
        """Leave the terminal and the event files in order; may be called twice."""
        for hook in self.hooks:
            if hasattr(hook, 'close'):
                hook.close()
        self.visualizer.close()


def _with_type(loop: BaseLoop | dict[str, Any], name: str) -> BaseLoop | dict[str, Any]:
    return loop if isinstance(loop, BaseLoop) else {'type': name, **loop}
