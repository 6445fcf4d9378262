"""What is known of a step whose loss or gradient was not finite."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mlcls.datasets import innermost
from mlcls.engine.batch_norm import random_state_kept
from mlcls.engine.checkpoint import unwrap
from mlcls.fileio import write_json
from mlcls.models.fitting import training_state


def write_report(runner: Any, iteration: int, batch: Any = None) -> str:
    """Run the network again on the batch of a step, and write down what is found; each rank for its own batch.

    Batch augmentations, which are drawn anew, may differ from those of the step.

    Args:
        runner: The run, in the epoch of the step.
        iteration: Of the step, from 0.
        batch: The batch, if it is at hand; otherwise it is loaded again.

    Returns:
        A sentence on where the report is and what it says; or why there is none.
    """
    rank = f'_rank_{runner.rank}' if runner.world_size > 1 else ''
    path = Path(runner.work_dir) / f'nonfinite_iter_{iteration + 1}{rank}.json'
    try:
        report = _examine(runner, iteration - runner.epoch * len(runner.train_dataloader), batch)
        write_json(path, {'iteration': iteration + 1, 'epoch': runner.epoch + 1, **report})
    except Exception as error:  # the run ends by the reason itself, not by what looks for its cause
        return f'the batch could not be examined ({error})'
    where = f'; first not finite: {report["first_not_finite"]}' if report['first_not_finite'] else ''
    return f'{path.name} names the {len(report["images"])} images of the batch and describes the tensors{where}'


def _examine(runner: Any, number: int, batch: Any) -> dict[str, Any]:
    loader, model = runner.train_dataloader, unwrap(runner.model)
    inner = innermost(loader.dataset)
    with random_state_kept(getattr(loader, 'generator', None)):
        if batch is None:
            batch = loader.dataset.__getitems__(next(islice(iter(loader.batch_sampler), number, None)))
        name_of = getattr(inner, 'img_path', lambda index: f'image {index}')
        images = [os.path.normpath(name_of(int(index))) for index in batch['index']]
        synchronised = any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())
        is_sharded = any(hasattr(parameter, 'full_tensor') for parameter in model.parameters())
        # Other ranks do not take part.
        tensors, losses = ([], {}) if synchronised or is_sharded else _watch(runner, model, batch)
    bad = [entry['name'] for entry in tensors if entry['not_finite']]
    weights = [_describe(name, value) for name, value in model.named_parameters()]
    return {
        'images': images,
        'losses': losses,
        'first_not_finite': bad[0] if bad else '',
        'tensors': tensors,
        'weights': weights,
    }


@torch.no_grad()
def _watch(runner: Any, model: Any, batch: Any) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Statistics of the network's input and of what each layer gives."""
    tensors: list[dict[str, Any]] = []
    states = {**dict(model.named_buffers()), **training_state(model)}
    kept = {name: value.clone() for name, value in states.items()}
    handles = [
        module.register_forward_hook(lambda _, __, output, name=name: tensors.append(_describe(name, output)))
        for name, module in model.named_modules()
        if name and not list(module.children()) and isinstance(module, nn.Module)
    ]
    try:
        with runner.optim_wrapper.optim_context(model):
            data = model.data_preprocessor(batch, True)
            tensors.append(_describe('inputs', data['inputs']))
            losses = model(**data, mode='loss')
    finally:
        for handle in handles:
            handle.remove()
        for name, value in states.items():
            value.copy_(kept[name])
    return tensors, {name: str(value.float().mean().item()) for name, value in losses.items()}


def _describe(name: str, value: Any) -> dict[str, Any]:
    """Shape and range of a tensor; numbers as text, since JSON has no NaN."""
    if not isinstance(value, torch.Tensor) or not value.is_floating_point() or not value.numel():
        return {'name': name, 'not_finite': 0}
    value = value.detach().float()
    value = value.to_local() if hasattr(value, 'to_local') else value  # of weights shared out, the part on this rank
    finite = value[torch.isfinite(value)]
    numbers = {'min': finite.min(), 'max': finite.max(), 'mean': finite.mean()} if finite.numel() else {}
    return {
        'name': name,
        'shape': list(value.shape),
        'not_finite': int(value.numel() - finite.numel()),
        **{key: f'{found.item():.6g}' for key, found in numbers.items()},
    }
