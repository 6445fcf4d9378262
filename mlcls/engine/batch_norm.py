"""Statistics of batch normalisation computed anew, for weights that were averaged or that have just been trained."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def trained_norms(model: nn.Module) -> list[_BatchNorm]:
    """The batch normalisations whose statistics follow the data in training; frozen ones are left out."""
    with _modes_kept(model):
        model.train()
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        return [norm for norm in norms if norm.training and norm.running_mean is not None]


@torch.no_grad()
def reestimate_batch_norm(
    model: nn.Module,
    batches: Iterable[torch.Tensor],
    num_batches: int | None = None,
    norms: Sequence[_BatchNorm] | None = None,
) -> int:
    """Replace the running statistics of batch normalisation by exact ones.

    Running statistics are a moving average over weights that have changed since, and do not belong to averaged weights
    at all. Here the weights stand still: mean and (unbiased) variance of a layer become those of all values it sees in
    the batches, over all ranks, while it normalises by the statistics of each batch as in training (Wu and Johnson,
    "Rethinking Batch in BatchNorm", arXiv 2105.07576, section 3; Izmailov et al., arXiv 1803.05407, section 3.2).
    ``torch.optim.swa_utils.update_bn`` instead averages the variances of batches, whatever their sizes and without the
    spread of their means, on one rank, and with dropout on.

    Everything else is in evaluation mode meanwhile, so that nothing is drawn at random; weights, modes and momenta are
    left as they were. Layers that training keeps fixed (``norm_eval``, frozen stages) are not changed.

    Args:
        model: Called with each batch; not a distributed wrapper.
        batches: What the model takes, such as normalised images (N, 3, H, W) on its device. Equally many on all ranks
            only if the normalisation is synchronised.
        num_batches: Stop after so many, at least 1; None takes all.
        norms: Layers of the model that get new statistics; None takes :func:`trained_norms`.

    Returns:
        Number of batches seen on this rank. Without any, on any rank, nothing is changed.
    """
    norms = trained_norms(model) if norms is None else norms
    if not norms:
        return 0
    with _modes_kept(model), _summed(norms) as sums:
        model.eval()
        for norm in norms:
            norm.train()
        seen = 0
        for batch in batches:
            model(batch)
            seen += 1
            if seen == num_batches:
                break
    total = torch.cat([norm_sums.flatten() for norm_sums in sums])
    all_reduce(total, op='sum')
    for norm, part in zip(norms, total.split([3 * norm.num_features for norm in norms])):
        count, first, second = part.view(3, -1)
        if bool((count > 1).all()):
            mean = first / count
            norm.running_mean.copy_(mean)  # type: ignore[union-attr]
            norm.running_var.copy_((second - count * mean.square()) / (count - 1))  # type: ignore[union-attr]
    return seen


@contextmanager
def _summed(norms: Sequence[_BatchNorm]) -> Iterator[list[torch.Tensor]]:
    """Sum up what layers see, for each a float64 (3, features): values, their sum, the sum of their squares.

    A momentum of 1 makes the running statistics those of the last batch, which costs no pass of our own over the maps.
    """
    kept = [(norm.momentum, {name: value.clone() for name, value in norm._buffers.items()}) for norm in norms]  # type: ignore[union-attr]
    sums, handles = [], []
    for norm in norms:
        sums.append(torch.zeros(3, norm.num_features, dtype=torch.float64, device=norm.running_mean.device))  # type: ignore[union-attr]
        handles.append(norm.register_forward_hook(_adder(sums[-1])))
        norm.momentum = 1.0
        norm.reset_running_stats()  # what is not finite would stay so
    try:
        yield sums
    finally:
        for norm, handle, (momentum, buffers) in zip(norms, handles, kept):
            handle.remove()
            norm.momentum = momentum
            for name, value in buffers.items():
                norm._buffers[name].copy_(value)  # type: ignore[union-attr]


def _adder(sums: torch.Tensor) -> Any:
    def add(norm: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        count = inputs[0].numel() // inputs[0].shape[1]
        mean, variance = norm.running_mean.double(), norm.running_var.double()
        sums[0] += count
        sums[1] += count * mean
        sums[2] += (count - 1) * variance + count * mean.square()

    return add


@contextmanager
def _modes_kept(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def random_state_kept(*generators: torch.Generator | None) -> Iterator[None]:
    """Put all random states (Python, NumPy, torch, and the given generators) back at the end."""
    python, numpy = random.getstate(), np.random.get_state()
    own = [(generator, generator.get_state()) for generator in generators if generator is not None]
    with torch.random.fork_rng(range(torch.cuda.device_count()) if torch.cuda.is_available() else []):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
            for generator, state in own:
                generator.set_state(state)
