"""Classifier chains: each label given the features and the labels before it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from mlcls.errors import ConfigError, did_you_mean
from mlcls.models.base import InitCfg
from mlcls.models.heads.inputs import check_targets, feature_vector
from mlcls.models.heads.label_orders import dependence_order, frequency_order
from mlcls.models.heads.multi_label import LINEAR_INIT, MultiLabelClsHead
from mlcls.models.losses import CrossEntropyLoss, MultiLabelLoss
from mlcls.registry import MODELS
from mlcls.structures import LabelStatistics

#: Orders that have a name.
ORDERS = ('frequency', 'dependence', 'random')
INFERENCES = ('greedy', 'probabilistic')
#: Most classes: labels are decided one after another, and exported or compiled one after another.
MAX_CLASSES = 1000


@MODELS.register_module()
class ClassifierChainHead(MultiLabelClsHead):
    """A chain of classifiers, each of which sees the labels before it.

    The logit of label c is ``w_c x + b_c + sum_j u_cj y_j`` over the labels j before c, with y = +1 (present), -1
    (absent), 0 (unknown) or ``2 y - 1`` (soft); with ``hidden_channels`` also ``v_c relu(W x + sum_j z_j y_j)``, in
    which labels change what features mean (hidden weights are shared along the chain, as in NADE). Training takes the
    true labels before c; the conditional logits (N, C) go into the loss. Read et al., "Classifier Chains for
    Multi-label Classification", ECML 2009; Dembczynski et al., "Bayes Optimal Multilabel Classification via
    Probabilistic Classifier Chains", ICML 2010.

    Inference by ``'greedy'``: a label is taken as present if its probability given the decisions before it is above
    0.5; the set of labels is near the most probable one. By ``'probabilistic'``: ``num_samples`` label sets are drawn,
    with random numbers that are fixed, so that results repeat and do not depend on the batch; the score of a label is
    the mean of its conditional probabilities (Rao-Blackwell), near its marginal. Several chains: the mean of their
    probabilities. One greedy chain gives conditional logits, whose scores follow from the link of the loss; otherwise
    logits are log odds.

    Args:
        num_classes: C, from 1 to 1000.
        in_channels: Length of the feature vectors.
        order: ``'frequency'`` (most frequent first) and ``'dependence'`` (largest mutual information with those
            before) are taken from the training labels and kept in checkpoints; ``'random'``; or all classes by number.
        num_chains: Chains, each with weights of its own; those after the first have random orders.
        inference: ``'greedy'`` or ``'probabilistic'``.
        num_samples: Label sets drawn from each chain for an image.
        hidden_channels: Length of the hidden layer; 0 for none.
        seed: Of random orders and of the random numbers of inference.
        loss: Config of the loss of the conditional logits; binary cross entropy if None, which makes it the likelihood.
        thr: See :class:`MultiLabelClsHead`.
        topk: See :class:`MultiLabelClsHead`.
        init_cfg: Initialisers.
        score: See :class:`MultiLabelClsHead`.

    Raises:
        ConfigError: Sizes, ``order``, ``inference`` or the loss cannot be used; features of another length.
    """

    order: torch.Tensor
    bars: torch.Tensor

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        order: str | Sequence[int] = 'frequency',
        num_chains: int = 1,
        inference: str = 'greedy',
        num_samples: int = 32,
        hidden_channels: int = 0,
        seed: int = 0,
        loss: dict[str, Any] | nn.Module | None = None,
        thr: float | None = None,
        topk: int | None = None,
        init_cfg: InitCfg = LINEAR_INIT,
        score: str = 'calibrated',
    ) -> None:
        super().__init__(loss, thr, topk, init_cfg, score)
        self.set_size(num_classes, in_channels)
        self._check(num_chains, inference, num_samples, hidden_channels)
        self.num_chains, self.inference, self.hidden_channels = num_chains, inference, hidden_channels
        self.order_name = order if isinstance(order, str) else ''
        if isinstance(order, str) and order not in ORDERS:
            raise ConfigError(f"ClassifierChainHead: unknown order '{order}'{did_you_mean(order, ORDERS)}")
        generator = torch.Generator().manual_seed(seed)
        orders = torch.stack([torch.randperm(num_classes, generator=generator) for _ in range(num_chains)])
        if order != 'random':
            orders[0] = torch.arange(num_classes) if isinstance(order, str) else _as_order(order, num_classes)
        self.register_buffer('order', orders)
        self.register_buffer('bars', _bars(num_chains, num_samples, num_classes, generator), persistent=False)
        self.fc = nn.Linear(in_channels, num_chains * num_classes)
        self.label_weight = nn.Parameter(torch.zeros(num_chains, num_classes, num_classes))
        if hidden_channels:
            self.hidden = nn.Linear(in_channels, num_chains * hidden_channels)
            size = (num_chains, num_classes, hidden_channels)
            self.label_hidden = nn.Parameter(torch.randn(size) * num_classes**-0.5)
            self.hidden_out = nn.Parameter(torch.randn(size) * hidden_channels**-0.5)

    def _check(self, num_chains: int, inference: str, num_samples: int, hidden_channels: int) -> None:
        if self.num_classes > MAX_CLASSES:
            raise ConfigError(
                f'ClassifierChainHead: decides labels one after another, which is too slow for {self.num_classes} '
                f'classes (at most {MAX_CLASSES}); use MLDecoderHead or MultiLabelLinearClsHead'
            )
        if inference not in INFERENCES:
            raise ConfigError(
                f"ClassifierChainHead: unknown inference '{inference}'{did_you_mean(str(inference), INFERENCES)}"
            )
        for name, value, least in (
            ('num_chains', num_chains, 1),
            ('num_samples', num_samples, 1),
            ('hidden_channels', hidden_channels, 0),
        ):
            if value < least:
                raise ConfigError(f'ClassifierChainHead: {name} must be at least {least}, got {value}')
        for module in self.loss_module.modules():
            if isinstance(module, CrossEntropyLoss) and not module.use_sigmoid:
                raise ConfigError(
                    'ClassifierChainHead: a softmax over classes is no probability of a label given others; '
                    "set loss=dict(type='CrossEntropyLoss', use_sigmoid=True)"
                )

    def fit(self, statistics: LabelStatistics) -> dict[str, torch.Tensor]:
        """Take the order of the first chain from the training labels.

        Returns:
            The order, by name, for the log; empty where it does not come from the labels.
        """
        if self.order_name not in ('frequency', 'dependence'):
            return {}
        find = frequency_order if self.order_name == 'frequency' else dependence_order
        self.order[0] = torch.from_numpy(find(statistics)).to(self.order)
        return {'order': self.order[0]}

    # Training: all labels before are known, so that all logits are computed at once.

    def conditional_logits(self, features: Sequence[torch.Tensor], targets: torch.Tensor) -> torch.Tensor:
        """Logits of each label given the true labels before it.

        Args:
            features: Output of backbone and neck.
            targets: (N, C), 1, 0, -1 (unknown) or soft values in [0, 1].

        Returns:
            (chains, N, C) float32.
        """
        feature = feature_vector(features, self.in_channels, type(self).__name__)
        with torch.autocast(feature.device.type, enabled=False):
            feature = feature.float()
            labels = targets.float()
            codes = torch.where(labels < 0, 0.0, 2 * labels - 1)
            rank = self.order.argsort(1)
            earlier = rank[:, None, :] < rank[:, :, None]
            logits = self._per_chain(self.fc(feature)) + codes @ (self.label_weight * earlier).transpose(1, 2)
            if self.hidden_channels:
                ahead = codes[:, self.order].transpose(0, 1)[..., None] * self._in_order(self.label_hidden)[:, None]
                ahead = F.pad(ahead[:, :, :-1], (0, 0, 1, 0)).cumsum(2)
                hidden = (self._per_chain(self.hidden(feature))[:, :, None] + ahead).relu()
                extra = (hidden * self._in_order(self.hidden_out)[:, None]).sum(-1)
                logits = logits + extra.gather(2, rank[:, None].expand_as(extra))
            return logits

    def loss(
        self, features: Sequence[torch.Tensor], targets: torch.Tensor, index: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """Loss of the conditional logits of a batch, the mean over chains; see :class:`MultiLabelClsHead`."""
        check_targets(self.num_classes, targets)
        losses = [
            self.loss_module(logits, targets, avg_factor=len(logits), index=index)
            for logits in self.conditional_logits(features, targets)
        ]
        return {'loss': torch.stack(losses).mean()}

    def _per_chain(self, values: torch.Tensor) -> torch.Tensor:
        return values.unflatten(1, (self.num_chains, -1)).transpose(0, 1)

    def _in_order(self, values: torch.Tensor) -> torch.Tensor:
        """(chains, C, M) by class to the same by place in the chain."""
        return values.gather(1, self.order[..., None].expand_as(values))

    # Inference: one label after another.

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Feature vectors (N, in_channels) of the last stage to logits (N, C) float32."""
        feature = feature_vector(features, self.in_channels, type(self).__name__)
        with torch.autocast(feature.device.type, enabled=False):
            steps = self._decode(feature.float())
            rank = self.order.argsort(1)[:, None, None]
            logits = steps.gather(3, rank.expand_as(steps)).transpose(0, 1).flatten(1, 2)
            if logits.shape[1] == 1:
                return logits[:, 0]
            return F.logsigmoid(logits).logsumexp(1) - F.logsigmoid(-logits).logsumexp(1)

    def scores(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits (N, C) to scores, float32 in [0, 1]."""
        return super().scores(logits) if self._gives_raw_logits else logits.float().sigmoid()

    @property
    def _gives_raw_logits(self) -> bool:
        return self.inference == 'greedy' and self.num_chains == 1

    def _decode(self, feature: torch.Tensor) -> torch.Tensor:
        """Conditional logits (chains, N, samples, C), by place in the chain."""
        base = self._per_chain(self.fc(feature))
        rest = base.gather(2, self.order[:, None].expand_as(base))[:, :, None]
        weight = self._in_order(self._in_order(self.label_weight).transpose(1, 2))  # (chains, from, to)
        if self.inference == 'probabilistic':
            bars = self.bars.gather(2, self.order[:, None].expand_as(self.bars))[:, None]
            rest = rest.expand(-1, -1, bars.shape[2], -1)
        if self.hidden_channels:
            hidden = self._per_chain(self.hidden(feature))[:, :, None]
            ahead, out = (self._in_order(w)[:, None, None] for w in (self.label_hidden, self.hidden_out))
        steps = []
        for step in range(self.num_classes):
            logit = rest[..., 0]
            if self.hidden_channels:
                logit = logit + (hidden.relu() * out[..., step, :]).sum(-1)
            odds = self._log_odds(logit, step)
            steps.append(logit if self._gives_raw_logits else odds)
            present = odds > (bars[..., step] if self.inference == 'probabilistic' else 0)
            code = torch.where(present, 1.0, -1.0)[..., None]
            rest = rest[..., 1:] + code * weight[:, None, None, step, step + 1 :]
            if self.hidden_channels:
                hidden = hidden + code * ahead[..., step, :]
        return torch.stack(steps, -1)

    def _log_odds(self, logit: torch.Tensor, step: int) -> torch.Tensor:
        """What logits (chains, N, samples) of one place in the chain say through the link of the loss."""
        if self._plain_link:
            return logit
        # A link may differ from class to class and takes whole rows.
        scores = self.loss_module.link(logit.reshape(-1, 1).expand(-1, self.num_classes))
        scores = scores.view(*logit.shape, self.num_classes)
        place = self.order[:, step, None, None, None].expand(*logit.shape, 1)
        return scores.gather(3, place)[..., 0].logit(eps=1e-6)

    def train(self, mode: bool = True) -> ClassifierChainHead:
        """See torch; before inference, let the loss make the table of its link, which no compiler could trace."""
        super().train(mode)
        if not mode and not self._plain_link:
            with suppress(ConfigError):  # a loss that is not fitted yet
                self.loss_module.link(self.order.new_zeros((1, self.num_classes), dtype=torch.float32))
        return self

    @property
    def _plain_link(self) -> bool:
        loss = self.loss_module
        if self.score == 'sigmoid' or getattr(type(loss), 'link', None) is MultiLabelLoss.link:
            return True
        return isinstance(loss, CrossEntropyLoss) and loss.setting('pos_weight') is None


def _as_order(order: Sequence[int], num_classes: int) -> torch.Tensor:
    if sorted(order) != list(range(num_classes)):
        raise ConfigError(
            f'ClassifierChainHead: order must hold each class number from 0 to {num_classes - 1} once, got '
            f'{list(order)}'
        )
    return torch.tensor(list(order))


def _bars(num_chains: int, num_samples: int, num_classes: int, generator: torch.Generator) -> torch.Tensor:
    """Log odds above which a drawn label is present, (chains, samples, C): the logits of uniform random numbers.

    Those of one class are spread evenly (a Latin hypercube), which makes the means less noisy than free draws would.
    """
    size = (num_chains, num_samples, num_classes)
    strata = torch.rand(size, generator=generator).argsort(1)
    return ((strata + torch.rand(size, generator=generator)) / num_samples).logit(eps=1e-6)
