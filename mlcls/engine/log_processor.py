"""The line of a log."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import torch

from mlcls.errors import ConfigError
from mlcls.registry import LOG_PROCESSORS

#: Parts of the numbers of a step that have a place of their own in its line.
_PLACED = frozenset({'lr', 'base_lr', 'time', 'data_time', 'images_per_second', 'data_share', 'memory'})


@LOG_PROCESSORS.register_module()
class LogProcessor:
    """Makes the numbers and the line of a log entry; takes the place of mmengine's.

    Numbers are means over the steps since the last entry.

    Args:
        window_size: Here for configs of mmpretrain; ``interval`` of the LoggerHook counts.
        by_epoch: Here for configs of mmpretrain; must be True.
        num_digits: Digits after the point.
        custom_cfg: Not available; must be empty.
        **settings: Others of mmengine's; not used.

    Raises:
        ConfigError: ``custom_cfg`` is not empty, or ``by_epoch`` is False.
    """

    def __init__(
        self, window_size: int = 10, by_epoch: bool = True, num_digits: int = 4, custom_cfg: Any = None, **settings: Any
    ) -> None:
        if custom_cfg:
            raise ConfigError(
                'log_processor.custom_cfg is not available: log entries are means over the steps since the last one; '
                'set default_hooks.logger.interval'
            )
        if not by_epoch:
            raise ConfigError('log_processor.by_epoch=False is not available: steps are counted within epochs')
        self.num_digits = num_digits

    def step_entry(self, runner: Any, batch_idx: int) -> tuple[dict[str, Any], str]:
        """Numbers and line of the steps since the last entry; the host waits for the device once.

        Args:
            runner: The run, after a step.
            batch_idx: Number of the step in its epoch, from 0.
        """
        numbers: dict[str, Any] = {name: values[0] for name, values in runner.optim_wrapper.get_lr().items()}
        numbers |= runner.meter.take()
        if torch.cuda.is_available():
            numbers['memory'] = torch.cuda.max_memory_allocated() // 2**20
        numbers |= {'epoch': runner.epoch + 1, 'iter': runner.iter + 1}
        return numbers, self._line(numbers, runner, batch_idx)

    def _line(self, numbers: Mapping[str, Any], runner: Any, batch_idx: int) -> str:
        steps, epochs = str(len(runner.train_dataloader)), str(runner.max_epochs)
        left = runner.meter.mean_seconds * (runner.max_iters - runner.iter - 1)
        epoch, step = f'[{runner.epoch + 1}]'.rjust(len(epochs) + 2), str(batch_idx + 1).rjust(len(steps))
        parts = [
            f'Epoch(train) {epoch}[{step}/{steps}]',
            f'lr {numbers["lr"]:.4e}',
            f'eta {datetime.timedelta(seconds=int(left))}',
            f'{numbers["images_per_second"]:.4g} images/s',
            f'waits for data {numbers["data_share"]:.0%}',
        ]
        if 'memory' in numbers:
            parts.append(f'memory {numbers["memory"]} MiB')
        shown = {name: value for name, value in numbers.items() if name not in _PLACED and isinstance(value, float)}
        return '  '.join([*parts, *(f'{name} {value:.{self.num_digits}f}' for name, value in shown.items())])
