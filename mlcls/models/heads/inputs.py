"""What heads take from backbone and neck, with messages that say which setting to change."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mlcls.errors import ConfigError


def _check_channels(feature: torch.Tensor, in_channels: int) -> None:
    if feature.shape[1] != in_channels:
        raise ConfigError(
            f'the backbone gives {feature.shape[1]} channels, the head takes {in_channels}; set '
            f'model.head.in_channels={feature.shape[1]}'
        )


def feature_vector(features: Sequence[torch.Tensor], in_channels: int, head: str) -> torch.Tensor:
    """The vectors of the last stage.

    Args:
        features: Output of backbone and neck.
        in_channels: Length that the head takes.
        head: Name of the head, for the message.

    Returns:
        (N, in_channels).

    Raises:
        ConfigError: The features are maps, or of another length.
    """
    feature = features[-1]
    if feature.dim() != 2:
        raise ConfigError(
            f'{head} takes feature vectors, got a map of shape {tuple(feature.shape)}; '
            "add neck=dict(type='GlobalAveragePooling') to the model"
        )
    _check_channels(feature, in_channels)
    return feature


def feature_map(features: Sequence[torch.Tensor], in_channels: int, head: str) -> torch.Tensor:
    """The map of the last stage.

    Args:
        features: Output of the backbone.
        in_channels: Channels that the head takes.
        head: Name of the head, for the message.

    Returns:
        (N, in_channels, H, W).

    Raises:
        ConfigError: The features are pooled vectors, or of other channels.
    """
    feature = features[-1]
    if feature.dim() != 4:
        raise ConfigError(
            f'{head} takes feature maps, got vectors of shape {tuple(feature.shape)}; remove the neck: model.neck=None'
        )
    _check_channels(feature, in_channels)
    return feature


def check_targets(num_classes: int, targets: torch.Tensor) -> None:
    """Refuse labels of another number of classes than the head has.

    Args:
        num_classes: Logits of an image.
        targets: (N, C).

    Raises:
        ConfigError: They are of other classes.
    """
    if targets.shape[1] != num_classes:
        raise ConfigError(
            f'the head gives {num_classes} logits, the data have {targets.shape[1]} classes; set '
            f'model.head.num_classes={targets.shape[1]}'
        )
