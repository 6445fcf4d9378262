"""Writing checkpoints after epochs, steps or minutes, and keeping the best."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, Literal

from mmengine.dist import is_main_process, master_only
from mmengine.hooks import Hook

from mlcls.engine.averaging import RAW, averaging_hook
from mlcls.engine.checkpoint import POINTER, delete_checkpoint
from mlcls.errors import ConfigError
from mlcls.registry import HOOKS

#: What lies in a work folder of each checkpoint.
_ENDINGS = ('.pth', '.pth.sha256', '.thresholds.json', '.safetensors')
#: Parts of metric names that are better when lower.
LESS_IS_BETTER = ('loss', 'error', 'coverage', 'hamming')
#: Whole words that mean the same; as parts they would be found in other words, too.
LESS_WORDS = frozenset({'ece', 'mce', 'brier'})


def is_better_lower(metric: str) -> bool:
    """Whether a metric of this name is an error rather than a merit."""
    words = re.split('[^a-z]+', metric.lower().rpartition('/')[2])
    return any(word in metric.lower() for word in LESS_IS_BETTER) or not LESS_WORDS.isdisjoint(words)


@HOOKS.register_module()
class CheckpointHook(Hook):
    """Writes ``epoch_N.pth`` at the end of epochs, ``iter_N.pth`` inside them, and ``best_<metric>.pth`` after a
    validation that improved on it.

    A file is complete or absent (atomic rename), the pointer ``last_checkpoint`` is moved after the file is there, and
    old files are deleted after the new one was read back: a kill at any moment leaves a checkpoint to resume from.
    Files are written in the background, while training goes on; where that fails, it goes on, too, with a warning, and
    it is tried again. A fresh run in a folder that has checkpoints of an earlier one moves those to a folder
    ``earlier_<time>`` first.

    Args:
        interval: Epochs between two checkpoints; -1 writes only the last.
        save_best: Metric, or several, whose best epoch is kept (of averaged weights and those in training, whichever
            score better); ``'auto'`` takes the first that the evaluator gives.
        rule: ``'greater'`` or ``'less'`` is better; told by the metric's name if None.
        max_keep_ckpts: Number of ``epoch_N.pth`` (with ``by_epoch=False``, of ``iter_N.pth``) that are kept; -1 keeps
            all.
        save_last: Also write epoch ``max_epochs`` when the interval would skip it.
        by_epoch: False counts ``interval`` in iterations.
        minutes: Also write one when so many minutes have passed since the last, above 0; it is deleted when a newer one
            is there. None: never.
        safetensors: Also keep the weights of the best epoch alone, as ``best_<metric>.safetensors``.

    Raises:
        ConfigError: A value outside these.
    """

    priority = 'VERY_LOW'

    def __init__(
        self,
        interval: int = 1,
        save_best: str | Sequence[str] | None = None,
        rule: Literal['greater', 'less'] | None = None,
        max_keep_ckpts: int = -1,
        save_last: bool = True,
        by_epoch: bool = True,
        minutes: float | None = 30,
        safetensors: bool = True,
    ) -> None:
        for name, value in (('interval', interval), ('max_keep_ckpts', max_keep_ckpts)):
            if isinstance(value, bool) or not isinstance(value, int) or value == 0 or value < -1:
                raise ConfigError(f'CheckpointHook: {name} must be a whole number above 0, or -1; got {value!r}')
        if minutes is not None and (not isinstance(minutes, (int, float)) or isinstance(minutes, bool) or minutes <= 0):
            raise ConfigError(f'CheckpointHook: minutes must be above 0, or None; got {minutes!r}')
        if rule not in (None, 'greater', 'less'):
            raise ConfigError(f"CheckpointHook: rule must be 'greater' or 'less', got '{rule}'")
        self.interval = interval
        self.save_best = [save_best] if isinstance(save_best, str) else list(save_best or [])
        self.rule = rule
        self.max_keep_ckpts = max_keep_ckpts
        self.save_last = save_last
        self.by_epoch, self.minutes, self.safetensors = by_epoch, minutes, safetensors
        self.best: dict[str, dict[str, Any]] = {}
        self._is_owed = False
        self._saved_at = 0.0
        self._lost: tuple[str, dict[str, int]] | None = None  # what could not be written, of the state as it is

    @master_only
    def before_train(self, runner: Any) -> None:
        """Clear the work folder of what would be mistaken for this run's: leftovers of kills, an earlier run."""
        folder = Path(runner.work_dir)
        self._saved_at = monotonic()
        for leftover in folder.glob('.*.tmp'):
            leftover.unlink()
        patterns = [f'{name}_*{ending}' for name in ('epoch', 'iter', 'best') for ending in _ENDINGS]
        stale = [path for pattern in (*patterns, POINTER) for path in folder.glob(pattern)]
        if runner.iter == 0 and stale:
            target = folder / f'earlier_{runner.timestamp}'
            target.mkdir()
            for path in stale:
                path.rename(target / path.name)
            runner.logger.info(f'checkpoints of an earlier run in this folder are now in {target}')

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Put the best scores so far into the checkpoint."""
        checkpoint['best'] = self.best

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Take the best scores back when a run is resumed; weights alone say nothing about this run."""
        if runner._resume:
            self.best = checkpoint.get('best', {})

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Look at the clock; rank 0's counts."""
        if self.minutes is not None and monotonic() - self._saved_at > 60 * self.minutes and is_main_process():
            runner.agreement.wishes.add('save')
            self._saved_at = monotonic()

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Write a checkpoint inside the epoch if one is due, or the run was asked to stop."""
        if not self.by_epoch and self.interval > 0 and (runner.iter + 1) % self.interval == 0:
            self._is_owed = True
        if not (runner.decided or self._is_owed):
            return
        if batch_idx + 1 == len(runner.train_dataloader) or not runner.is_between_steps:
            return  # the end of the epoch comes, or gradients wait for the rest of their cycle
        place = dict(epoch=runner.epoch, iteration=runner.iter + 1, batches_done=batch_idx + 1)
        self._save(runner, f'iter_{runner.iter + 1}.pth', place)

    def after_train_epoch(self, runner: Any) -> None:
        """Write the epoch's checkpoint if it is due."""
        epoch = runner.epoch + 1
        is_last = self.save_last and epoch == runner.max_epochs
        is_due = self.by_epoch and self.interval > 0 and epoch % self.interval == 0
        place = dict(epoch=epoch, iteration=runner.iter, batches_done=0)
        if is_due or is_last:
            self._save(runner, f'epoch_{epoch}.pth', place)
        elif runner.decided or self._is_owed:
            self._save(runner, f'iter_{runner.iter}.pth', place)

    def save_to_stop(self, runner: Any) -> None:
        """Write a checkpoint between two epochs, before the run ends, unless that was done."""
        if runner.last_saved is None or runner.last_saved[1] != runner.iter or self._lost is not None:
            place = dict(epoch=runner.epoch, iteration=runner.iter, batches_done=0)
            self._save(runner, f'iter_{runner.iter}.pth', place)

    def save_inside_epoch(self, runner: Any, batches_done: int) -> None:
        """Write a checkpoint between two steps, before the run ends by an error that is not of the steps."""
        place = dict(epoch=runner.epoch, iteration=runner.iter, batches_done=batches_done)
        self._save(runner, f'iter_{runner.iter}.pth', place)
        runner.logger.info(f'what was trained is in iter_{runner.iter}.pth; to go on, use --resume')

    def after_train(self, runner: Any) -> None:
        """Write the last checkpoint now if it could not be when it was due, and the best was written since.

        Raises:
            CheckpointError: The best could not be written, either.
        """
        runner.checkpoint_writer.close()
        if self._lost is not None:
            name, place = self._lost
            if place['iteration'] != runner.iter:  # training went on since
                name, place = f'iter_{runner.iter}.pth', dict(epoch=runner.epoch, iteration=runner.iter, batches_done=0)
            self._save(runner, name, place)

    def _save(self, runner: Any, name: str, place: dict[str, int]) -> None:
        folder = Path(runner.work_dir)
        runner.save_checkpoint(
            str(folder),
            name,
            **place,
            background=True,
            is_newest=True,
            afterwards=partial(self._delete_old, folder, name),
            given_up=partial(setattr, self, '_lost', (name, place)),
        )
        runner.decided.discard('save')
        if runner.record is not None:
            runner.record.progress(place['epoch'], place['iteration'])
        self._is_owed, self._saved_at, self._lost = False, monotonic(), None

    def _delete_old(self, folder: Path, newest: str) -> None:
        """Delete what is no longer kept; called once the newest file was read back."""
        kept = {'epoch': self.max_keep_ckpts, 'iter': 1 if self.by_epoch else self.max_keep_ckpts}
        if self.by_epoch and newest.startswith('epoch'):
            kept['iter'] = 0
        for kind, count in kept.items():
            files = {
                int(path.stem.split('_')[1]): path
                for path in folder.glob(f'{kind}_*.pth')
                if path.stem.split('_')[1].isdigit() and path.is_file()
            }
            old = sorted(files)[: max(len(files) - count, 0)] if count >= 0 else []
            for number in old:
                if files[number].name != newest:
                    delete_checkpoint(files[number])

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Keep the epoch if it is the best so far in a metric."""
        improved = {}
        for wanted in self.save_best:  # all scores first: each file is to have them
            name = next(iter(metrics or {}), 'auto') if wanted == 'auto' else wanted
            score, weights = self._choose(name, metrics or {})
            if math.isfinite(score) and self._improves(name, score):
                improved[name] = (weights, self.best.get(name))
                self.best[name] = {'score': float(score), 'epoch': runner.epoch}
                averaging = averaging_hook(runner)
                if averaging is not None:
                    self.best[name]['weights'] = weights if averaging.average.is_started else 'raw'
        for name, (weights, before) in improved.items():
            self._save_best(runner, name, weights, before)

    def _save_best(self, runner: Any, name: str, weights: str, before: dict[str, Any] | None) -> None:
        file = f'best_{name.replace("/", "_")}.pth'
        path = Path(runner.work_dir) / file
        runner.save_checkpoint(
            runner.work_dir,
            file,
            is_validated=True,
            background=True,
            weights=weights,
            weights_as=path.with_suffix('.safetensors') if self.safetensors else None,
            given_up=partial(self._take_back, name, before),
        )
        best = self.best[name]
        whose = (
            f' ({"averaged weights" if best["weights"] == "averaged" else "raw weights"})' if 'weights' in best else ''
        )
        runner.logger.info(
            f'best {name} so far: {best["score"]:.2f}{whose} after epoch {runner.epoch}, saved as {file}'
        )

    def _choose(self, name: str, metrics: dict[str, float]) -> tuple[float, str]:
        """The better score of averaged weights and of those in training, where both were validated, and whose it is."""
        score = metrics.get(name, math.nan)
        if name.startswith(RAW):
            return score, 'raw'
        raw = metrics.get(f'{RAW}{name}', math.nan)
        is_raw = math.isfinite(raw) and (not math.isfinite(score) or self._is_better(name, raw, score))
        return (raw, 'raw') if is_raw else (score, 'averaged')

    def _take_back(self, name: str, before: dict[str, Any] | None) -> None:
        """The file of a best epoch could not be written: the score to beat is that of the file that is there."""
        if before is None:
            self.best.pop(name, None)
        else:
            self.best[name] = before

    def _improves(self, name: str, score: float) -> bool:
        if name not in self.best:
            return True
        return self._is_better(name, score, self.best[name]['score'])

    def _is_better(self, name: str, score: float, than: float) -> bool:
        lower = self.rule == 'less' if self.rule else is_better_lower(name)
        return score < than if lower else score > than
