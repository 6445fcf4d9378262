"""The table of heads that ``test_everywhere.py`` runs over. A new head adds a line to ``CASES``."""

from __future__ import annotations

import copy
import json
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import distributed, nn

from mlcls.models import ImageClassifier, MultiLabelClsHead
from mlcls.models.fitting import fit_heads, fit_losses
from mlcls.registry import MODELS
from mlcls.structures import LabelMatrix, LabelStatistics

CLASSES, CHANNELS = 5, 32
#: Of classes 0 and 1, and of 2 and 3, at most one is present; -1 is unknown.
LABELS = np.array(
    [
        [1, 0, 0, 1, 0], [0, 1, 0, 0, 1], [0, 0, 1, 0, 1], [1, 0, 1, 0, 0], [0, 1, 0, 1, 1], [0, 0, 0, 0, 0],
        [1, 0, 0, 1, 1], [0, 1, 1, 0, 0], [0, -1, 0, 1, -1], [1, 0, -1, -1, 0], [0, 0, 1, 0, 0], [1, 0, 0, 0, 1],
    ],
    np.int8,
)  # fmt: skip
STATISTICS = LabelStatistics(LabelMatrix.from_dense(LABELS))


class Case(NamedTuple):
    """A head to test.

    Args:
        settings: Its config without sizes; dropout off, so that results can be compared.
        takes: ``'map'`` or ``'vector'``.
    """

    settings: dict[str, Any]
    takes: str

    @property
    def name(self) -> str:
        """For the test's id."""
        rest = [str(value) for key, value in self.settings.items() if key != 'type' and isinstance(value, (str, int))]
        return '-'.join([self.settings['type'], self.takes, *rest])


_SMALL: dict[str, Any] = dict(embed_dims=16, num_heads=2, feedforward_channels=24, dropout=0.0)
_GROUPS = [dict(labels=[0, 1]), dict(labels=[2, 3])]
CASES = [
    Case(dict(type='MultiLabelClsHead'), 'vector'),
    Case(dict(type='MultiLabelLinearClsHead'), 'vector'),
    Case(dict(type='CSRAClsHead', num_heads=2, lam=0.1), 'map'),
    Case(dict(type='GCNHead', embedding_dims=6, hidden_dims=8), 'map'),
    Case(dict(type='GCNHead', embedding_dims=6, hidden_dims=8), 'vector'),
    Case(dict(type='MLDecoderHead', num_groups=3, **_SMALL), 'map'),
    Case(dict(type='Query2LabelHead', num_encoder_layers=1, num_decoder_layers=1, **_SMALL), 'map'),
    Case(dict(type='Query2LabelHead', label_self_attention=True, num_decoder_layers=2, **_SMALL), 'map'),
    Case(dict(type='ExclusiveGroupsHead', groups=_GROUPS), 'vector'),
    Case(dict(type='ClassifierChainHead'), 'vector'),
    Case(
        dict(type='ClassifierChainHead', inference='probabilistic', num_chains=2, num_samples=4, hidden_channels=6),
        'vector',
    ),
    Case(dict(type='LabelSequenceHead', decoder='gru', embed_dims=8, beam_size=2), 'vector'),
    Case(dict(type='LabelSequenceHead', decoder='transformer', embed_dims=8, inference='sequence'), 'vector'),
    Case(dict(type='LabelPowersetHead'), 'vector'),
    Case(dict(type='LabelPowersetHead', inference='joint'), 'vector'),
]
IDS = [case.name for case in CASES]


def config(case: Case, loss: dict[str, Any] | None = None) -> dict[str, Any]:
    """The config of a head of the test's sizes."""
    sizes = {} if case.settings['type'] == 'MultiLabelClsHead' else dict(num_classes=CLASSES, in_channels=CHANNELS)
    return {**copy.deepcopy(case.settings), **sizes, **({} if loss is None else {'loss': loss})}


