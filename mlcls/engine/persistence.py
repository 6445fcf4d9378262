"""What a run saves, and how it loads weights or takes up where it was stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmengine.runner import BaseLoop
from mmengine.runner import Runner as MMEngineRunner
from mmengine.runner.utils import set_random_seed

from mlcls.engine.checkpoint import (
    POINTS,
    as_data,
    check_same_optimisation,
    find_checkpoint,
    make_payload,
    points_path,
    stored_classes,
    stored_pretrained,
    stored_train_counts,
    unwrap,
)
from mlcls.engine.dataloader import order_of
from mlcls.engine.preflight import check_classes, check_head
from mlcls.errors import CheckpointError
from mlcls.evaluation.operating_points import OperatingPoints
from mlcls.fileio import read_checkpoint, weights_hash, write_atomic, write_json
from mlcls.models.fitting import load_training_state
from mlcls.models.weights import (
    file_digest,
    find_state_dict,
    load_weights,
    log_report,
    read_weights,
    remember,
    resolve_checkpoint,
    take_over,
)


class Persistence(MMEngineRunner):
    """The part of the runner that saves and loads; takes the place of mmengine's."""

    _has_loaded: bool
    _stored_counts: list[int] | None
    operating_points: OperatingPoints | None

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
            filename: File of mlcls, mmpretrain, torchvision or timm (``.pth``, ``.safetensors``), a URL, or
                ``torchvision://NAME``.
            map_location: Device to read to.
            strict: File and model must have the same tensors and classes; otherwise what fits is loaded and the rest
                reported (fine-tuning).
            revise_keys: Unused; names are matched with the usual prefixes tried.

        Returns:
            The content of the file.

        Raises:
            CheckpointError: The file cannot be used, or it is of another model or other classes.
        """
        path = resolve_checkpoint(filename)
        checkpoint = read_weights(path, map_location)
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        weights = find_state_dict(checkpoint)
        if not strict and self._has_other_classes(checkpoint):
            self.logger.warning(f'{filename} was trained on other classes; the head starts anew')
            weights = {name: value for name, value in weights.items() if not name.startswith('head.')}
        model = unwrap(self.model)
        report = load_weights(model, weights, filename, adapt=not strict, sha256=file_digest(path))
        if strict:
            if report.missing or report.mismatched or report.unused:
                raise CheckpointError(f'this checkpoint is of another model:\n{report}')
            self._check_stored_classes(checkpoint, filename)
            self._take_train_counts(checkpoint)
            take_over(model, stored_pretrained(checkpoint))
        else:
            remember(model, report)
        log_report(model, report)
        return checkpoint

    def _take_train_counts(self, checkpoint: dict[str, Any]) -> None:
        """What evaluations are told of the training data, where these are not at hand."""
        counts = stored_train_counts(checkpoint)
        width = getattr(getattr(unwrap(self.model), 'head', None), 'num_classes', None)
        self._stored_counts = None if counts is None or width not in (None, len(counts)) else counts
        for loop in (self._val_loop, self._test_loop):
            if hasattr(loop, 'refresh_meta'):
                loop.refresh_meta()

    def _serves_other_classes(self) -> bool:
        """Whether no weight of the head belongs to a class: classes come from a file, whatever it was trained on."""
        return bool(getattr(getattr(unwrap(self.model), 'head', None), 'serves_other_classes', False))

    def _has_other_classes(self, checkpoint: dict[str, Any]) -> bool:
        if self._serves_other_classes():
            return False
        classes = stored_classes(checkpoint)
        return classes is not None and classes != tuple(self.train_dataloader.dataset.metainfo['classes'])

    def _check_stored_classes(self, checkpoint: dict[str, Any], filename: str) -> None:
        classes = stored_classes(checkpoint)
        for name, loop in (('train', self._train_loop), ('val', self._val_loop), ('test', self._test_loop)):
            if isinstance(loop, BaseLoop) and self._serves_other_classes():
                check_head(unwrap(self.model), loop.dataloader.dataset.metainfo['classes'], name)
            elif classes is not None and isinstance(loop, BaseLoop):
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

        Thresholds fitted on these weights are in it and in a JSON file beside it (`points_path`).

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
            path = Path(out_dir) / filename
            if self.operating_points is None and points_path(path).exists():
                self._keep_points(path, payload)
            if POINTS not in payload:
                points_path(path).unlink(missing_ok=True)  # those of an older file of this name
            write_atomic(path, lambda file: torch.save(as_data(payload), file))
            if self.operating_points is not None:
                write_json(points_path(path), self.operating_points.to_dict())

    def _keep_points(self, path: Path, payload: dict[str, Any]) -> None:
        """Thresholds that were chosen for a checkpoint stay where the same weights are written again."""
        old = read_checkpoint(path) if path.is_file() else {}
        if POINTS not in old:
            return
        if weights_hash(old['state_dict']) == weights_hash(payload['state_dict']):
            payload[POINTS] = old[POINTS]
        else:
            self.logger.warning(f'{path}: the thresholds kept with it were of other weights and are dropped')
