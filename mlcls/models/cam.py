"""Class activation maps: where in an image the network sees a label.

Grad-CAM (Selvaraju et al., arXiv 1610.02391, section 3), Grad-CAM++ (Chattopadhay et al., arXiv 1710.11063, equations
10, 11 and 19) and LayerCAM (Jiang et al., DOI 10.1109/TIP.2021.3089943, equations 6 to 8) weight the channels A_k of
the last feature map by the gradient g of the label's logit and sum them; what speaks against the label is left out:

- Grad-CAM: relu(sum_k w_k A_k), w_k the mean of g_k over the places;
- Grad-CAM++: the same with w_k = sum over places of a * relu(g_k), a = g^2 / (2 g^2 + g^3 * sum over places of A_k);
- LayerCAM: relu(sum_k relu(g_k) A_k), a weight for every place.

Heads that see the places apart (attention) have ``activation_maps`` of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch

from mlcls.errors import ConfigError, did_you_mean
from mlcls.models.necks import GeneralizedMeanPooling, GlobalAveragePooling, GlobalMaxPooling

Method = Literal['auto', 'gradcam', 'gradcam++', 'layercam', 'attention']
METHODS: tuple[Method, ...] = ('auto', 'gradcam', 'gradcam++', 'layercam', 'attention')
#: Copies of a feature map, one a label, that go through neck and head together.
CHUNK = 64
#: Necks behind which there are no places any more.
POOLS = (GeneralizedMeanPooling, GlobalAveragePooling, GlobalMaxPooling)


class Seen(NamedTuple):
    """What the network makes of a batch of images: ``logits`` (N, C) and the backbone's ``features``."""

    logits: torch.Tensor
    features: tuple[torch.Tensor, ...]


def check_method(method: str) -> None:
    """Refuse an unknown method.

    Raises:
        ConfigError: It is none of `METHODS`.
    """
    if method not in METHODS:
        raise ConfigError(f"there is no method '{method}' of activation maps{did_you_mean(method, METHODS)}")


def method_for(model: Any, method: str = 'auto') -> str:
    """The method that is really used: ``'auto'`` is the head's own maps if it has any, else Grad-CAM.

    A head that takes maps or vectors has maps of its own only of maps, not behind a neck that pools them.

    Raises:
        ConfigError: Unknown method, or ``'attention'`` and the head has no maps of its own.
    """
    check_method(method)
    own = hasattr(model.head, 'activation_maps')
    if method == 'auto':
        return 'attention' if own and not isinstance(model.neck, POOLS) else 'gradcam'
    if method == 'attention' and own and isinstance(model.neck, POOLS):
        raise ConfigError(
            f"method 'attention': {type(model.head).__name__} stands behind a neck that pools, where it has no maps of "
            'its own; choose gradcam, gradcam++ or layercam'
        )
    if method == 'attention' and not own:
        raise ConfigError(
            f"method 'attention': {type(model.head).__name__} has no maps of its own; choose gradcam, gradcam++ or "
            'layercam'
        )
    return method


@torch.no_grad()
def look(model: Any, images: torch.Tensor) -> Seen:
    """Run the network once.

    Args:
        model: An ``ImageClassifier`` with a head, in evaluation mode.
        images: Normalised, (N, 3, H, W).
    """
    features = tuple(model.backbone(images))
    return Seen(_logits(model, features), features)


def activation_maps(
    model: Any, seen: Seen, images: Sequence[int], labels: Sequence[int], method: str = 'auto'
) -> torch.Tensor:
    """Maps of pairs of an image and a label. The backbone does not run again, and no weight gets a gradient.

    Args:
        model: The network that `look` was given, in evaluation mode.
        seen: What `look` gave.
        images: Numbers of the images in the batch.
        labels: Numbers of the classes, one for each of ``images``.
        method: One of `METHODS`.

    Returns:
        float32 (pairs, h, w), of the size of the last feature map, or as the head gives them. Those by gradients are
        at least 0.

    Raises:
        ConfigError: Unknown method, the backbone gives no maps, or the head's logits have no gradient.
    """
    method = method_for(model, method)
    if not len(labels):
        return torch.zeros(0, 1, 1)
    if method == 'attention':
        return _own_maps(model, seen, images, labels)
    if seen.features[-1].dim() != 4:
        raise ConfigError(
            f'{type(model.backbone).__name__} gives no feature map but {tuple(seen.features[-1].shape)}; there is '
            'nothing to show'
        )
    parts = [
        _by_gradient(model, seen, images[start : start + CHUNK], labels[start : start + CHUNK], method)
        for start in range(0, len(labels), CHUNK)
    ]
    return torch.cat(parts)


@torch.no_grad()
def _own_maps(model: Any, seen: Seen, images: Sequence[int], labels: Sequence[int]) -> torch.Tensor:
    features = seen.features if model.neck is None else model.neck(seen.features)
    rows = torch.as_tensor(sorted(set(images)), device=seen.logits.device)
    maps = model.head.activation_maps(tuple(feature[rows] for feature in features)).float()
    place = {int(row): number for number, row in enumerate(rows.tolist())}
    return torch.stack([maps[place[image], label] for image, label in zip(images, labels)])


def _by_gradient(model: Any, seen: Seen, images: Sequence[int], labels: Sequence[int], method: str) -> torch.Tensor:
    features = [feature[list(images)].detach() for feature in seen.features]
    shown = features[-1].requires_grad_()
    # cuDNN's recurrent layers have no backward pass in evaluation mode.
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
        logits = _logits(model, tuple(features))
        if not logits.requires_grad:
            raise ConfigError(
                f'the logits of {type(model.head).__name__} have no gradient, so there is no map of this kind'
                + ('; choose method attention' if hasattr(model.head, 'activation_maps') else '')
            )
        chosen = logits[range(len(labels)), list(labels)].sum()
        gradient = torch.autograd.grad(chosen, shown, allow_unused=True)[0]
    values = shown.detach().float()
    gradient = torch.zeros_like(values) if gradient is None else gradient.float()
    return (_weights(values, gradient, method) * values).sum(dim=1).relu()


def _weights(values: torch.Tensor, gradient: torch.Tensor, method: str) -> torch.Tensor:
    """Weights of the channels, (n, K, 1, 1), or of each place of each, (n, K, h, w)."""
    if method == 'gradcam':
        return gradient.mean(dim=(2, 3), keepdim=True)
    if method == 'layercam':
        return gradient.relu()
    # The paper's derivatives are those of exp(logit); that factor is the same in numerator and denominator. They are
    # divided by g^2: small gradients keep their digits.
    below = 2 + gradient * values.sum(dim=(2, 3), keepdim=True)
    share = torch.where((gradient != 0) & (below != 0), 1 / below, torch.zeros_like(below))
    return (share * gradient.relu()).sum(dim=(2, 3), keepdim=True)


def _logits(model: Any, features: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return model.head(features if model.neck is None else model.neck(features))


def to_unit(maps: torch.Tensor, own_zero: bool) -> torch.Tensor:
    """Scale each map to [0, 1].

    Args:
        maps: (n, h, w).
        own_zero: 0 means nothing and stays 0 (maps by gradients); False takes each map's least value as 0.

    Returns:
        float32 (n, h, w); a map without differences is 0 everywhere.
    """
    maps = maps.float()
    if not own_zero:
        maps = maps - maps.amin(dim=(1, 2), keepdim=True)
    highest = maps.amax(dim=(1, 2), keepdim=True)
    return torch.where(highest > 0, maps / highest.clamp_min(torch.finfo(torch.float32).tiny), torch.zeros_like(maps))
