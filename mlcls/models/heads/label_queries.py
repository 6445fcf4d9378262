"""What heads share whose label queries look at the map with attention."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mlcls.errors import ConfigError
from mlcls.models.heads.multi_label import MultiLabelClsHead
from mlcls.structures import LabelStatistics


class LabelQueryHead(MultiLabelClsHead):
    """Base of the heads with a transformer decoder; a subclass gives ``decode``, ``last_bias`` and ``prior_bias``."""

    prior_bias: bool

    def check_sizes(self, feedforward_channels: int, dropout: float, **counts: int) -> None:
        """Check what the layers take.

        Raises:
            ConfigError: ``feedforward_channels`` or a count below 1, ``dropout`` outside [0, 1).
        """
        for name, value in {'feedforward_channels': feedforward_channels, **counts}.items():
            if value < 1:
                raise ConfigError(f'{type(self).__name__}: {name} must be at least 1, got {value}')
        if not 0 <= dropout < 1:
            raise ConfigError(f'{type(self).__name__}: dropout must be in [0, 1), got {dropout}')

    def decode(
        self, features: Sequence[torch.Tensor], return_weights: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Decoded queries (N, Q, D), and the last cross attention (N, heads, Q, H * W) or None."""
        raise NotImplementedError

    def last_bias(self) -> torch.Tensor:
        """Bias of the last layer: one a class, or one for all."""
        raise NotImplementedError

    def to_classes(self, maps: torch.Tensor) -> torch.Tensor:
        """Something of every query (N, Q, ...) to something of every class (N, C, ...)."""
        return maps

    def activation_maps(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Where the query of each class looks: cross attention of the last decoder layer, mean over its heads.

        Args:
            features: Output of the backbone.

        Returns:
            (N, C, H, W) float32, at least 0; each map sums to 1.
        """
        _, weights = self.decode(features, return_weights=True)
        assert weights is not None
        return self.to_classes(weights.mean(1)).unflatten(2, tuple(features[-1].shape[2:]))

    def start_bias(self, statistics: LabelStatistics) -> dict[str, torch.Tensor]:
        """With ``prior_bias``, set the last bias from the training labels; called after the weights are initialised.

        A bias that all classes share becomes the mean of theirs.

        Returns:
            The bias, by name, for the log; empty without ``prior_bias``.
        """
        if not self.prior_bias:
            return {}
        bias = self.last_bias()
        prevalence = torch.from_numpy(statistics.prevalence).to(bias.device)
        with torch.no_grad():
            to_logits = self.loss_module.prior_logits if self.score == 'calibrated' else torch.logit
            logits = to_logits(prevalence)
            bias.copy_(logits if bias.shape == logits.shape else logits.mean())
        return {'bias': bias.detach()}
