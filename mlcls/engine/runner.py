"""mmengine's Runner with saving, loading, logging and evaluation of our own."""

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
from mmengine.runner import Runner as MMEngineRunner
from mmengine.runner.utils import set_random_seed
from torch import nn
from torch.utils.data import DataLoader

from mlcls.engine.checkpoint import (
    as_data,
    check_same_optimisation,
    find_checkpoint,
    make_payload,
    stored_classes,
    unwrap,
)
from mlcls.engine.distributed import init_distributed
from mlcls.engine.hooks import ProgressHook
from mlcls.engine.logs import log_to_file, make_logger
from mlcls.engine.preflight import check_batches, check_classes, check_run
from mlcls.errors import CheckpointError, ConfigError
from mlcls.evaluation import Evaluator, build_evaluator
from mlcls.fileio import read_checkpoint, write_atomic
from mlcls.models.initialize import find_state_dict, load_weights, resolve_checkpoint
from mlcls.registry import FUNCTIONS, MODEL_WRAPPERS, RUNNERS


@RUNNERS.register_module()
class Runner(MMEngineRunner):
    """Builds and runs what a config describes; arguments of mmengine's Runner.

    What differs: checkpoints are written atomically and read without executing anything in them; evaluation streams
    tensors; training checks that config and data agree before its first step; DDP works without a GPU; the console
    shows what a person needs and the log file everything. ``channels_last = True`` in the config stores convolution
    weights in that format.
    """

    _has_loaded: bool
    _timestamp: str

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
        """mmengine's default hooks, the progress bar and the watch for a loss that is no longer finite."""
        ours = dict(finite_loss=dict(type='FiniteLossHook'), progress=dict(type='ProgressHook'))
        hooks = {**ours, **(default_hooks or {})}
        super().register_hooks({name: hook for name, hook in hooks.items() if hook or name not in ours}, custom_hooks)

    def wrap_model(self, model_wrapper_cfg: dict[str, Any] | None, model: nn.Module) -> nn.Module:
        """Move the model to its device and, with several processes, wrap it for DDP."""
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
        settings = {
            'type': 'MMDistributedDataParallel',
            'broadcast_buffers': False,
            'find_unused_parameters': self.cfg.get('find_unused_parameters', False),
            **(model_wrapper_cfg or {}),
        }
        devices = [torch.cuda.current_device()] if on_gpu else None
        return MODEL_WRAPPERS.build(settings, default_args={'module': model, 'device_ids': devices})

    def build_dataloader(
        self,
        dataloader: Any,
        seed: int | None = None,  # type: ignore[override]
        diff_rank_seed: bool = False,
    ) -> DataLoader:
        """As in mmengine, with our collate functions."""
        if isinstance(dataloader, dict):
            collate = dict(dataloader.get('collate_fn', dict(type='default_collate')))
            if isinstance(collate['type'], str):
                collate['type'] = FUNCTIONS.get(collate['type'])
            dataloader = {**dataloader, 'collate_fn': collate}
        return MMEngineRunner.build_dataloader(dataloader, seed, diff_rank_seed)

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

    def load_or_resume(self) -> None:
        """Load the weights or the whole state that the config asks for, once."""
        if self._has_loaded:
            return
        if self._resume:
            self.resume(self._load_from or str(find_checkpoint(Path(self.work_dir))))
        elif self._load_from is not None:
            self.load_checkpoint(self._load_from, strict=not isinstance(self._train_loop, BaseLoop))
        self._has_loaded = True

    def load_checkpoint(
        self, filename: str, map_location: Any = 'cpu', strict: bool = False, revise_keys: Any = None
    ) -> dict[str, Any]:
        """Fill the model from a checkpoint.

        Args:
            filename: File of mlcls, mmpretrain or torchvision, a URL, or ``torchvision://NAME``.
            map_location: Device to read to.
            strict: File and model must have the same tensors and classes; otherwise what fits is loaded and the rest
                reported (fine-tuning).
            revise_keys: Unused; names are matched with the usual prefixes tried.

        Returns:
            The content of the file.

        Raises:
            CheckpointError: The file cannot be used, or it is of another model or other classes.
        """
        checkpoint = read_checkpoint(resolve_checkpoint(filename), map_location)
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        weights = find_state_dict(checkpoint)
        if not strict and self._has_other_classes(checkpoint):
            self.logger.warning(f'{filename} was trained on other classes; the head starts anew')
            weights = {name: value for name, value in weights.items() if not name.startswith('head.')}
        report = load_weights(unwrap(self.model), weights, filename)
        if strict:
            if report.missing or report.mismatched or report.unused:
                raise CheckpointError(f'this checkpoint is of another model:\n{report}')
            self._check_stored_classes(checkpoint, filename)
        self.logger.info(f'weights from {report}')
        return checkpoint

    def _has_other_classes(self, checkpoint: dict[str, Any]) -> bool:
        classes = stored_classes(checkpoint)
        return classes is not None and classes != tuple(self.train_dataloader.dataset.metainfo['classes'])

    def _check_stored_classes(self, checkpoint: dict[str, Any], filename: str) -> None:
        classes = stored_classes(checkpoint)
        for name, loop in (('train', self._train_loop), ('val', self._val_loop), ('test', self._test_loop)):
            if classes is not None and isinstance(loop, BaseLoop):
                check_classes(classes, loop.dataloader.dataset.metainfo['classes'], filename, f'the {name} data')

    def resume(
        self,
        filename: str,
        resume_optimizer: bool = True,
        resume_param_scheduler: bool = True,
        map_location: Any = 'default',
    ) -> None:
        """Take up a run where a checkpoint left it.

        Args:
            filename: Checkpoint written by mlcls.
            resume_optimizer: Also the optimiser's state.
            resume_param_scheduler: Also the schedulers' state.
            map_location: Device to read to.

        Raises:
            CheckpointError: The file cannot be used or holds weights only.
        """
        checkpoint = self.load_checkpoint(filename, 'cpu' if map_location == 'default' else map_location, strict=True)
        meta = checkpoint.get('meta', {})
        if 'optimizer' not in checkpoint or not {'epoch', 'iter', 'seed'} <= meta.keys():
            raise CheckpointError(
                f'{filename}: holds weights but no training state to resume; to start a new run from '
                f'its weights use --cfg-options load_from={filename}'
            )
        self.train_loop._epoch, self.train_loop._iter = meta['epoch'], meta['iter']
        if meta['seed'] != self.seed:
            self._take_over_seed(meta['seed'])
        check_same_optimisation(self, checkpoint, filename)
        if resume_optimizer:
            self.optim_wrapper.load_state_dict(checkpoint['optimizer'])
        if resume_param_scheduler:
            for scheduler, state in zip(self.param_schedulers or [], checkpoint['param_schedulers']):
                scheduler.load_state_dict(state)
        self._has_loaded = True
        self.logger.info(f'resumed from {filename}: epoch {self.epoch}, iteration {self.iter}')

    def _take_over_seed(self, seed: int) -> None:
        """Shuffling and augmentation must go on with the seed they began with."""
        self.logger.info(f'seed {seed} is taken over from the checkpoint')
        self._seed = set_random_seed(seed, deterministic=self._deterministic)
        self.train_dataloader.sampler.seed = seed

    def save_checkpoint(self, out_dir: str, filename: str, **kwargs: Any) -> None:  # type: ignore[override]
        """Write the state of the run, atomically, from rank 0; called at the end of an epoch.

        Args:
            out_dir: Folder to write to.
            filename: Name of the file.
            **kwargs: ``epoch`` and ``iteration`` finished (those of the loop if left out); others are not used.
        """
        epoch, iteration = kwargs.get('epoch'), kwargs.get('iteration')
        payload = make_payload(
            self, self.epoch if epoch is None else epoch, self.iter if iteration is None else iteration
        )
        if self.rank == 0:
            write_atomic(Path(out_dir) / filename, lambda file: torch.save(as_data(payload), file))

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
            for hook in self.hooks:
                if isinstance(hook, ProgressHook):
                    hook.close()
            self.visualizer.close()


def _with_type(loop: BaseLoop | dict[str, Any], name: str) -> BaseLoop | dict[str, Any]:
    return loop if isinstance(loop, BaseLoop) else {'type': name, **loop}
