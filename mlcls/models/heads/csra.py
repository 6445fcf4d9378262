"""Class-specific residual attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from mlcls.errors import ConfigError
from mlcls.models.base import InitCfg
from mlcls.models.heads.inputs import feature_map
from mlcls.models.heads.multi_label import LINEAR_INIT, MultiLabelClsHead
from mlcls.registry import MODELS

#: Temperatures of 1, 2, ... attention heads; the infinite one, which the paper writes as 99, is the maximum.
TEMPERATURES: dict[int, tuple[float, ...]] = {
    1: (1,),
    2: (1, math.inf),
    4: (1, 2, 4, math.inf),
    6: (1, 2, 3, 4, 5, math.inf),
    8: (1, 2, 3, 4, 5, 6, 7, math.inf),
}


class _Attention(nn.Module):
    """The classifier of one attention head, under the name that mmpretrain's checkpoints give it."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(in_channels, num_classes, 1, bias=False)


@MODELS.register_module()
class CSRAClsHead(MultiLabelClsHead):
    """Class-specific residual attention: the mean of each class over the map, plus what its own attention finds.

    Source: Zhu and Wu, "Residual Attention: A Simple but Effective Method for Multi-Label Recognition", ICCV 2021,
    arXiv 2108.02456, sections 3.1 and 3.3. Each attention head scores the places of the map by a 1x1 convolution
    without bias, weights of each class of length 1, ``S = w . x / |w|``, and gives ``mean S + lam sum_k softmax(T S)_k
    S_k``; the logit is the sum over heads. The T of the last of several heads is infinite: its sum is the maximum.
    Names of weights are mmpretrain's. Computed in float32 also under autocast.

    Args:
        num_classes: C, at least 1.
        in_channels: Channels of the feature maps; the model has no neck.
        num_heads: Attention heads: 1, 2, 4, 6 or 8.
        lam: Weight of the attention, at least 0; 0.1 on VOC 2007 and 0.5 on COCO in the paper.
        loss: Config of the loss.
        thr: See :class:`MultiLabelClsHead`.
        topk: See :class:`MultiLabelClsHead`.
        init_cfg: Initialisers.
        score: See :class:`MultiLabelClsHead`.

    Raises:
        ConfigError: ``num_classes`` or ``in_channels`` below 1, another ``num_heads``, ``lam`` below 0; features that
            are no maps, or of other channels.
    """

    temperatures: torch.Tensor

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        num_heads: int,
        lam: float,
        loss: dict[str, Any] | nn.Module | None = None,
        thr: float | None = None,
        topk: int | None = None,
        init_cfg: InitCfg = LINEAR_INIT,
        score: str = 'calibrated',
    ) -> None:
        super().__init__(loss, thr, topk, init_cfg, score)
        if num_heads not in TEMPERATURES:
            raise ConfigError(f'CSRAClsHead: num_heads must be 1, 2, 4, 6 or 8, got {num_heads}')
        if not 0 <= lam < math.inf:
            raise ConfigError(f'CSRAClsHead: lam must be at least 0, got {lam}')
        self.set_size(num_classes, in_channels)
        self.lam = lam
        self.num_heads = num_heads
        self.csra_heads = nn.ModuleList(_Attention(num_classes, in_channels) for _ in range(num_heads))
        finite = [t for t in TEMPERATURES[num_heads] if t < math.inf]
        self.register_buffer('temperatures', torch.tensor(finite, dtype=torch.float32).view(-1, 1, 1), persistent=False)

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Maps (N, in_channels, h, w) of the last stage to logits (N, C) float32."""
        with torch.autocast(features[-1].device.type, enabled=False):
            scores = self._scores(features).flatten(3)
            logits = scores.mean(3).sum(1)
            if not self.lam:
                return logits
            return logits + self.lam * self._attended(scores)

    def activation_maps(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Scores of each class at each place, summed over heads: (N, C, h, w) float32."""
        with torch.autocast(features[-1].device.type, enabled=False):
            return self._scores(features).sum(1)

    def _scores(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """S of all heads, (N, heads, C, h, w), by one convolution."""
        x = feature_map(features, self.in_channels, type(self).__name__).float()
        attentions: Any = self.csra_heads
        weight = torch.cat([attention.head.weight for attention in attentions])
        scores = F.conv2d(x, F.normalize(weight, dim=1))
        return scores.unflatten(1, (self.num_heads, self.num_classes))

    def _attended(self, scores: torch.Tensor) -> torch.Tensor:
        """The attention's part of the logits, (N, C), of scores (N, heads, C, places)."""
        soft = scores[:, : len(self.temperatures)]
        # One head has temperature 1 alone.
        sharp = soft if self.num_heads == 1 else soft * self.temperatures
        attended = (sharp.softmax(3) * soft).sum((1, 3))
        return attended if self.num_heads == 1 else attended + scores[:, -1].amax(2)
