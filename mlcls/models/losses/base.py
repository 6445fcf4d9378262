"""What all losses share: targets, checks of a batch, precision, reduction, and the link from logits to scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypedDict

import torch

from mlcls.errors import ConfigError, DataError
from mlcls.models.losses.compiling import compiled
from mlcls.models.losses.link import LinkCurve
from mlcls.models.losses.settings import Settings

Reduction = Literal['none', 'mean', 'sum']
REDUCTIONS = ('none', 'mean', 'sum')
#: What may be done about the label -1. ``'unobserved'`` only in losses for incomplete labels.
UNKNOWNS = ('ignore', 'negative')


class Shared(TypedDict, total=False):
    """Arguments of every loss.

    Args:
        reduction: ``'none'``, ``'mean'`` or ``'sum'``.
        loss_weight: Factor of the loss.
        unknown: ``'ignore'`` leaves labels of -1 out; ``'negative'`` takes them as absent.
        compile: Run through ``torch.compile``; without a working compiler it warns once and runs as it is.
    """

    reduction: Reduction
    loss_weight: float
    unknown: str
    compile: bool


def known_labels(targets: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Split targets into labels and a mask.

    Args:
        targets: (N, C), 1, 0, -1 (unknown) or soft values in [0, 1].
        dtype: Type of the results, that of the logits.

    Returns:
        (N, C) labels in [0, 1] with 0 in place of unknown, and (N, C), 1 where the label is known and 0 elsewhere.
    """
    known = (targets >= 0).to(dtype)
    return targets.to(dtype) * known, known


def reduce_loss(loss: torch.Tensor, reduction: Reduction = 'mean', avg_factor: float | None = None) -> torch.Tensor:
    """Reduce the loss of a batch.

    Args:
        loss: Loss of every image and class (N, C), or of every image (N,).
        reduction: ``'none'`` keeps it, ``'sum'`` adds everything up, ``'mean'`` divides the sum by ``avg_factor``.
        avg_factor: Divisor of ``'mean'``; the number of elements if None. Heads pass the number of images, so that a
            loss is summed over classes (the convention of mmpretrain).
    """
    if reduction == 'none':
        return loss
    if reduction == 'sum':
        return loss.sum()
    # Not loss.mean(): its gradient would be a tensor of the size of the loss.
    return loss.sum() / (max(loss.numel(), 1) if avg_factor is None else avg_factor)


