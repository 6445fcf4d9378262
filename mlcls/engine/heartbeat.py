"""Noticing that another process of a run no longer answers, when no closed connection tells of it."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from torch import distributed

#: Seconds between two signs of life.
INTERVAL = 5.0
_BYE = b'bye'


class Heartbeat:
    """Each rank gives a sign of life every few seconds, and ends where another has given none for long.

    A process that ends closes its connections, and the others hear of it. One whose machine lost power, whose network
    was cut or which hangs says nothing: the others would wait until the timeout of their collectives, half an hour. The
    signs come from a thread of their own, which goes on while a rank compiles, validates or waits.

    Args:
        store: What ranks exchange keys by; used by this alone.
        rank: Of this process.
        world_size: Number of processes.
        patience: Seconds without a sign after which a rank is taken for lost, above 0. Time in which this process
            itself is held (SIGSTOP) does not count.
        lost: Called, in a thread, with the lost ranks. None: say so, and end the process with code 2; the main thread
            waits inside a library, where no error can reach it.
        interval: Seconds between two signs.
    """

    def __init__(
        self,
        store: Any,
        rank: int,
        world_size: int,
        patience: float,
        lost: Callable[[list[int]], None] | None = None,
        interval: float = INTERVAL,
    ) -> None:
        self._store, self._rank, self._patience, self._interval = store, rank, patience, interval
        self._lost = lost or self._end
        self._others = [other for other in range(world_size) if other != rank]
        self._silence = dict.fromkeys(self._others, 0.0)
        self._last: dict[int, bytes] = {}
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=target, name='mlcls-heartbeat', daemon=True) for target in (self._beat, self._watch)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Say good-bye, so that nobody misses this rank, and end."""
        self._over.set()
        for thread in self._threads:
            thread.join(self._interval)

    def _beat(self) -> None:
        number = 0
        try:
            while True:
                number += 1
                self._store.set(f'beat/{self._rank}', _BYE if self._over.is_set() else str(number))
                if self._over.is_set():
                    return
                for other in [rank for rank in self._others if self._store.check([f'beat/{rank}'])]:
                    said = self._store.get(f'beat/{other}')
                    if said != self._last.get(other):
                        self._last[other], self._silence[other] = said, 0.0
                self._over.wait(self._interval)
        except Exception:  # the store was closed, and with it connections that tell of the loss
            self._over.set()

    def _watch(self) -> None:
        step = min(1.0, self._patience / 4)
        while not self._over.wait(step):
            for other in self._others:
                self._silence[other] += step
            lost = [
                other
                for other in self._others
                if self._silence[other] > self._patience and self._last.get(other) != _BYE
            ]
            if lost:
                self._over.set()
                self._lost(lost)

    def _end(self, lost: list[int]) -> None:
        ranks = ', '.join(map(str, lost))
        print(
            f'[rank {self._rank}] error: another process of this run is gone, or hangs: rank {ranks} has given no sign '
            f'of life for {self._patience:g} seconds (its machine or network is lost, or it was stopped). Nothing '
            'saved is lost: start again with --resume, or let torchrun do so (--max-restarts)',
            file=sys.stderr,
            flush=True,
        )
        os._exit(2)


def start_heartbeat(patience: float) -> Heartbeat | None:
    """Watch over the other ranks of the process group; None if there are none.

    Args:
        patience: Seconds, above 0.
    """
    if distributed.get_world_size() == 1:
        return None
    store = distributed.distributed_c10d._get_default_store().clone()
    heartbeat = Heartbeat(store, distributed.get_rank(), distributed.get_world_size(), patience)
    heartbeat.start()
    return heartbeat
