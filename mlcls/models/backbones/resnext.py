"""ResNeXt (Xie et al., "Aggregated Residual Transformations for Deep Neural Networks", arXiv 1611.05431)."""

from __future__ import annotations

from typing import Any

from mlcls.models.backbones.resnet import ResNet
from mlcls.registry import MODELS


@MODELS.register_module()
class ResNeXt(ResNet):
    """ResNet whose bottlenecks have grouped 3x3 convolutions.

    Args:
        depth: 50, 101 or 152.
        groups: Number of groups ("cardinality").
        width_per_group: Channels of a group in the first stage; doubled each stage.
        **others: Those of :class:`~mlcls.models.backbones.resnet.ResNet`.

    Raises:
        ConfigError: A depth without bottlenecks, or as for ResNet.
    """

    def __init__(self, depth: int, groups: int = 32, width_per_group: int = 4, **others: Any) -> None:
        super().__init__(depth, groups=groups, width_per_group=width_per_group, **others)