def build(case: Case, loss: dict[str, Any] | None = None) -> MultiLabelClsHead:
    """A head fitted to the labels, with weights that are not small."""
    torch.manual_seed(0)
    head = MODELS.build(config(case, loss))
    fit_losses(head, STATISTICS)
    fit_heads(head, STATISTICS)
    _spread(head)
    return head


def _spread(module: nn.Module) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


def features(case: Case, number: int = 6, channels: int | None = None) -> tuple[torch.Tensor, ...]:
    """What the head takes, of so many images."""
    if channels is None:
        channels = CLASSES if case.settings['type'] == 'MultiLabelClsHead' else CHANNELS
    shape = (number, channels, 3, 3) if case.takes == 'map' else (number, channels)
    return (torch.randn(shape, generator=torch.Generator().manual_seed(2)),)


def targets(number: int = 6) -> torch.Tensor:
    """Labels of the last images, unknown ones among them."""
    return torch.from_numpy(LABELS[-number:])


def classifier(case: Case) -> nn.Module:
    """A whole network in evaluation mode, its normalisation at statistics that are not the first ones."""
    backbone = dict(type='ResNet', depth=18, base_channels=4, stem_channels=4)
    plain = case.settings['type'] == 'MultiLabelClsHead'  # its features are the logits: as many as there are channels
    neck = dict(type='GlobalAveragePooling') if case.takes == 'vector' else None
    torch.manual_seed(0)
    model = ImageClassifier(backbone, neck, config(case))
    if not plain:
        fit_heads(model, STATISTICS)
    _spread(model)
    return model.eval()


class LossOf(nn.Module):
    """A head as DDP wants it: its loss is its forward pass."""

    def __init__(self, head: MultiLabelClsHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, maps: torch.Tensor, labels: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """The sum of the losses."""
        return sum(self.head.loss([maps], labels, index).values())  # type: ignore[return-value]


def gradients(module: nn.Module) -> dict[str, torch.Tensor]:
    """By name; parameters without one are left out."""
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def two_steps(rank: int, case: Case) -> str:
    """Two steps under DDP, each compared with the joined batch in one process; what is wrong, or nothing."""
    head = build(case).train()
    alone = LossOf(copy.deepcopy(head))
    if not list(head.parameters()):
        return ''
    wrapped = nn.parallel.DistributedDataParallel(LossOf(head), broadcast_buffers=False)
    (maps,), labels, index = features(case), targets(), torch.arange(6)
    own = slice(3 * rank, 3 * rank + 3)
    for step in range(2):
        for module in (alone, wrapped):
            module.zero_grad(set_to_none=True)
        alone(maps, labels, index).backward()
        wrapped(maps[own], labels[own], index[own]).backward()
        expected, found = gradients(alone), gradients(wrapped.module)
        unused = [name for name, p in wrapped.module.named_parameters() if p.requires_grad and name not in found]
        if unused:
            return f'step {step}: without gradient: {unused}'
        for name in expected:
            if not torch.allclose(expected[name], found[name], rtol=1e-4, atol=1e-6):
                return f'step {step}: {name} differs by {(expected[name] - found[name]).abs().max():.2e}'
        with torch.no_grad():
            for module in (alone, wrapped):
                for parameter in module.parameters():
                    if parameter.grad is not None:
                        parameter.sub_(0.1 * parameter.grad)
    return ''


def work(rank: int, rendezvous: str, report: str) -> None:
    """One of two processes: all heads one after another; rank 0 writes what is wrong, by name."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        'gloo', init_method=f'file://{rendezvous}', rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    wrong = {}
    for case in CASES:
        try:
            wrong[case.name] = two_steps(rank, case)
        except Exception as error:
            wrong[case.name] = f'{type(error).__name__}: {error}'
    distributed.barrier()
    if rank == 0:
        Path(report).write_text(json.dumps(wrong))
    distributed.destroy_process_group()
