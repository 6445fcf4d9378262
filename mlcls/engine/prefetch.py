"""Copies of batches to a GPU that overlap with computing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch


def prefetched(batches: Iterable[Any], device: torch.device) -> Iterator[Any]:
    """Hand batches through; to a GPU, the next one is copied while the network works on the present one.

    The copy runs on a stream of its own and, from pinned memory, beside the computation. Tensors come out on the
    device, ready for use on the current stream; ``index`` stays on the host, where hooks read it. On a CPU nothing is
    done.

    Args:
        batches: Dicts of tensors, or None for a batch without an image that can be used.
        device: Of the network.
    """
    if device.type != 'cuda':
        yield from batches
        return
    stream = torch.cuda.Stream(device)
    waiting: Any = None
    is_first = True
    for batch in batches:
        with torch.cuda.stream(stream):
            copied = batch if batch is None else _on(batch, device)
        if not is_first:
            yield waiting
        # The computation of what follows waits, on the device, for the copy; and the memory is not reused before that.
        torch.cuda.current_stream(device).wait_stream(stream)
        _belongs_to(copied, torch.cuda.current_stream(device))
        waiting, is_first = copied, False
    if not is_first:
        yield waiting


def _on(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    return {
        name: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) and name != 'index' else value
        for name, value in batch.items()
    }


def _belongs_to(batch: dict[str, Any] | None, stream: torch.cuda.Stream) -> None:
    for value in (batch or {}).values():
        if isinstance(value, torch.Tensor) and value.is_cuda:
            value.record_stream(stream)
