"""Decisions that all ranks take at the same step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import distributed


class Agreement:
    """Lets every rank wish for something, and tells all of them at the same step that somebody did.

    A rank that gets a signal cannot stop alone: the others would wait for it for ever. Wishes are reduced over the
    ranks beside the training step, and a wish takes effect one step later on all ranks together, so that nobody waits.
    Alone, a wish takes effect at once.

    Args:
        names: What can be wished for.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        #: Wishes of this rank, taken away by the next `decide`. A signal handler may add to it.
        self.wishes: set[str] = set()
        self._several = distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
        self._group: Any = None
        self._pending: tuple[Any, torch.Tensor] | None = None
        if self._several and distributed.get_backend() != 'gloo':
            self._group = distributed.new_group(backend='gloo')  # on the host: a GPU is not to wait for it

    def decide(self) -> frozenset[str]:
        """What is agreed on at this step; to be called by all ranks equally often."""
        if not self._several:
            if not self.wishes:
                return frozenset()
            agreed = frozenset(self.wishes)
            self.wishes -= agreed
            return agreed
        agreed = self._finish()
        mine = frozenset(self.wishes)
        self.wishes -= mine
        votes = torch.tensor([name in mine for name in self.names], dtype=torch.uint8)
        work = distributed.all_reduce(votes, distributed.ReduceOp.MAX, group=self._group, async_op=True)
        self._pending = (work, votes)
        return agreed

    def settle(self) -> frozenset[str]:
        """Wait for what is under way, as at the end of an epoch; by all ranks together."""
        agreed = self.decide()
        return agreed | self._finish() if self._several else agreed

    def _finish(self) -> frozenset[str]:
        if self._pending is None:
            return frozenset()
        (work, votes), self._pending = self._pending, None
        work.wait()
        return frozenset(name for name, vote in zip(self.names, votes.tolist()) if vote)
