"""What a run saves, and how it loads weights or takes up where it was stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmengine.runner import BaseLoop
from mmengine.runner import Runner as MMEngineRunner
from mmengine.runner.utils import set_random_seed

from mlcls.engine.checkpoint import (
    as_data,
    check_same_optimisation,
    find_checkpoint,
    make_payload,
    stored_classes,
    unwrap,
)
from mlcls.engine.dataloader import order_of
from mlcls.engine.preflight import check_classes
from mlcls.errors import CheckpointError
from mlcls.fileio import read_checkpoint, write_atomic
from mlcls.models.fitting import load_training_state
from mlcls.models.initialize import find_state_dict, load_weights, resolve_checkpoint


class Persistence(MMEngineRunner):
    """The part of the runner that saves and loads; takes the place of mmengine's."""

    _has_loaded: bool

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
        load_training_state(unwrap(self.model), checkpoint.get('training_state', {}))
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
        order_of(self.train_dataloader).seed = seed

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
