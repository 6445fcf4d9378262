"""Label sequences (CNN-RNN): labels said one after another, in an order that is not given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from mlcls.errors import ConfigError, DataError, did_you_mean
from mlcls.models.base import InitCfg
from mlcls.models.heads.inputs import check_targets, feature_vector
from mlcls.models.heads.label_decoders import GRULabelDecoder, State, TransformerLabelDecoder
from mlcls.models.heads.label_sets import most_labels
from mlcls.models.heads.multi_label import MultiLabelClsHead
from mlcls.registry import MODELS
from mlcls.structures import LabelStatistics

DECODERS = {'gru': GRULabelDecoder, 'transformer': TransformerLabelDecoder}
INFERENCES = ('marginals', 'sequence')
#: In place of minus infinity: a probability of 0 whose products with 0 are no NaN.
NEVER = -1e9
#: Largest probability of a label at one step, and the least of a label and of its absence at the end.
_MOST, _LEAST = 1 - 1e-6, 1e-12
#: Least size of a log odds where these follow the best sequence: apart from 0 after rounding.
_MARGIN = 1e-2


class _Beams(NamedTuple):
    """What is known of the sequences, (N, B, ...), while they grow."""

    token: torch.Tensor  # said last
    score: torch.Tensor  # log probability
    said: torch.Tensor  # (N, B, C), labels said
    ended: torch.Tensor
    absent: torch.Tensor  # (N, B, C), log probability that no step says the label


@MODELS.register_module()
class LabelSequenceHead(MultiLabelClsHead):
    """A decoder that says the labels of an image one after another and then the end; each label at most once.

    Training is free of any order: at each step the target is, of the labels still to be said, the one that is the most
    probable now, and the end when none is left (Chen et al., "Order-Free RNN with Visual Attention for Multi-Label
    Classification", AAAI 2018, arXiv 1707.05495, section 3.3). The loss of an image is the sum over its steps. Unknown
    labels are no targets, and left out of the softmax. Decoders: see :mod:`mlcls.models.heads.label_decoders`.

    Inference keeps the ``beam_size`` most probable sequences, for ``max_labels + 1`` steps. Logits are log odds.
    ``'marginals'``: along a sequence, label c has the score ``1 - prod_t (1 - p_t(c))``, with p_t the probabilities at
    its steps; these are averaged over sequences by their probabilities. ``'sequence'``: the same, moved above 0 for the
    labels of the best sequence and below 0 for the others.

    Args:
        num_classes: C, at least 1.
        in_channels: Length of the feature vectors.
        decoder: ``'gru'`` or ``'transformer'`` (2 blocks, 4 heads).
        embed_dims: Length of label embeddings and hidden states; for a transformer a multiple of 4.
        max_labels: Most labels of an image; the largest number in the training labels if None, kept in checkpoints.
        beam_size: Sequences kept.
        inference: ``'marginals'`` or ``'sequence'``.
        loss: Must be None: the likelihood of a sequence is no loss of (N, C) logits.
        thr: See :class:`MultiLabelClsHead`.
        topk: See :class:`MultiLabelClsHead`.
        init_cfg: Initialisers.
        score: See :class:`MultiLabelClsHead`; both are the same here.

    Raises:
        ConfigError: Sizes, names or numbers out of range, or a ``loss``; features of another length.
        DataError: Soft targets.
    """

    length: torch.Tensor

    takes_soft_targets = False

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        decoder: str = 'gru',
        embed_dims: int = 256,
        max_labels: int | None = None,
        beam_size: int = 3,
        inference: str = 'marginals',
        loss: dict[str, Any] | None = None,
        thr: float | None = None,
        topk: int | None = None,
        init_cfg: InitCfg = None,
        score: str = 'calibrated',
    ) -> None:
        super().__init__(None, thr, topk, init_cfg, score)
        self.set_size(num_classes, in_channels)
        if loss is not None:
            raise ConfigError(
                'LabelSequenceHead: trains by the likelihood of its sequences, and takes no loss of (N, C) logits; '
                'remove model.head.loss, or use another head'
            )
        if decoder not in DECODERS:
            raise ConfigError(f"LabelSequenceHead: unknown decoder '{decoder}'{did_you_mean(str(decoder), DECODERS)}")
        if inference not in INFERENCES:
            raise ConfigError(
                f"LabelSequenceHead: unknown inference '{inference}'{did_you_mean(str(inference), INFERENCES)}"
            )
        for name, value in (('embed_dims', embed_dims), ('beam_size', beam_size), ('max_labels', max_labels)):
            if value is not None and value < 1:
                raise ConfigError(f'LabelSequenceHead: {name} must be at least 1, got {value}')
        if decoder == 'transformer' and embed_dims % 4:
            raise ConfigError(
                f'LabelSequenceHead: embed_dims must be a multiple of the 4 heads of a transformer, got {embed_dims}'
            )
        self.beam_size, self.inference, self.max_labels = beam_size, inference, max_labels
        self.decoder: Any = DECODERS[decoder](num_classes, in_channels, embed_dims)
        self.fc = nn.Linear(embed_dims, num_classes + 1)
        self.register_buffer('length', torch.zeros((), dtype=torch.long))
        self._fitted = 0
        self._set_length(num_classes if max_labels is None else max_labels)

    def _set_length(self, length: int) -> None:
        self.length.fill_(length)
        #: Steps of training and inference; not read from the buffer, which may lie on a GPU.
        self.steps = min(length, self.num_classes) + 1

    def fit(self, statistics: LabelStatistics) -> dict[str, torch.Tensor]:
        """Take ``max_labels`` from the training labels, if it is not given.

        Returns:
            The number, by name, for the log; empty where it is given.
        """
        if self.max_labels is not None:
            return {}
        self._fitted = max(1, most_labels(statistics.labels))
        self._set_length(self._fitted)
        return {'max_labels': self.length.reshape(1)}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        # Weights that were trained on fewer labels go on with those of the new training data.
        self._set_length(max(int(self.length), self._fitted) if self.max_labels is None else self.max_labels)

    def _next(self, token: torch.Tensor, state: State, barred: torch.Tensor) -> tuple[torch.Tensor, State]:
        """Log probabilities (M, C + 1) of the next token, the end last; 0 probability for labels (M, C) barred."""
        vector, state = self.decoder.step(token, state)
        logits = self.fc(vector)
        return logits.masked_fill(F.pad(barred, (0, 1)), NEVER).log_softmax(1), state

    # Training.

    def loss(
        self, features: Sequence[torch.Tensor], targets: torch.Tensor, index: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """Minus the log likelihood of the sequences, averaged over images; see :class:`MultiLabelClsHead`."""
        check_targets(self.num_classes, targets)
        # On a GPU the host would have to wait; a run that mixes images is refused before its first step.
        is_looked_at = targets.device.type == 'cpu' and targets.is_floating_point()
        if is_looked_at and bool((targets != targets.round()).any()):
            raise DataError(
                'LabelSequenceHead: soft targets are no sequence of labels; remove data_preprocessor.batch_augments, '
                'or use another head'
            )
        feature = feature_vector(features, self.in_channels, type(self).__name__)
        with torch.autocast(feature.device.type, enabled=False):
            losses, _ = self.order_free_losses(feature.float(), targets)
            return {'loss': losses.sum() / len(feature)}

    def order_free_losses(self, feature: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Losses and targets of all steps.

        Args:
            feature: (N, F) float32.
            targets: (N, C), 1, 0 or -1 (unknown).

        Returns:
            (steps, N) losses, 0 after the end; int64 (steps, N) tokens, C for the end and after it.
        """
        left, unknown = targets > 0, targets < 0
        said = torch.zeros_like(left)
        token = torch.full((len(feature),), self.num_classes, device=feature.device)
        going = torch.ones_like(token, dtype=torch.bool)
        state, losses, tokens = self.decoder.start(feature), [], []
        for _ in range(self.steps):
            log_p, state = self._next(token, state, said | unknown)
            some = left.any(1)
            best = log_p[:, :-1].detach().masked_fill(~left, 2 * NEVER).argmax(1)
            token = torch.where(some, best, self.num_classes)
            losses.append(-log_p.gather(1, token[:, None])[:, 0] * going)
            tokens.append(token)
            going = some
            now = F.one_hot(token, self.num_classes + 1)[:, :-1].bool()
            said, left = said | now, left & ~now
        return torch.stack(losses), torch.stack(tokens)

    # Inference.

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Feature vectors (N, in_channels) of the last stage to log odds (N, C) float32."""
        feature = feature_vector(features, self.in_channels, type(self).__name__)
        with torch.autocast(feature.device.type, enabled=False):
            beams = self.search(feature.float())
            weight = beams.score.softmax(1)[:, :, None]
            absent = (weight * beams.absent.exp()).sum(1)
            present = (weight * -beams.absent.expm1()).sum(1)
            odds = present.clamp(min=_LEAST).log() - absent.clamp(min=_LEAST).log()
            if self.inference == 'marginals':
                return odds
            best = beams.said[:, 0]
            return torch.where(best, F.softplus(odds) + _MARGIN, -F.softplus(-odds) - _MARGIN)

    def search(self, feature: torch.Tensor) -> _Beams:
        """The most probable sequences of features (N, F), the best first."""
        images, beams = feature.shape[0], self.beam_size
        state = tuple(part.repeat_interleave(beams, 0) for part in self.decoder.start(feature))
        now = self._first(feature)
        offset = torch.arange(images, device=feature.device)[:, None] * beams
        is_end = torch.arange(self.num_classes + 1, device=feature.device) == self.num_classes
        for step in range(self.steps):
            log_p, state = self._next(now.token.flatten(), state, now.said.flatten(0, 1))
            log_p = log_p.unflatten(0, (images, beams))
            absent = now.absent + torch.where(
                now.ended[..., None], 0.0, (-log_p[..., :-1].exp().clamp(max=_MOST)).log1p()
            )
            # What has ended goes on in one way only: it ends again, at no cost. In the last step, all ends.
            log_p = torch.where(now.ended[..., None], torch.where(is_end, 0.0, NEVER), log_p)
            log_p = log_p if step < self.steps - 1 else torch.where(is_end, log_p, NEVER)
            score, choice = (now.score[..., None] + log_p).flatten(1).topk(beams, 1)
            parent, token = choice // (self.num_classes + 1), choice % (self.num_classes + 1)
            rows = (parent + offset).flatten()
            state = tuple(part.index_select(0, rows) for part in state)
            said = _of_parents(now.said, parent) | F.one_hot(token, self.num_classes + 1)[..., :-1].bool()
            ended = now.ended.gather(1, parent) | (token == self.num_classes)
            now = _Beams(token, score, said, ended, _of_parents(absent, parent))
        return now

    def _first(self, feature: torch.Tensor) -> _Beams:
        size = (feature.shape[0], self.beam_size)
        token = torch.full(size, self.num_classes, device=feature.device)
        # One beam only: the others would be its doubles.
        score = torch.where(torch.arange(self.beam_size, device=feature.device) == 0, 0.0, NEVER).expand(size)
        said = torch.zeros(*size, self.num_classes, dtype=torch.bool, device=feature.device)
        return _Beams(token, score, said, torch.zeros_like(token, dtype=torch.bool), torch.zeros_like(said).float())

    def scores(self, logits: torch.Tensor) -> torch.Tensor:
        """Log odds (N, C) to scores, float32 in [0, 1]."""
        return logits.float().sigmoid()


def _of_parents(values: torch.Tensor, parent: torch.Tensor) -> torch.Tensor:
    return values.gather(1, parent[..., None].expand_as(values))