class MultiLabelLoss(Settings, ABC):
    """Base of the losses. A subclass gives :meth:`unreduced` and, where it is known, the link.

    Args:
        reduction: See :class:`Shared`.
        loss_weight: See :class:`Shared`.
        unknown: See :class:`Shared`.
        compile: See :class:`Shared`.

    Raises:
        ConfigError: ``reduction`` or ``unknown`` is none of its choices.
    """

    #: Choices of ``unknown``.
    unknowns: Sequence[str] = UNKNOWNS
    #: What one value of :meth:`unreduced` is the loss of.
    unit: Literal['label', 'image', 'batch'] = 'label'
    #: Whether :meth:`link` gives the probability of the label at the optimum; False where no link can.
    calibrated: bool = False
    #: Names of parameters and buffers that hold something for every training image: saved apart from the weights.
    training_state: tuple[str, ...] = ()
    #: The tabulated link, of losses that have one; made at its first use.
    _curve: LinkCurve | None = None

    def __init__(
        self, reduction: Reduction = 'mean', loss_weight: float = 1.0, unknown: str = 'ignore', compile: bool = False
    ) -> None:
        super().__init__()
        self.check_choice('reduction', reduction, REDUCTIONS)
        self.check_choice('unknown', unknown, self.unknowns)
        self.check_range('loss_weight', loss_weight)
        self.reduction: Reduction = reduction
        self.loss_weight = loss_weight
        self.unknown = unknown
        #: Epoch of the training, from 0; set by the training loop.
        self.epoch = 0
        self._compiled = self.compile_steps() if compile else None

    # What a subclass gives.

    @abstractmethod
    def unreduced(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Loss of every image and class (N, C), of every image (N,), or of the batch (), before any reduction.

        Args:
            logits: (N, C), float32 or float64.
            targets: (N, C), 1, 0, -1 (unknown) or soft values in [0, 1].
        """

    def link(self, logits: torch.Tensor) -> torch.Tensor:
        """Scores in [0, 1] of logits (N, C) trained with this loss, float32: the sigmoid, unless overridden."""
        return logits.float().sigmoid()

    def compile_steps(self) -> Callable[..., torch.Tensor]:
        """What ``compile=True`` runs instead of :meth:`unreduced`: a function of (self, logits, targets)."""
        return compiled(type(self).unreduced, self.name)

    # What the engine and the heads call.

    def start_epoch(self, epoch: int) -> None:
        """Called by the training loop before epoch ``epoch`` (from 0), on every rank."""
        self.epoch = epoch

    def end_epoch(self) -> None:
        """Called by the training loop after the last step of an epoch, before anything is saved, on every rank."""

    def prior_logits(self, prevalence: torch.Tensor) -> torch.Tensor:
        """Logits whose score is the given one: the inverse of :meth:`link`, by bisection.

        Args:
            prevalence: (C,) scores inside (0, 1).

        Returns:
            (C,) float32.
        """
        low, high = torch.full_like(prevalence, -1000.0), torch.full_like(prevalence, 1000.0)
        for _ in range(70):
            middle = (low + high) / 2
            below = self.link(middle[None])[0].to(prevalence) < prevalence
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return ((low + high) / 2).float()

    # The call.

    def forward(
        self,
        logits: torch.Tensor,
        targets: torch.Tensor,
        weight: torch.Tensor | None = None,
        avg_factor: float | None = None,
        reduction_override: Reduction | None = None,
        index: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Loss of a batch.

        Args:
            logits: (N, C), any floating type; computed in float32 (float64 stays).
            targets: (N, C), 1, 0, -1 (unknown, see ``unknown``) or soft values in [0, 1].
            weight: (N,) factors of the images or, for a loss of every class, (N, C).
            avg_factor: Divisor of the mean, see :func:`reduce_loss`. A loss of the whole batch is a mean already.
            reduction_override: Reduction of this call.
            index: (N,) positions of the images in the data set, for losses that remember something of each.

        Returns:
            A scalar; under ``'none'`` (N, C) or, from a loss of whole images, (N,).

        Raises:
            ConfigError: Shapes that do not fit, or a reduction that the loss does not have.
            DataError: Targets outside {-1} and [0, 1] (looked for on the CPU, where it costs no waiting).
        """
        self._check_shapes(logits, targets, weight)
        reduction = reduction_override or self.reduction
        self.check_choice('reduction_override', reduction, REDUCTIONS)
        if targets.device.type == 'cpu' and not torch.compiler.is_compiling():
            self._check_range_of(targets)
        if self.unknown == 'negative':
            targets = targets.clamp(min=0)
        with torch.autocast(logits.device.type, enabled=False):
            logits = logits if logits.dtype == torch.float64 else logits.float()
            loss = self._reduced(logits, targets, index, weight, reduction, avg_factor)
        return loss

    def _reduced(
        self,
        logits: torch.Tensor,
        targets: torch.Tensor,
        index: torch.Tensor | None,
        weight: torch.Tensor | None,
        reduction: Reduction,
        avg_factor: float | None,
    ) -> torch.Tensor:
        if self.unit == 'batch':
            loss = self.unreduced_of_images(logits, targets, index)
            return self.loss_weight * self._of_batch(loss, reduction, weight)
        if weight is None and reduction != 'none':
            count = logits.numel() if self.unit == 'label' else len(logits)
            divisor = 1 if reduction == 'sum' else max(count, 1) if avg_factor is None else avg_factor
            return self.total(logits, targets, index, self.loss_weight / divisor)
        loss = self.unreduced_of_images(logits, targets, index)
        if weight is not None:
            loss = loss * self._fitting(weight, loss)
        return self.loss_weight * reduce_loss(loss, reduction, avg_factor)

    def total(
        self, logits: torch.Tensor, targets: torch.Tensor, index: torch.Tensor | None, factor: float
    ) -> torch.Tensor:
        """``factor`` times the sum of :meth:`unreduced_of_images`."""
        return factor * self.unreduced_of_images(logits, targets, index).sum()

    def unreduced_of_images(
        self, logits: torch.Tensor, targets: torch.Tensor, index: torch.Tensor | None
    ) -> torch.Tensor:
        """:meth:`unreduced` of known images; overridden by losses that remember something of each."""
        return self.unreduced(logits, targets) if self._compiled is None else self._compiled(self, logits, targets)

    def _of_batch(self, loss: torch.Tensor, reduction: Reduction, weight: torch.Tensor | None) -> torch.Tensor:
        if reduction != 'mean' or weight is not None:
            what = 'a weight' if weight is not None else f"reduction='{reduction}'"
            raise ConfigError(
                f"{self.name}: is a mean over the whole batch and takes only reduction='mean', not {what}"
            )
        return loss

    def _fitting(self, weight: torch.Tensor, loss: torch.Tensor) -> torch.Tensor:
        if weight.dim() > loss.dim():
            raise ConfigError(f'{self.name}: is a loss of whole images; weight must be (N,), got {tuple(weight.shape)}')
        return (weight[:, None] if weight.dim() < loss.dim() else weight).to(loss.dtype)

    def _check_shapes(self, logits: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor | None) -> None:
        if logits.dim() != 2:
            raise ConfigError(f'{self.name}: logits must be (images, classes), got shape {tuple(logits.shape)}')
        if targets.shape != logits.shape:
            raise ConfigError(
                f'{self.name}: targets must have the shape of the logits, {tuple(logits.shape)}, '
                f'got {tuple(targets.shape)}'
            )
        if weight is not None and weight.shape not in (logits.shape, logits.shape[:1]):
            raise ConfigError(
                f'{self.name}: weight must be of shape {tuple(logits.shape[:1])} or {tuple(logits.shape)}, '
                f'got {tuple(weight.shape)}'
            )

    def _check_range_of(self, targets: torch.Tensor) -> None:
        if not targets.numel():
            return
        low, high = (float(bound) for bound in targets.aminmax())
        wrong = not (low >= -1 and high <= 1)  # also if one is NaN
        if not wrong and low < 0 and targets.is_floating_point():
            wrong = bool(((targets < 0) & (targets != -1)).any())
        if wrong:
            values = targets.double()
            bad = values[~((values == -1) | ((values >= 0) & (values <= 1)))][0].item()
            raise DataError(
                f'{self.name}: targets must be 1 (present), 0 (absent), -1 (unknown) or soft values in [0, 1], '
                f'got {bad:g}'
            )

    # What is for every training image is no part of the weights.

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name in self.training_state:
            destination.pop(prefix + name, None)

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, local_metadata: dict, strict: bool, missing_keys: list[str], *args: Any
    ) -> None:
        missing: list[str] = []
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing, *args)
        missing_keys += [key for key in missing if key not in {prefix + name for name in self.training_state}]


class PointwiseLoss(MultiLabelLoss):
    """A loss in which each label depends on its own logit alone. Its link follows from its gradients.

    At the optimum the gradients of positives and negatives cancel: with posterior pi, ``pi l1'(x) + (1 - pi) l0'(x) =
    0``. So ``pi = l0' / (l0' - l1')``, a function of the logit that is tabulated once, see :class:`LinkCurve`.
    """

    calibrated = True
    #: Target of a label that is not there.
    absent_target = 0.0

    @abstractmethod
    def pointwise(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Loss of every image and class, (N, C) of the type of ``logits``, 0 where the label is unknown."""

    def unreduced(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """:meth:`pointwise`."""
        return self.pointwise(logits, targets)

    @property
    def curve(self) -> LinkCurve:
        """Log odds of the label over the logit, tabulated at the first use."""
        if self._curve is None:
            self._curve = LinkCurve(self.pointwise, self.absent_target)
        return self._curve

    def link(self, logits: torch.Tensor) -> torch.Tensor:
        """Probability of the label at the optimum of this loss, (N, C) float32 in [0, 1], rising with the logit."""
        return self.curve(logits.float()).sigmoid()
