"""One training step, also where a batch does not fit into memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from mlcls.engine.optim import OptimWrapper
from mlcls.engine.random_state import seed_step
from mlcls.errors import TrainingError
from mlcls.structures import Batch

if TYPE_CHECKING:
    from mlcls.engine.runner import Runner


class TrainStep:
    """Takes a batch to an optimiser step by the model's ``train_step``.

    Args:
        runner: The run.
        halve: Where memory does not suffice, work on a batch in halves, quarters and so on, from then on. Losses and
            gradients of the parts are averaged; batch normalisation sees the parts, so that results differ a little.
    """

    def __init__(self, runner: Runner, halve: bool = False) -> None:
        self._runner, self._halve = runner, halve
        #: How many parts a batch is worked on in.
        self.parts = 1

    def __call__(self, batch: Batch) -> dict[str, Any]:
        """Train on a batch.

        Returns:
            What the model gives to be logged, 0-d tensors on the device, and ``grad_norm`` where a step was made, one
            of these or a number.

        Raises:
            TrainingError: Memory does not suffice.
        """
        runner, wrapper = self._runner, self._runner.optim_wrapper
        iteration = runner.iter
        if getattr(wrapper, 'guard', None) is not None:
            wrapper.guard.iteration = iteration
        while True:
            seed_step(runner.seed or 0, iteration, runner.rank)
            try:
                outputs = self._in_parts(batch) if self.parts > 1 else self._whole(batch)
                break
            except torch.OutOfMemoryError as error:
                self._make_smaller(batch, error)
        norm = getattr(wrapper, 'grad_norm', None)
        return outputs if norm is None or not wrapper.should_update() else {**outputs, 'grad_norm': norm}

    def _whole(self, batch: Any) -> dict[str, Any]:
        return self._runner.model.train_step(batch, optim_wrapper=self._runner.optim_wrapper)

    def _in_parts(self, batch: Batch) -> dict[str, Any]:
        total: dict[str, Any] = {}
        images = len(batch['index'])
        pieces = _split(batch, self.parts)
        for number, piece in enumerate(pieces):
            share = len(piece['index']) / images
            with self._runner.optim_wrapper.part(share, number == len(pieces) - 1):
                outputs = self._whole(piece)
            for name, value in outputs.items():
                value = value.detach() * share
                total[name] = total[name] + value if name in total else value
        return total

    def _make_smaller(self, batch: Batch, error: torch.OutOfMemoryError) -> None:
        """Work in twice as many parts, or say what can be done.

        Raises:
            TrainingError: Nothing can be, here.
        """
        runner, images = self._runner, len(batch['index'])
        wrapper = runner.optim_wrapper
        advice = (
            f'out of memory with {-(-images // self.parts)} images at a time ({str(error).splitlines()[0][:120]}): '
            'lower train_dataloader.batch_size and raise optim_wrapper.accumulative_counts by as much, train in mixed '
            'precision (--amp), recompute activations (model.backbone.with_cp=True), or let the run halve batches by '
            "itself (train_cfg.out_of_memory='halve')"
        )
        if not self._halve or runner.world_size > 1 or not isinstance(wrapper, OptimWrapper):
            if self._halve and runner.world_size > 1:
                advice += '; batches are not halved with several processes, which would wait for each other'
            raise TrainingError(advice) from None
        if self.parts >= images:
            raise TrainingError(f'out of memory with a single image: {advice}') from None
        if wrapper.in_cycle:
            raise TrainingError(f'inside a cycle of accumulation, whose gradients are lost: {advice}') from None
        wrapper.zero_grad()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.parts *= 2
        runner.logger.warning(
            f'out of memory: from here on a batch of {images} is worked on in {self.parts} parts, whose gradients are '
            'averaged; training goes on'
        )


def _split(batch: Batch, parts: int) -> list[Batch]:
    pieces = {name: value.tensor_split(parts) for name, value in batch.items()}  # type: ignore[attr-defined]
    split = [dict(zip(pieces, values)) for values in zip(*pieces.values())]
    return [piece for piece in split if len(piece['index'])]  # type: ignore[misc]
