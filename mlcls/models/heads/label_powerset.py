"""Label powerset: a softmax over the label sets seen in training."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.logging import MMLogger
from torch import nn

from mlcls.errors import CheckpointError, ConfigError, DataError, did_you_mean
from mlcls.models.base import InitCfg
from mlcls.models.heads.inputs import check_targets, feature_vector
from mlcls.models.heads.label_sets import LabelSets, find_label_sets
from mlcls.models.heads.multi_label import LINEAR_INIT, MultiLabelClsHead
from mlcls.registry import MODELS
from mlcls.structures import LabelStatistics

INFERENCES = ('marginals', 'joint')
#: Added to the probability of a label being present and of its being absent: log odds are finite and within +-18.4
#: also for labels that are in all sets or in none.
SMOOTHING = 1e-8
#: Values that the max-marginals of one part of the classes may take for each image.
_PART = 1 << 17


@MODELS.register_module()
class LabelPowersetHead(MultiLabelClsHead):
    """One linear layer and a softmax over the S label sets that occur in the training labels.

    Tsoumakas & Vlahavas, "Random k-Labelsets: An Ensemble Method for Multilabel Classification", ECML 2007, section 2.
    Only these sets can be predicted. They are found when training starts and kept in checkpoints, from which a head
    without sets takes them.

    Loss: minus the log probability of the image's set; with unknown labels, of all sets that agree with the known ones
    together. An image whose set is not among the S (dropped by ``min_count``, or incompatible known labels) trains the
    sets that differ from its known labels in the fewest classes, together.

    Logits are log odds. ``'marginals'``: of the summed probabilities of the sets with and without the label.
    ``'joint'``: of the most probable set with and without it (max-marginals), so that labels above 0.5 are those of
    the most probable set. Labels in all sets or in none get -+18.4.

    Args:
        num_classes: C, at least 1.
        in_channels: Length of the feature vectors.
        max_sets: Most label sets; more are refused.
        min_count: Sets of fewer images are left out, at least 1.
        inference: ``'marginals'`` or ``'joint'``.
        loss: Config of a loss of the log odds ``'marginals'``, in place of the likelihood above.
        thr: See :class:`MultiLabelClsHead`.
        topk: See :class:`MultiLabelClsHead`.
        init_cfg: Initialisers.
        score: See :class:`MultiLabelClsHead`.

    Raises:
        ConfigError: Sizes, ``inference`` or numbers out of range; too many label sets, or none; features of another
            length.
        DataError: Soft targets, without a ``loss``.
        CheckpointError: Weights for other label sets than those of the training labels.
    """

    label_sets: torch.Tensor

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        max_sets: int = 2000,
        min_count: int = 1,
        inference: str = 'marginals',
        loss: dict[str, Any] | nn.Module | None = None,
        thr: float | None = None,
        topk: int | None = None,
        init_cfg: InitCfg = LINEAR_INIT,
        score: str = 'calibrated',
    ) -> None:
        super().__init__(loss, thr, topk, init_cfg, score)
        self.set_size(num_classes, in_channels)
        if inference not in INFERENCES:
            raise ConfigError(
                f"LabelPowersetHead: unknown inference '{inference}'{did_you_mean(str(inference), INFERENCES)}"
            )
        for name, value in (('max_sets', max_sets), ('min_count', min_count)):
            if value < 1:
                raise ConfigError(f'LabelPowersetHead: {name} must be at least 1, got {value}')
        self.max_sets, self.min_count, self.inference = max_sets, min_count, inference
        self.by_likelihood = loss is None
        self._set_label_sets(torch.zeros(0, num_classes, dtype=torch.bool))

    @property
    def takes_soft_targets(self) -> bool:
        """Whether mixed images can train the head: they have no label set."""
        return not self.by_likelihood

    def _set_label_sets(self, label_sets: torch.Tensor) -> None:
        self.register_buffer('label_sets', label_sets)
        with warnings.catch_warnings():  # of a layer without outputs, which is what a head without sets has
            warnings.simplefilter('ignore')
            self.fc = nn.Linear(self.in_channels, len(label_sets), device=label_sets.device)

    def fit(self, statistics: LabelStatistics) -> dict[str, torch.Tensor]:
        """Find the label sets of the training labels, and make the layer for them.

        Returns:
            Number of label sets, share of the images (with all labels known) that they cover.

        Raises:
            ConfigError: There are more than ``max_sets``, or none.
        """
        found = find_label_sets(statistics.labels)
        number = int((found.counts >= self.min_count).sum())
        if number > self.max_sets:
            raise ConfigError(self._too_many(found, number))
        if number == 0:
            raise ConfigError(self._none(found))
        sets = torch.from_numpy(found.dense(statistics.labels, number))
        self._set_label_sets(sets.to(self.label_sets.device))
        share = found.counts[:number].sum() / found.counts.sum()
        once = int((found.counts[:number] == 1).sum())
        if 2 * once > number:
            MMLogger.get_current_instance().warning(
                f'LabelPowersetHead: {once} of the {number} label sets are of a single training image; the head can '
                'decide no others, and hardly learn these. ClassifierChainHead and LabelSequenceHead list no sets'
            )
        return {'label sets': torch.tensor([number]), 'share of images in them': torch.tensor([share])}

    def _too_many(self, found: LabelSets, number: int) -> str:
        images = int(found.counts.sum())
        least = int(found.counts[self.max_sets]) + 1
        kept = found.counts[found.counts >= least]
        fewer = (
            f'set model.head.min_count={least} (keeps {len(kept)} sets of {kept.sum() / images:.0%} of the images), '
        )
        return (
            f'LabelPowersetHead: the training labels have {number} label sets in {images} images, more than '
            f'max_sets={self.max_sets}; {(found.counts == 1).mean():.0%} of the {len(found.counts)} distinct sets '
            f'occur once and can hardly be learnt; {fewer if len(kept) else ""}raise model.head.max_sets, or use a '
            'head that does not list sets: ClassifierChainHead, LabelSequenceHead or MLDecoderHead'
        )

    def _none(self, found: LabelSets) -> str:
        if not len(found.counts):
            return (
                f'LabelPowersetHead: all {found.unknown} training images have unknown labels, so that no label set is '
                'known; use ClassifierChainHead or MultiLabelLinearClsHead'
            )
        return (
            f'LabelPowersetHead: no label set occurs min_count={self.min_count} times; the most frequent one occurs '
            f'{int(found.counts[0])} times'
        )

    def log_probabilities(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Log probabilities of the label sets, (N, S) float32.

        Raises:
            ConfigError: The head has no label sets yet.
        """
        if not len(self.label_sets):
            raise ConfigError(
                'LabelPowersetHead: has no label sets yet; they come from the training labels when training starts, '
                'and from the checkpoint in a test'
            )
        feature = feature_vector(features, self.in_channels, type(self).__name__)
        with torch.autocast(feature.device.type, enabled=False):
            return self.fc(feature.float()).log_softmax(1)

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Feature vectors (N, in_channels) of the last stage to log odds (N, C) float32."""
        log_p = self.log_probabilities(features)
        return self._marginals(log_p) if self.inference == 'marginals' else self._max_marginals(log_p)

    def _marginals(self, log_p: torch.Tensor) -> torch.Tensor:
        with torch.autocast(log_p.device.type, enabled=False):
            p, has = log_p.exp(), self.label_sets.to(log_p.dtype)
            return (p @ has + SMOOTHING).log() - (p @ (1 - has) + SMOOTHING).log()

    def _max_marginals(self, log_p: torch.Tensor) -> torch.Tensor:
        p, parts = log_p.exp(), []
        for has in self.label_sets.split(max(1, _PART // len(self.label_sets)), dim=1):
            with_label, without = ((p[:, :, None] * mask).amax(1) for mask in (has, ~has))
            parts.append((with_label + SMOOTHING).log() - (without + SMOOTHING).log())
        return torch.cat(parts, 1)

    def loss(
        self, features: Sequence[torch.Tensor], targets: torch.Tensor, index: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """Minus the log likelihood of the known labels, averaged over images; with a ``loss``, that of the log odds."""
        check_targets(self.num_classes, targets)
        log_p = self.log_probabilities(features)
        if not self.by_likelihood:
            logits = self._marginals(log_p)
            return {'loss': self.loss_module(logits, targets, avg_factor=len(logits), index=index)}
        # On a GPU the host would have to wait; a run that mixes images is refused before its first step.
        is_looked_at = targets.device.type == 'cpu' and targets.is_floating_point()
        if is_looked_at and bool((targets != targets.round()).any()):
            raise DataError(
                'LabelPowersetHead: soft targets are no label set; remove data_preprocessor.batch_augments, or set '
                "model.head.loss=dict(type='CrossEntropyLoss', use_sigmoid=True), which trains the log odds of labels"
            )
        nearest = self.nearest_sets(targets)
        return {'loss': -log_p.masked_fill(~nearest, -math.inf).logsumexp(1).mean()}

    def nearest_sets(self, targets: torch.Tensor) -> torch.Tensor:
        """Which sets differ from the known labels in the fewest classes: in none, where that can be.

        Args:
            targets: (N, C), 1, 0 or -1 (unknown).

        Returns:
            bool (N, S), at least one of each image.
        """
        with torch.autocast(targets.device.type, enabled=False):
            known = (targets >= 0).float()
            present = (targets > 0).float()
            # Whole numbers: exact, also in TF32 and up to 2048 classes in half precision.
            differing = present.sum(1, keepdim=True) + (known - 2 * present) @ self.label_sets.float().T
            return differing == differing.amin(1, keepdim=True)

    def scores(self, logits: torch.Tensor) -> torch.Tensor:
        """Log odds (N, C) to scores, float32 in [0, 1]; through the link of the loss, if there is one."""
        return logits.float().sigmoid() if self.by_likelihood else super().scores(logits)

    def take_sizes(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Without label sets, take those of a file, so that its weights fit.

        Args:
            weights: Tensors of the file by their names in this head.

        Raises:
            CheckpointError: The head has as many label sets as the file, but others.
        """
        stored = weights.get('label_sets')
        if stored is None or stored.shape[1:] != self.label_sets.shape[1:]:
            return
        if not len(self.label_sets):
            self._set_label_sets(stored.to(self.label_sets.device, torch.bool))
        elif stored.shape == self.label_sets.shape and not torch.equal(stored.bool().cpu(), self.label_sets.cpu()):
            raise CheckpointError(
                'LabelPowersetHead: the label sets of the checkpoint are not those of the training labels; resume with '
                'the data that it was trained on, or take over only its backbone: '
                "model.backbone.init_cfg=dict(type='Pretrained', checkpoint=..., prefix='backbone')"
            )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        name = f'{prefix}label_sets'
        self.take_sizes({'label_sets': state_dict[name]} if name in state_dict else {})
        super()._load_from_state_dict(state_dict, prefix, *args)
