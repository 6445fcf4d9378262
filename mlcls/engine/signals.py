"""Signals that ask a run to stop: it finishes its step, saves and ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

#: Exit code of a run that was asked to stop and has saved: EX_TEMPFAIL of sysexits.h, "try again later".
EXIT_STOPPED = 75
#: Exit code after Ctrl-C, as of a shell.
EXIT_INTERRUPTED = 130
#: Signals of schedulers: SIGTERM at preemption and scancel, SIGUSR1 ahead of a time limit (Slurm's --signal).
STOPPING = (signal.SIGTERM, signal.SIGUSR1)


class StopSignals:
    """Within it, SIGTERM, SIGUSR1 and Ctrl-C are noted instead of ending the process.

    A second Ctrl-C ends it at once. Outside the main thread, where Python allows no handlers, nothing is changed.

    Args:
        ask: Called in the signal handler, when a signal has come.
    """

    def __init__(self, ask: Callable[[], None]) -> None:
        self._ask = ask
        #: Name of the first signal that came, such as ``'SIGTERM'``; None so far.
        self.received: str | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (*STOPPING, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received is not None:
            raise KeyboardInterrupt
        if self.received is None:
            self.received = signal.Signals(number).name
        self._ask()

    @property
    def exit_code(self) -> int:
        """What the command ends with."""
        return EXIT_INTERRUPTED if self.received == 'SIGINT' else EXIT_STOPPED
