"""The multi-label head and its linear form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mlcls.errors import ConfigError, did_you_mean
from mlcls.models.base import BaseModule, InitCfg
from mlcls.models.heads.inputs import check_targets, feature_vector
from mlcls.models.losses import MultiLabelLoss
from mlcls.registry import MODELS
from mlcls.structures import LabelStatistics

#: What a head makes of logits.
SCORES = ('calibrated', 'sigmoid')

#: mmpretrain's start of a linear head.
LINEAR_INIT: dict[str, Any] = dict(type='Normal', layer='Linear', std=0.01)


@MODELS.register_module()
class MultiLabelClsHead(BaseModule):
    """Loss and scores of logits; the features of the last stage are the logits. Base of the other heads.

    Another head overrides ``forward`` and calls :meth:`set_size`. What it may add is found by its name:
    ``fit(statistics)`` takes from the training labels what the head needs, before weights are filled, wrapped and
    optimised, into buffers that checkpoints carry (returns what was taken, by name, for the log);
    ``start_bias(statistics)`` follows the filling of weights; ``activation_maps(features)`` shows where each class is
    seen, (N, C, H, W); ``label_names`` are the classes that a file given to the head is for, compared with the data's
    before training; ``takes_soft_targets = False`` refuses mixed images, ``serves_other_classes = True`` says that
    no weight belongs to a class. All may be missing.

    Args:
        loss: Config of the loss.
        thr: Least score at which a class is predicted present, in [0, 1]; .5 if neither it nor ``topk`` is given.
            Metrics have their own; a run whose metrics decide otherwise says so.
        topk: Predict the k classes of highest score instead; used if ``thr`` is None.
        init_cfg: Initialisers.
        score: ``'calibrated'``: scores are probabilities of the label, through the link of the loss, so that .5 means
            the same after every loss; ``'sigmoid'``: the sigmoid of the logits.

    Raises:
        ConfigError: ``thr`` outside [0, 1], ``topk`` below 1, or another ``score``.
    """

    def __init__(
        self,
        loss: dict[str, Any] | nn.Module | None = None,
        thr: float | None = None,
        topk: int | None = None,
        init_cfg: InitCfg = None,
        score: str = 'calibrated',
    ) -> None:
        super().__init__(init_cfg)
        if score not in SCORES:
            raise ConfigError(f"{type(self).__name__}: unknown score '{score}'{did_you_mean(str(score), SCORES)}")
        if thr is not None and not 0 <= thr <= 1:
            raise ConfigError(f'{type(self).__name__}: thr must be in [0, 1], got {thr}')
        if topk is not None and topk < 1:
            raise ConfigError(f'{type(self).__name__}: topk must be at least 1, got {topk}')
        self.thr = 0.5 if thr is None and topk is None else thr
        self.topk = topk
        self.score = score
        loss = loss or dict(type='CrossEntropyLoss', use_sigmoid=True)
        self.loss_module: Any = loss if isinstance(loss, nn.Module) else MODELS.build(loss)

    def set_size(self, num_classes: int, in_channels: int) -> None:
        """Note both sizes, and tell the losses the number of classes.

        Raises:
            ConfigError: One of them is below 1.
        """
        if num_classes < 1 or in_channels < 1:
            raise ConfigError(
                f'{type(self).__name__}: num_classes and in_channels must be at least 1, got '
                f'{num_classes} and {in_channels}'
            )
        self.num_classes = num_classes
        self.in_channels = in_channels
        for module in self.loss_module.modules():
            if isinstance(module, MultiLabelLoss):
                module.set_classes(num_classes)

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Features of the stages to logits, (N, C) float32."""
        return features[-1].float()

    def loss(
        self, features: Sequence[torch.Tensor], targets: torch.Tensor, index: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """Loss of a batch, summed over classes and averaged over images.

        Args:
            features: Output of backbone and neck.
            targets: (N, C), 1, 0, -1 (unknown) or soft values.
            index: (N,) positions of the images in the data set, for losses that remember something of each.
        """
        logits = self(features)
        check_targets(logits.shape[1], targets)
        return {'loss': self.loss_module(logits, targets, avg_factor=len(logits), index=index)}

    def predict(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Scores of a batch, (N, C) float32 in [0, 1]."""
        return self.scores(self(features))

    def scores(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits (N, C) to scores, float32 in [0, 1]: through the link of the loss, or the sigmoid."""
        return self.loss_module.link(logits) if self.score == 'calibrated' else logits.float().sigmoid()


@MODELS.register_module()
class MultiLabelLinearClsHead(MultiLabelClsHead):
    """One linear layer from the pooled features, computed in float32 also under autocast.

    Args:
        num_classes: C, at least 1.
        in_channels: Length of the feature vectors.
        loss: Config of the loss.
        thr: See :class:`MultiLabelClsHead`.
        topk: See :class:`MultiLabelClsHead`.
        init_cfg: Initialisers.
        score: See :class:`MultiLabelClsHead`.
        prior_bias: Start with the bias whose score is the share of positives of each class in the training labels, so
            that the first steps are not spent on learning that most labels are absent.
        dropout: Share of the features that each training step leaves out, in [0, 1).

    Raises:
        ConfigError: ``num_classes`` or ``in_channels`` below 1, ``dropout`` outside [0, 1); features of another length.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        loss: dict[str, Any] | nn.Module | None = None,
        thr: float | None = None,
        topk: int | None = None,
        init_cfg: InitCfg = LINEAR_INIT,
        score: str = 'calibrated',
        prior_bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(loss, thr, topk, init_cfg, score)
        if not 0 <= dropout < 1:
            raise ConfigError(f'{type(self).__name__}: dropout must be in [0, 1), got {dropout}')
        self.set_size(num_classes, in_channels)
        self.prior_bias = prior_bias
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(in_channels, num_classes)

    def start_bias(self, statistics: LabelStatistics) -> dict[str, torch.Tensor]:
        """With ``prior_bias``, set the bias from the training labels; called after the weights are initialised.

        Returns:
            The bias, by name, for the log; empty without ``prior_bias``.
        """
        if not self.prior_bias:
            return {}
        prevalence = torch.from_numpy(statistics.prevalence).to(self.fc.bias.device)
        with torch.no_grad():
            to_logits = self.loss_module.prior_logits if self.score == 'calibrated' else torch.logit
            self.fc.bias.copy_(to_logits(prevalence))
        return {'bias': self.fc.bias.detach()}

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Feature vectors (N, in_channels) of the last stage to logits (N, C) float32."""
        feature = self.dropout(feature_vector(features, self.in_channels, type(self).__name__))
        # bfloat16 logits have 8 significant bits: scores would tie and their order be lost.
        with torch.autocast(feature.device.type, enabled=False):
            return self.fc(feature.float())
