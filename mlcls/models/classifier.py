"""The whole network: preprocessor, backbone, neck and head."""

from __future__ import annotations

from typing import Any, Literal

import torch
from mmengine.model import BaseModel
from torch import nn

from mlcls.errors import ConfigError
from mlcls.models.base import InitCfg
from mlcls.models.initialize import initialize
from mlcls.registry import MODELS

Cfg = dict[str, Any]


@MODELS.register_module()
class ImageClassifier(BaseModel):
    """A multi-label classifier of images.

    Args:
        backbone: Config of the backbone: images to feature maps.
        neck: Config of the neck: feature maps to vectors. None if the head takes maps.
        head: Config of the head. None gives a feature extractor.
        pretrained: Weights file of the backbone; short for its ``init_cfg``.
        train_cfg: ``batch_augments`` of the preprocessor, where mmpretrain's configs have them.
        data_preprocessor: Config of the preprocessor; its type is ``ClsDataPreprocessor`` if left out.
        init_cfg: Initialisers of the whole, applied after those of the parts.
    """

    def __init__(
        self,
        backbone: Cfg,
        neck: Cfg | None = None,
        head: Cfg | None = None,
        pretrained: str | None = None,
        train_cfg: Cfg | None = None,
        data_preprocessor: Cfg | nn.Module | None = None,
        init_cfg: InitCfg = None,
    ) -> None:
        if train_cfg and isinstance(data_preprocessor, nn.Module):
            raise ConfigError('ImageClassifier: train_cfg needs the config of a data_preprocessor, not a built one')
        if not isinstance(data_preprocessor, nn.Module):
            if train_cfg:
                data_preprocessor = {'batch_augments': dict(train_cfg), **(data_preprocessor or {})}
            data_preprocessor = MODELS.build({'type': 'ClsDataPreprocessor', **(data_preprocessor or {})})
        super().__init__(data_preprocessor)
        self.init_cfg = init_cfg
        if pretrained is not None:
            backbone = {**backbone, 'init_cfg': dict(type='Pretrained', checkpoint=pretrained)}
        self.backbone: nn.Module = MODELS.build(backbone)
        self.neck: nn.Module | None = None if neck is None else MODELS.build(neck)
        self.head: Any = None if head is None else MODELS.build(head)

    def init_weights(self) -> None:
        """Apply ``init_cfg`` of backbone, neck, head and, last, of the whole."""
        for part in (self.backbone, self.neck, self.head):
            if part is not None:
                initialize(part, getattr(part, 'init_cfg', None))
        initialize(self, self.init_cfg)

    def parse_losses(self, losses: dict[str, Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss to train on, and what is logged; a single scalar is taken as it is.

        Args:
            losses: Tensors by name; those with ``loss`` in their names are summed.
        """
        if list(losses) == ['loss'] and isinstance(losses['loss'], torch.Tensor) and losses['loss'].dim() == 0:
            return losses['loss'], losses
        return super().parse_losses(losses)

    def extract_feat(self, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Features of normalised images (N, 3, H, W): the output of the neck or, without one, of the backbone."""
        features = self.backbone(inputs)
        return features if self.neck is None else self.neck(features)

    def forward(
        self,
        inputs: torch.Tensor,
        targets: torch.Tensor | None = None,
        index: torch.Tensor | None = None,
        mode: Literal['tensor', 'loss', 'predict'] = 'tensor',
    ) -> Any:
        """Run the network on normalised images.

        Args:
            inputs: (N, 3, H, W) float.
            targets: (N, C) labels; needed by ``'loss'``.
            index: (N,) positions in the data set, handed to the loss, and through by ``'predict'``.
            mode: What to return.

        Returns:
            ``'tensor'``: logits (N, C), or features without a head. ``'loss'``: dict of scalar losses. ``'predict'``:
            dict of ``scores`` (N, C) in [0, 1], ``targets`` and ``index``.

        Raises:
            ConfigError: Unknown mode, or the mode needs a head and there is none.
        """
        features = self.extract_feat(inputs)
        if mode == 'tensor':
            return features if self.head is None else self.head(features)
        if self.head is None:
            raise ConfigError(f"ImageClassifier: mode '{mode}' needs a head; add head=dict(...) to the model")
        if mode == 'loss':
            return self.head.loss(features, targets, index)
        if mode == 'predict':
            return {'scores': self.head.predict(features), 'targets': targets, 'index': index}
        raise ConfigError(f"ImageClassifier: unknown mode '{mode}'; choose from tensor, loss, predict")
