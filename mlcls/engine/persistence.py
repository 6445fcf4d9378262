"""What a run saves, and how it loads weights or takes up where it was stopped."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list
from mmengine.runner import BaseLoop
from mmengine.runner import Runner as MMEngineRunner
from mmengine.runner.utils import set_random_seed

from mlcls.config import to_plain
from mlcls.datasets import ShardDataset
from mlcls.engine.averaging import take_training_weights
from mlcls.engine.checkpoint import (
    POINTS,
    as_data,
    find_good,
    make_payload,
    points_path,
    stored_classes,
    stored_pretrained,
    stored_train_counts,
    unwrap,
)
from mlcls.engine.dataloader import batch_size_of, order_of
from mlcls.engine.distributed import continues_restarted
from mlcls.engine.preflight import check_classes, check_head
from mlcls.engine.random_state import restore_rank_state
from mlcls.engine.same_run import check_same_run
from mlcls.engine.sharding import shard_model, shared_out
from mlcls.engine.snapshot import Snapshots
from mlcls.engine.writer import CheckpointWriter, SaveJob
from mlcls.errors import CheckpointError
from mlcls.evaluation.operating_points import OperatingPoints
from mlcls.fileio import check_checksum, read_checkpoint, weights_hash
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
    _snapshots: Snapshots
    checkpoint_writer: CheckpointWriter
    #: File and iteration of the checkpoint that was written, or given to the writer, last.
    last_saved: tuple[Path, int] | None = None
    _given_up: Callable[[], None] | None = None
    _stored_counts: list[int] | None
    operating_points: OperatingPoints | None
    raw_points: OperatingPoints | None

    def load_or_resume(self) -> None:
        """Load the weights or the whole state that the config asks for, once."""
        if self._has_loaded:
            return
        if isinstance(self._train_loop, BaseLoop) and continues_restarted(self.work_dir):
            self._resume, self._load_from = True, None
        if self._resume:
            self.resume(self._load_from or self._newest_good())
        elif self._load_from is not None:
            self.load_checkpoint(self._load_from, strict=not isinstance(self._train_loop, BaseLoop))
        if isinstance(self._train_loop, BaseLoop):
            shard_model(self)
        self._has_loaded = True

    def _newest_good(self) -> str:
        """The newest whole checkpoint of the work folder, the same one for all ranks."""
        found: list[Any] = [None]
        if self.rank == 0:
            try:
                found = [str(find_good(Path(self.work_dir), self.logger.warning))]
            except CheckpointError as error:
                found = [error]
        broadcast_object_list(found)
        if isinstance(found[0], CheckpointError):
            raise found[0]
        return str(found[0])

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
        check_checksum(filename)
        meta = read_checkpoint(filename, mmap=True).get('meta', {}) if Path(filename).is_file() else {}
        notes = check_same_run(meta, self, filename) if isinstance(meta, dict) else []
        checkpoint = self.load_checkpoint(filename, 'cpu' if map_location == 'default' else map_location, strict=True)
        take_training_weights(unwrap(self.model), checkpoint, filename)
        meta = checkpoint.get('meta', {})
        if 'optimizer' not in checkpoint or not {'epoch', 'iter', 'seed'} <= meta.keys():
            raise CheckpointError(
                f'{filename}: holds weights but no training state to resume; to start a new run from '
                f'its weights use --cfg-options load_from={filename}'
            )
        if meta['seed'] != self.seed:
            self._take_over_seed(meta['seed'])
        for note in notes:
            self.logger.warning(note)
        load_training_state(unwrap(self.model), checkpoint.get('training_state', {}))
        is_same_pace = self._take_up(meta)
        stored = meta.get('config') or {}
        has_same_schedules = is_same_pace and stored.get('param_scheduler') == to_plain(self.cfg).get('param_scheduler')
        if resume_optimizer:
            shard_model(self)
            self.optim_wrapper.load_state_dict(shared_out(checkpoint['optimizer'], self.optim_wrapper.optimizer))
        if resume_param_scheduler:
            self._resume_schedulers(checkpoint['param_schedulers'], has_same_schedules)
        self._resume_hooks(checkpoint.get('hooks', {}))
        restore_rank_state(unwrap(self.model), checkpoint.get('ranks', []), self.rank, self.world_size)
        self._has_loaded = True
        done = self.train_loop.batches_done
        place = f'in epoch {self.epoch + 1}, after batch {done}' if done else f'after epoch {self.epoch}'
        self.logger.info(f'resumed from {filename}: {place}, iteration {self.iter}')

    def _take_up(self, meta: dict[str, Any]) -> bool:
        """Set the counters of the loop; whether an iteration is as many images as it was before."""
        loader = self.train_dataloader
        epoch, done = meta['epoch'], meta.get('batches_done', 0)
        before = (meta.get('batch_size') or 0) * meta.get('world_size', 1)
        now = (batch_size_of(loader) or 0) * self.world_size
        # A best checkpoint was written after its validation; inside an epoch, the last one's was before.
        is_validated = done > 0 or bool(meta.get('is_validated'))
        workers = max(1, meta.get('num_workers', 0)), max(1, loader.num_workers)
        if done and isinstance(loader.dataset, ShardDataset) and workers[0] != workers[1]:
            raise CheckpointError(
                f'inside an epoch, shards are read on by as many workers as before: set train_dataloader.num_workers='
                f'{workers[0]} (got {loader.num_workers}) until this epoch ends'
            )
        if not before or before == now or not now:
            self.train_loop.take_up(epoch, meta['iter'], done, is_validated)
            return True
        images, done = done * before, done * before // now
        done = min(done, len(loader) - 1)
        self.train_loop.take_up(epoch, epoch * len(loader) + done, done, is_validated)
        self.logger.warning(
            f'a step is now {now} images, not {before} ({self.world_size} process(es)): epoch {epoch + 1} goes on at '
            f'image {done * now} of its order (it had come to {images}), and iterations are counted as if all steps '
            f'had been of {now}'
        )
        return False

    def _resume_schedulers(self, states: list[dict[str, Any]], are_same: bool) -> None:
        """Take up schedules; others than before, or with steps of another size, are run from the start to the place."""
        schedulers = self.param_schedulers or []
        if are_same:
            for scheduler, state in zip(schedulers, states):
                scheduler.load_state_dict(state)
            return
        for group in self.optim_wrapper.param_groups:
            group.update(
                {name.removeprefix('initial_'): value for name, value in group.items() if name[:8] == 'initial_'}
            )
        replayed = []
        for scheduler, state in zip_longest(schedulers, states):
            if getattr(scheduler, 'need_val_args', False):  # it follows metrics, not time
                scheduler.load_state_dict(state or scheduler.state_dict())
            elif scheduler is not None:
                scheduler.last_step = scheduler._global_step = -1
                replayed.append(scheduler)
        epoch_length = len(self.train_dataloader)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # "scheduler.step() before optimizer.step()": here on purpose
            for number in range(self.iter + 1):  # the first is what a schedule does when it is made
                for scheduler in replayed:
                    if number == 0 or not scheduler.by_epoch or number % epoch_length == 0:
                        scheduler.step()

    def _resume_hooks(self, states: dict[str, Any]) -> None:
        for hook in self.hooks:
            state = states.get(type(hook).__name__)
            if state is not None and hasattr(hook, 'load_state_dict'):
                hook.load_state_dict(state)

    def _take_over_seed(self, seed: int) -> None:
        """Shuffling and augmentation must go on with the seed they began with."""
        self.logger.info(f'seed {seed} is taken over from the checkpoint')
        own = self.seed
        self._seed = set_random_seed(seed, deterministic=self._deterministic)
        order = order_of(self.train_dataloader)
        if order.seed == own:  # a seed that the sampler's config gives stays
            order.seed = seed

    def save_checkpoint(self, out_dir: str, filename: str, **kwargs: Any) -> None:  # type: ignore[override]
        """Write the state of the run, atomically, from rank 0; called between two steps, by all ranks together.

        Thresholds fitted on these weights are in it and in a JSON file beside it (`points_path`), its SHA-256 in
        another.

        Args:
            out_dir: Folder to write to.
            filename: Name of the file.
            **kwargs: ``epoch``, ``iteration`` and ``batches_done`` (of the next epoch) finished, those of the loop if
                left out; ``background=True`` returns when the state is copied, and has it written meanwhile;
                ``is_newest``, ``weights_as``, ``afterwards`` and ``given_up`` as in `SaveJob`; ``weights`` as in
                `make_payload`; others are not used.
        """
        place: dict[str, Any] = {'epoch': self.epoch, 'iteration': self.iter, 'batches_done': 0, 'is_validated': False}
        place |= {name: kwargs[name] for name in place if kwargs.get(name) is not None}
        self._give_up_what_failed(kwargs.get('given_up'))
        self.call_hook('before_checkpoint')
        weights = kwargs.get('weights', 'averaged')
        payload = make_payload(self, **place, weights=weights)
        path, writer = Path(out_dir) / filename, self.checkpoint_writer
        self.last_saved = (path, place['iteration'])
        if self.rank != 0:
            return
        fitted = self.raw_points if weights == 'raw' else self.operating_points
        if fitted is None and points_path(path).exists():
            self._keep_points(path, payload)
        asked = {name: kwargs[name] for name in ('is_newest', 'weights_as', 'afterwards', 'given_up') if name in kwargs}
        self._snapshots.begin()
        job = SaveJob(path, as_data(payload, self._snapshots.copy), payload.get(POINTS), **asked)
        self._snapshots.end()
        if kwargs.get('background'):
            writer.submit(job, self._snapshots.wait)
        else:
            self._snapshots.wait()
            writer.write(job)

    def _give_up_what_failed(self, then: Callable[[], None] | None) -> None:
        """Give up a checkpoint that could not be written, on all ranks, before the next state is described: what a
        checkpoint says of the best must be of files that are there.

        Args:
            then: What is to be called if the next one is given up.
        """
        self.checkpoint_writer.settle()
        failed = [self.checkpoint_writer.has_failed]
        broadcast_object_list(failed)
        if self.rank == 0:
            self.checkpoint_writer.give_up()
        elif failed[0] and self._given_up is not None:
            self._given_up()
        self._given_up = then

    def _keep_points(self, path: Path, payload: dict[str, Any]) -> None:
        """Thresholds that were chosen for a checkpoint stay where the same weights are written again."""
        old = read_checkpoint(path) if path.is_file() else {}
        if POINTS not in old:
            return
        if weights_hash(old['state_dict']) == weights_hash(payload['state_dict']):
            payload[POINTS] = old[POINTS]
        else:
            self.logger.warning(f'{path}: the thresholds kept with it were of other weights and are dropped')
