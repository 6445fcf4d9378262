"""The run's logger: everything goes to the file, what a person needs to the console."""

from __future__ import annotations

import logging
import platform
import sys
from collections.abc import Callable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger

#: Packages whose versions may change a result.
PACKAGES = (
    *('torch', 'torchvision', 'mmengine', 'mmcv-lite', 'numpy', 'timm'),
    *('opencv-python', 'opencv-python-headless', 'pillow', 'simplejpeg'),
)


def _for_console(record: logging.LogRecord) -> bool:
    # mmengine reports hooks, wrappers and a line for every parameter: details for the file.
    skipped = 'is skipped since its requires_grad=False' in record.getMessage()  # a line a frozen parameter
    is_detail = '/mmengine/' in record.pathname and (skipped or record.levelno < logging.WARNING)
    return not is_detail and not getattr(record, 'file_only', False)


def make_logger(name: str, log_file: Path, level: int | str) -> MMLogger:
    """Make the logger of a run; of several processes, rank 0 logs.

    Args:
        name: Unique name of the run.
        log_file: Where its lines are kept.
        level: Least level that is logged.
    """
    logger = MMLogger.get_instance(name, logger_name='mlcls', log_level=level, log_file=str(log_file))
    for number, handler in enumerate(logger.handlers):
        if isinstance(handler, logging.FileHandler):
            handler.setFormatter(logging.Formatter('%(asctime)s %(levelname)s %(message)s'))
            handler.handleError = _say_once(log_file)  # type: ignore[assignment]
        elif not isinstance(handler, ConsoleHandler):
            logger.handlers[number] = ConsoleHandler(handler.level)
    return logger


def _say_once(log_file: Path) -> Callable[[logging.LogRecord], None]:
    """What a log file does that cannot be written (a full disk): logging prints a traceback for each line."""
    said: list[str] = []

    def handle_error(record: logging.LogRecord) -> None:
        if not said:
            reason = getattr(sys.exc_info()[1], 'strerror', None) or sys.exc_info()[1]
            said.append(f'warning: {log_file}: cannot be written ({reason}); training goes on')
            print(said[0], file=sys.stderr)

    return handle_error


class ConsoleHandler(logging.StreamHandler):
    """Writes to stdout what a person needs; a console that is gone (a closed pipe) does not disturb the run."""

    def __init__(self, level: int) -> None:
        super().__init__(sys.stdout)
        self.setLevel(level)
        self.setFormatter(_ConsoleFormatter())
        self.addFilter(_for_console)

    def handleError(self, record: logging.LogRecord) -> None:
        """As in logging, which prints a traceback, but for a closed pipe: the log file has the line."""
        if not isinstance(sys.exc_info()[1], BrokenPipeError):
            super().handleError(record)


class _ConsoleFormatter(logging.Formatter):
    """``12:30:45 message``; the level only where it is a warning or worse."""

    def __init__(self) -> None:
        super().__init__('%(asctime)s %(message)s', '%H:%M:%S')

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if record.levelno >= logging.WARNING:
            time, _, message = text.partition(' ')
            text = f'{time} {record.levelname.lower()}: {message}'
        return text


class FormattedConfig(Config):
    """A config whose text is made once, however often it is asked for: laying it out takes its time.

    Args:
        config: An mmengine config that no longer changes.
    """

    _last: ClassVar[tuple[str, str]] = ('', '')

    def __init__(self, config: Config) -> None:
        for name, value in vars(config).items():
            object.__setattr__(self, name, value)  # setattr() would make it a setting

    @property
    def pretty_text(self) -> str:
        """The config as Python code."""
        content = repr(self._cfg_dict)
        if FormattedConfig._last[0] != content:
            FormattedConfig._last = (content, super().pretty_text)
        return FormattedConfig._last[1]


def describe_environment() -> dict[str, Any]:
    """Versions and devices, without importing or starting what a run may not use."""
    return {
        'Python': sys.version.replace('\n', ' '),
        'platform': platform.platform(),
        'CUDA': torch.version.cuda,
        'GPUs': [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())],
        **versions(),
        'build of torch': ' '.join(torch.__config__.show().split()),
    }


@cache
def versions() -> dict[str, str]:
    """Versions of the packages of `PACKAGES` that are installed, without importing them, and of mlcls."""
    import mlcls

    found = {'mlcls': str(getattr(mlcls, '__version__', 'unknown'))}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def log_to_file(logger: logging.Logger, message: str) -> None:
    """Log details that would only bury what matters on a console."""
    logger.info(message, extra={'file_only': True})


def on_terminal() -> bool:
    """Whether a person watches the output."""
    return sys.stdout.isatty()
