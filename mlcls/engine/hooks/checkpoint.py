"""Writing checkpoints at the end of epochs, and keeping the best."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from mmengine.dist import is_main_process, master_only
from mmengine.hooks import Hook

from mlcls.engine.checkpoint import POINTER, points_path
from mlcls.errors import ConfigError
from mlcls.fileio import write_atomic
from mlcls.registry import HOOKS

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
    """Writes ``epoch_N.pth`` at the end of epochs and ``best_<metric>.pth`` after a validation that improved on it.

    A file is complete or absent (atomic rename), the pointer ``last_checkpoint`` is moved after the file is there, and
    old files are deleted after that: a kill at any moment leaves a checkpoint to resume from. A fresh run in a folder
    that has checkpoints of an earlier one moves those to a folder ``earlier_<time>`` first.

    Args:
        interval: Epochs between two checkpoints; -1 writes only the last.
        save_best: Metric, or several, whose best epoch is kept; ``'auto'`` takes the first that the evaluator gives.
        rule: ``'greater'`` or ``'less'`` is better; told by the metric's name if None.
        max_keep_ckpts: Number of ``epoch_N.pth`` that are kept; -1 keeps all.
        save_last: Also write epoch ``max_epochs`` when the interval would skip it.
        by_epoch: Must be True; here for configs of mmpretrain.

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
    ) -> None:
        if not by_epoch:
            raise ConfigError(
                'CheckpointHook: by_epoch=False is not available; checkpoints are written at the end of epochs'
            )
        if interval == 0 or max_keep_ckpts == 0:
            raise ConfigError('CheckpointHook: interval and max_keep_ckpts must be above 0, or -1')
        if rule not in (None, 'greater', 'less'):
            raise ConfigError(f"CheckpointHook: rule must be 'greater' or 'less', got '{rule}'")
        self.interval = interval
        self.save_best = [save_best] if isinstance(save_best, str) else list(save_best or [])
        self.rule = rule
        self.max_keep_ckpts = max_keep_ckpts
        self.save_last = save_last
        self.best: dict[str, dict[str, Any]] = {}

    @master_only
    def before_train(self, runner: Any) -> None:
        """Clear the work folder of what would be mistaken for this run's: leftovers of kills, an earlier run."""
        folder = Path(runner.work_dir)
        for leftover in folder.glob('.*.pth.*.tmp'):
            leftover.unlink()
        patterns = [f'{name}_*{ending}' for name in ('epoch', 'best') for ending in ('.pth', '.thresholds.json')]
        stale = [path for pattern in (*patterns, POINTER) for path in folder.glob(pattern)]
        if runner.epoch == 0 and stale:
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

    def after_train_epoch(self, runner: Any) -> None:
        """Write the epoch's checkpoint if it is due."""
        epoch = runner.epoch + 1
        is_last = self.save_last and epoch == runner.max_epochs
        if not is_last and (self.interval < 0 or epoch % self.interval):
            return
        folder, name = Path(runner.work_dir), f'epoch_{epoch}.pth'
        runner.save_checkpoint(str(folder), name, epoch=epoch)
        if is_main_process():
            write_atomic(folder / POINTER, lambda file: file.write(f'{name}\n'.encode()))
            self._delete_old(folder)

    def _delete_old(self, folder: Path) -> None:
        if self.max_keep_ckpts < 0:
            return
        files = {
            int(path.stem.split('_')[1]): path
            for path in folder.glob('epoch_*.pth')
            if path.stem.split('_')[1].isdigit()
        }
        for epoch in sorted(files)[: -self.max_keep_ckpts]:
            files[epoch].unlink()
            points_path(files[epoch]).unlink(missing_ok=True)

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Keep the epoch if it is the best so far in a metric."""
        for wanted in self.save_best:
            name = next(iter(metrics or {}), 'auto') if wanted == 'auto' else wanted
            score = (metrics or {}).get(name, math.nan)
            if math.isfinite(score) and self._improves(name, score):
                self.best[name] = {'score': float(score), 'epoch': runner.epoch}
                file = f'best_{name.replace("/", "_")}.pth'
                runner.save_checkpoint(runner.work_dir, file)
                runner.logger.info(f'best {name} so far: {score:.2f} after epoch {runner.epoch}, saved as {file}')

    def _improves(self, name: str, score: float) -> bool:
        if name not in self.best:
            return True
        lower = self.rule == 'less' if self.rule else is_better_lower(name)
        return score < self.best[name]['score'] if lower else score > self.best[name]['score']
