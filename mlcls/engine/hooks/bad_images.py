"""Counting the images that a run could not use."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from mlcls.datasets import BadImages, innermost
from mlcls.registry import HOOKS

FILE_NAME = 'bad_images.jsonl'


@HOOKS.register_module()
class BadImagesHook(Hook):
    """Gives datasets a file in the work folder, ``bad_images.jsonl``, in which their workers list what they skip or
    replace (``on_error``), and says after each epoch how many images were added to it.
    """

    priority = 'LOW'

    def __init__(self) -> None:
        self._list: BadImages | None = None

    def before_run(self, runner: Any) -> None:
        """Open the list; workers start later, so they know it too."""
        path = Path(runner.work_dir) / FILE_NAME
        self._list = BadImages(path)
        for loop in (runner._train_loop, runner._val_loop, runner._test_loop):
            dataset = innermost(getattr(getattr(loop, 'dataloader', None), 'dataset', None))
            if hasattr(dataset, 'bad_images'):
                dataset.bad_images = BadImages(path)

    def _report(self, runner: Any) -> None:
        if self._list is None or not is_main_process():
            return
        added = self._list.added()
        if added:
            actions = Counter(entry['action'] for entry in added)
            what = ' and '.join(f'{count} {action}' for action, count in sorted(actions.items()))
            images = len({entry['img_path'] for entry in added})
            runner.logger.warning(
                f'{images} image{"s" * (images > 1)} could not be used ({what}); see {self._list.path}; '
                f'the first: {added[0]["reason"]}'
            )

    def after_train_epoch(self, runner: Any) -> None:
        """Say what this epoch added."""
        self._report(runner)

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """As after a training epoch."""
        self._report(runner)

    def after_test_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """As after a training epoch."""
        self._report(runner)
