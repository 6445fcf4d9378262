"""The table of losses that all tests here run over, and the small data set that they are fitted to.

A new loss adds a line to ``SETTINGS`` and its formula to ``reference.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mlcls.models.losses import MultiLabelLoss
from mlcls.registry import MODELS
from mlcls.structures import LabelMatrix, LabelStatistics

IMAGES, CLASSES = 12, 5

#: At least one config for every loss; several where settings change the formula.
SETTINGS: list[dict[str, Any]] = [
    dict(type='CrossEntropyLoss', use_sigmoid=True),
    dict(type='CrossEntropyLoss', use_sigmoid=True, pos_weight=[1, 2, 0.5, 3, 1], class_weight=[1, 0.25, 3, 1, 1]),
    dict(type='CrossEntropyLoss', use_sigmoid=True, pos_weight=2.0),
    dict(type='CrossEntropyLoss', use_sigmoid=True, pos_weight='auto', class_weight='balanced'),
    dict(type='CrossEntropyLoss', use_soft=True),
    dict(type='CrossEntropyLoss', use_soft=True, class_weight=[1, 0.25, 3, 1, 1]),
    dict(type='CrossEntropyLoss', use_softmax=True),
    dict(type='WeightedBCELoss'),
    dict(type='WeightedBCELoss', w_pos=3.0, w_neg=2.0),
    dict(type='MultiLabelSoftMarginLoss'),
    dict(type='MultiLabelSoftMarginLoss', weight=[1, 0.25, 3, 1, 1]),
    dict(type='LabelSmoothLoss'),
    dict(type='LabelSmoothLoss', mode='original', label_smooth_val=0.2),
    dict(type='LabelSmoothLoss', mode='classy_vision', label_smooth_val=0.2, num_classes=5),
    dict(type='FocalLoss'),
    dict(type='FocalLoss', gamma=0.5, alpha=0.7),
    dict(type='FocalLoss', gamma=0, alpha=0.5),
    dict(type='AsymmetricLoss'),
    dict(type='AsymmetricLoss', gamma_pos=1, gamma_neg=2, clip=0.0),
    dict(type='AsymmetricLoss', gamma_pos=0.5, gamma_neg=0.5, clip=0.2),
    dict(type='AsymmetricLoss', gamma_pos=1, gamma_neg=4, detach_weight=True),
    dict(type='ClassBalancedLoss'),
    dict(type='ClassBalancedLoss', beta=0.99, gamma=2.0),
    dict(type='DistributionBalancedLoss'),
    dict(type='DistributionBalancedLoss', mu=0.3, neg_scale=5.0, gamma=1.5),
    dict(type='HillLoss'),
    dict(type='HillLoss', lamb=2.0, margin=0.5, gamma=1.0),
    dict(type='FocalMarginLoss'),
    dict(type='FocalMarginLoss', unknown='unobserved', margin=0.5, gamma=1.0),
    dict(type='SPLCLoss'),
    dict(type='SPLCLoss', unknown='unobserved', tau=0.4, change_epoch=2),
    dict(type='LargeLoss', delta_rel=0.07),
    dict(type='LargeLoss', mode='correct_temporary', delta_rel=0.07),
    dict(type='LargeLoss', mode='correct_permanent', delta_rel=0.07),
    dict(type='LargeLoss', unknown='unobserved', delta_rel=0.07),
    dict(type='EntropyMaximizationLoss'),
    dict(type='EntropyMaximizationLoss', unknown='unobserved', alpha=0.2),
    dict(type='WeakAssumeNegativeLoss'),
    dict(type='WeakAssumeNegativeLoss', unknown='unobserved', gamma=0.3),
    dict(type='RoleLoss', expected_positives=1.5),
    dict(type='RoleLoss', epr_weight=2.0, unknown='unobserved'),
    dict(type='PartialAsymmetricLoss', likelihood_topk=1),
    dict(type='PartialAsymmetricLoss', mode='ignore', clip=0.05),
    dict(type='PartialAsymmetricLoss', mode='negative', gamma_pos=1, gamma_neg=2),
    dict(type='TwoWayLoss'),
    dict(type='TwoWayLoss', t_pos=1.0, t_neg=2.0),
    dict(type='ZLPRLoss'),
    dict(type='WeightedSum', losses=[dict(type='FocalLoss'), dict(type='HillLoss')], weights=[2.0, 0.5]),
]


def names(settings: list[dict[str, Any]]) -> list[str]:
    """Ids of tests that run over configs of the table."""
    return [
        f'{cfg["type"]}-{SETTINGS.index(cfg) if cfg in SETTINGS else number}' for number, cfg in enumerate(settings)
    ]


def every_loss(*wanted: str, without: tuple[str, ...] = ()) -> pytest.MarkDecorator:
    """Run a test with every config of the table (of the types ``wanted``, or all but those ``without``) as ``cfg``."""
    chosen = [cfg for cfg in SETTINGS if cfg['type'] not in without and (not wanted or cfg['type'] in wanted)]
    return pytest.mark.parametrize('cfg', chosen, ids=names(chosen))


def training_labels() -> np.ndarray:
    """Labels {1, 0, -1} of the training images, int8 (IMAGES, CLASSES); all classes have positives and negatives."""
    rng = np.random.default_rng(7)
    labels = (rng.random((IMAGES, CLASSES)) < [0.6, 0.4, 0.3, 0.2, 0.1]).astype(np.int8)
    labels[rng.random(labels.shape) < 0.1] = -1
    labels[0], labels[1], labels[2] = 1, 0, [1, 0, 0, -1, 0]
    return labels


def build(cfg: dict[str, Any], labels: np.ndarray | None = None, draws: np.ndarray | None = None) -> MultiLabelLoss:
    """A loss in float64, ready for training as a run makes it."""
    labels = training_labels() if labels is None else labels
    loss = MODELS.build(dict(cfg))
    parts = [module for module in loss.modules() if isinstance(module, MultiLabelLoss)]
    for part in parts:
        part.set_classes(labels.shape[1])
    loss.double()
    for part in parts:
        part.fit(LabelStatistics(LabelMatrix.from_dense(labels), draws))
    return loss


def call(loss: MultiLabelLoss, logits: torch.Tensor, targets: torch.Tensor, **options: Any) -> torch.Tensor:
    """Loss of a batch of the first images of the data set."""
    return loss(logits, targets, index=torch.arange(len(logits)), **options)


def gradient(loss: MultiLabelLoss, logits: torch.Tensor, targets: torch.Tensor, **options: Any) -> torch.Tensor:
    """Gradient by the logits; of the sum where the loss has one."""
    logits = logits.detach().clone().requires_grad_()
    total = call(loss, logits, targets, **options)
    return torch.autograd.grad(total.sum(), logits)[0]


def summed(loss: MultiLabelLoss) -> dict[str, Any]:
    """Options of a call that give the sum of the losses, or for a loss of the batch its only value."""
    return {} if loss.unit == 'batch' else {'reduction_override': 'sum'}


def example(kind: str, seed: int = 1, images: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and targets, float64 (images, CLASSES): hard, soft or partly unknown ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (images, CLASSES))
    targets = rng.integers(0, 2, logits.shape).astype(float)
    if kind == 'soft':
        targets = np.where(rng.random(logits.shape) < 0.6, rng.random(logits.shape), targets)
    if kind == 'unknown':
        targets[rng.random(logits.shape) < 0.3] = -1
        targets[0] = -1
    return torch.tensor(logits), torch.tensor(targets)
