"""What training steps give and how long they take, gathered without making the host wait for the device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from time import perf_counter
from typing import TypeVar

import torch

Item = TypeVar('Item')


class StepMeter:
    """Means over the training steps since the last log line.

    Losses are summed on their device and read all at once, by `take`. Nothing is kept of steps that were logged, so
    that a step costs the same after a million of them.

    Args:
        world_size: Number of processes, at least 1; rates are over all of them.
    """

    def __init__(self, world_size: int = 1) -> None:
        self.world_size = world_size
        #: What the last log line said, by name; floats.
        self.last: dict[str, float] = {}
        self._run_seconds, self._run_steps = 0.0, 0
        self.restart()

    def restart(self) -> None:
        """Begin a new window; what was gathered and not logged is dropped."""
        self._sums: dict[str, torch.Tensor] = {}
        self._numbers: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._steps = self._images = 0
        self._elapsed = self._waited = 0.0
        self._began = perf_counter()

    def timed(self, batches: Iterable[Item]) -> Iterator[Item]:
        """Hand batches through, and note how long the loop waits for them and how long it uses them."""
        self._began = perf_counter()
        source = iter(batches)
        while True:
            asked = perf_counter()
            try:
                batch = next(source)
            except StopIteration:
                return
            self._waited += perf_counter() - asked
            yield batch
            self._pass_time()

    def _pass_time(self) -> None:
        now = perf_counter()
        self._elapsed += now - self._began
        self._began = now

    def add(self, values: Mapping[str, torch.Tensor | float], images: int) -> None:
        """Take in a step.

        Args:
            values: 0-d tensors on any device, or numbers.
            images: How many images it saw on this rank.
        """
        for name, value in values.items():
            if isinstance(value, torch.Tensor) and not value.is_cpu:
                self._add_on_device(name, value.detach())
            else:  # nobody waits for a number on the host
                number = value.item() if isinstance(value, torch.Tensor) else value
                self._numbers[name] = self._numbers.get(name, 0.0) + number
            self._counts[name] = self._counts.get(name, 0) + 1
        self._steps += 1
        self._images += images

    def _add_on_device(self, name: str, value: torch.Tensor) -> None:
        if name in self._sums:
            self._sums[name].add_(value)
        else:
            self._sums[name] = value.to(torch.float32, copy=True).reshape(())

    def take(self) -> dict[str, float]:
        """Means of all values, and ``time`` and ``data_time`` in seconds a step; a new window begins.

        The host waits here, once, for the steps so far.
        """
        names = list(self._sums)
        sums = self._numbers | dict(zip(names, _read([self._sums[name] for name in names])))
        found = {name: sums[name] / count for name, count in self._counts.items()}
        self._pass_time()
        steps = max(self._steps, 1)
        self._run_seconds += self._elapsed
        self._run_steps += self._steps
        found |= {
            'time': self._elapsed / steps,
            'data_time': self._waited / steps,
            'images_per_second': self._images * self.world_size / max(self._elapsed, 1e-9),
            'data_share': min(self._waited / max(self._elapsed, 1e-9), 1.0),
        }
        self.last = found
        self.restart()
        return found

    def rates(self) -> dict[str, float]:
        """Of the last window: ``images_per_second`` over all ranks, ``data_share`` (0 to 1, of the time waited for
        data) and ``seconds_per_step``; empty before the first log line."""
        if not self.last:
            return {}
        return {
            'images_per_second': self.last['images_per_second'],
            'data_share': self.last['data_share'],
            'seconds_per_step': self.last['time'],
        }

    @property
    def mean_seconds(self) -> float:
        """Seconds a step over all windows of this process; 0 before the first log line."""
        return self._run_seconds / self._run_steps if self._run_steps else 0.0


def _read(values: list[torch.Tensor]) -> list[float]:
    """Numbers of 0-d tensors, with one wait for each device."""
    if not values:
        return []
    if len({value.device for value in values}) > 1:
        return [value.item() for value in values]
    return torch.stack(values).tolist()
