"""What a model takes from the labels of its training data: weights of classes, biases, memories of losses."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mlcls.errors import CheckpointError
from mlcls.models.heads import MultiLabelClsHead
from mlcls.models.losses import MultiLabelLoss
from mlcls.structures import LabelStatistics


def losses_of(model: nn.Module) -> dict[str, MultiLabelLoss]:
    """All losses in a model, by their names in it."""
    return {name: module for name, module in model.named_modules() if isinstance(module, MultiLabelLoss)}


def fit_losses(model: nn.Module, statistics: LabelStatistics) -> list[str]:
    """Fill the settings of losses that come from the training labels; before the model is wrapped and optimised.

    Args:
        model: The classifier.
        statistics: Of its training labels.

    Returns:
        A sentence for each setting, with the values used.
    """
    return [
        f'{loss.name}: {name} from the training labels: {_shown(values)}'
        for loss in losses_of(model).values()
        for name, values in loss.fit(statistics).items()
    ]


def fit_heads(model: nn.Module, statistics: LabelStatistics) -> list[str]:
    """Let heads take what they need from the training labels; before weights are filled, wrapped and optimised.

    Args:
        model: The classifier.
        statistics: Of its training labels.

    Returns:
        A sentence for each thing taken.

    Raises:
        ConfigError: The labels are of a kind that a head cannot work with.
    """
    heads: list[Any] = [module for module in model.modules() if isinstance(module, MultiLabelClsHead)]
    return [
        f'{type(head).__name__}: {name} from the training labels: {_shown(values)}'
        for head in heads
        if hasattr(head, 'fit')
        for name, values in head.fit(statistics).items()
    ]


def start_biases(model: nn.Module, statistics: LabelStatistics) -> list[str]:
    """Set the biases of heads that start at the share of positives; after the weights are initialised.

    Args:
        model: The classifier.
        statistics: Of its training labels.

    Returns:
        A sentence for each head, with the values used.
    """
    heads: list[Any] = [module for module in model.modules() if hasattr(module, 'start_bias')]
    return [
        f'{type(head).__name__}: {name} from the training labels: {_shown(values)}'
        for head in heads
        for name, values in head.start_bias(statistics).items()
    ]


def training_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """What losses remember of every training image, by name; kept in checkpoints beside the weights."""
    return {
        f'{prefix}.{name}': getattr(loss, name).detach()
        for prefix, loss in losses_of(model).items()
        for name in loss.training_state
    }


def load_training_state(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Take up what :func:`training_state` gave; what the state does not have stays as it is.

    Raises:
        CheckpointError: It is of another number of images or classes.
    """
    for prefix, loss in losses_of(model).items():
        for name in loss.training_state:
            own, stored = getattr(loss, name), state.get(f'{prefix}.{name}')
            if stored is None:
                continue
            if own.shape != stored.shape:
                raise CheckpointError(
                    f'{loss.name}: the checkpoint remembers {tuple(stored.shape)} labels (images, classes), the '
                    f'training data have {tuple(own.shape)}; resume with the data that it was trained on'
                )
            own.data.copy_(stored)


def _shown(values: torch.Tensor) -> str:
    if values.numel() <= 12:
        return ', '.join(f'{value:.3g}' for value in values.flatten().tolist())
    return f'{values.numel()} values from {values.min():.3g} to {values.max():.3g}, median {values.median():.3g}'
