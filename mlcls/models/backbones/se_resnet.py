"""SE-ResNet and SE-ResNeXt (Hu et al., "Squeeze-and-Excitation Networks", arXiv 1709.01507)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlcls.models.backbones.resnet import ResNet
from mlcls.registry import MODELS


@MODELS.register_module()
class SEResNet(ResNet):
    """ResNet with squeeze and excitation before the sum of every block.

    Args:
        depth: 18, 34, 50, 101 or 152.
        se_ratio: Reduction inside squeeze and excitation.
        plugins: Further attention.
        **others: Those of :class:`~mlcls.models.backbones.resnet.ResNet`.
    """

    def __init__(
        self, depth: int, se_ratio: int = 16, plugins: Sequence[Mapping[str, Any]] | None = None, **others: Any
    ) -> None:
        super().__init__(depth, plugins=[dict(type='SE', ratio=se_ratio), *(plugins or ())], **others)


@MODELS.register_module()
class SEResNeXt(SEResNet):
    """ResNeXt with squeeze and excitation before the sum of every block.

    Args:
        depth: 50, 101 or 152.
        groups: Number of groups.
        width_per_group: Channels of a group in the first stage; doubled each stage.
        **others: Those of :class:`SEResNet`.
    """

    def __init__(self, depth: int, groups: int = 32, width_per_group: int = 4, **others: Any) -> None:
        super().__init__(depth, groups=groups, width_per_group=width_per_group, **others)
