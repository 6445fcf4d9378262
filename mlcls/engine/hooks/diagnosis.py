"""Watching what a loss does: whose gradients train the model, how scores part, and whether training collapses."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook

from mlcls.engine.checkpoint import unwrap
from mlcls.errors import ConfigError
from mlcls.registry import HOOKS

#: What to try, the most telling first: start of the collapse's name, what must hold of head and loss (see
#: :func:`_facts`), words. The ladder is of the loss's authors: issue 22 of Alibaba-MIIL/ASL on GitHub.
ADVICE = (
    ('all', 'softmax', 'model.head.loss.use_sigmoid=True, not a softmax'),
    ('all', 'uncalibrated', "model.head.score='calibrated'"),
    ('all-positive', 'pos_weight above 1', 'a lower model.head.loss.pos_weight'),
    ('all-positive', 'w_neg below w_pos', 'a higher model.head.loss.w_neg'),
    ('all-positive', 'AsymmetricLoss', 'model.head.loss.gamma_neg=2, gamma_pos=2, clip=0, a step of the ladder '
     '(gamma_neg, gamma_pos, clip): (0, 0, 0), (2, 2, 0), (2, 1, 0), (4, 1, 0), (4, 1, .05)'),
    ('all-positive', 'any', 'a lower optim_wrapper.optimizer.lr'),
    ('all-negative', 'pos_weight not by class', "model.head.loss.pos_weight='auto'"),
    ('all-negative', 'no prior_bias', 'model.head.prior_bias=True'),
    ('all-negative', 'any', 'ClassBalancedDataset around the training data, or another optim_wrapper.optimizer.lr'),
)  # fmt: skip


def _facts(head: Any, loss: Any) -> dict[str, bool]:
    takes_weight = hasattr(loss, 'pos_weight') and getattr(loss, 'use_sigmoid', True)
    weight = torch.ones(()) if getattr(loss, 'pos_weight', None) is None else loss.pos_weight
    return {
        'any': True,
        'softmax': not getattr(loss, 'use_sigmoid', True),
        'uncalibrated': getattr(head, 'score', None) == 'sigmoid' and getattr(loss, 'calibrated', False),
        'pos_weight above 1': bool((weight > 1).any()),
        'pos_weight not by class': takes_weight and weight.dim() == 0,
        'w_neg below w_pos': getattr(loss, 'w_neg', 1) < getattr(loss, 'w_pos', 1),
        'no prior_bias': not getattr(head, 'prior_bias', True),
        type(loss).__name__: True,
    }


def group_classes(counts: np.ndarray, bounds: Sequence[int] | None = None) -> dict[str, np.ndarray]:
    """Part classes into frequent and rare ones.

    Args:
        counts: (C,) training images in which each class is present, at least 0.
        bounds: Least counts of ``medium`` and of ``head``. None cuts the ranking by count in thirds (the first ones get
            what is left over; equal counts rank in class order): one class is ``head``, two are ``head`` and ``tail``.

    Returns:
        Ids of the classes, rising, of ``head``, ``medium`` and ``tail``; groups without classes are left out. A class
        without positives is ``tail``.
    """
    if bounds is not None:
        level = 2 - np.digitize(counts, bounds)
    else:
        rank = np.argsort(np.argsort(-counts, kind='stable'))
        level = rank * 3 // len(counts) if len(counts) > 2 else rank * 2
    level[counts == 0] = 2
    groups = {name: np.flatnonzero(level == number) for number, name in enumerate(('head', 'medium', 'tail'))}
    return {name: classes for name, classes in groups.items() if len(classes)}


def find_collapse(above: Sequence[float], scores: Sequence[float]) -> str | None:
    """Whether a model says the same of every image.

    Args:
        above: Shares, in [0, 1], of the positives and of the negatives that score at or above the threshold.
        scores: Mean scores, in [0, 1], of the positives and of the negatives. NaN where there are none.

    Returns:
        ``'all-positive'``: more than 95 % of the negatives do. ``'all-negative'``: less than 1 % of the positives do,
        and they score less than .05 above the negatives. None: neither.
    """
    if above[1] > 0.95:
        return 'all-positive'
    return 'all-negative' if above[0] < 0.01 and scores[0] - scores[1] < 0.05 else None


def _are_counts(*values: object) -> bool:
    return all(isinstance(value, int) and not isinstance(value, bool) and value >= 1 for value in values)


@HOOKS.register_module()
class LossDiagnosisHook(Hook):
    """Logs gradients and scores of frequent, medium and rare classes each epoch, and warns of a collapse once a run.

    ``diagnosis/<head, medium or tail>/`` has ``gradient_positive`` and ``gradient_negative``, shares in [0, 1] of the
    sum of ``|dL/dlogit|`` over known labels, adding up to 1 over groups and signs; ``score_positive``,
    ``score_negative`` and ``score``, mean scores of the head in [0, 1] of these and of all known labels. Without such
    labels a value is left out. Soft labels above .5 are positive; -1 is left out, also where the loss takes it as
    absent. Shares are taken in each step and averaged over steps: the scale of a float16 loss, which changes on the
    way, does not matter. The host waits for the device once an epoch, and the weights are the same without this hook.

    Args:
        interval: Every ``interval``-th step of an epoch is looked at, at least 1; of a shorter epoch the last step.
        bounds: Least numbers of positive training images of ``medium`` and ``head``, above 0 and rising; papers on long
            tails have ``(20, 101)``. None: thirds of the classes, see :func:`group_classes`.
        patience: First epoch, from 1, after which a collapse is warned of: models start near one.

    Raises:
        ConfigError: A value outside these; as training starts, a model without what is watched.
    """

    def __init__(self, interval: int = 20, bounds: Sequence[int] | None = None, patience: int = 2) -> None:
        for name, value in (('interval', interval), ('patience', patience)):
            if not _are_counts(value):
                raise ConfigError(f'LossDiagnosisHook: {name} must be a whole number of at least 1, got {value!r}')
        pair = bounds if isinstance(bounds, (list, tuple)) else ()
        if bounds is not None and not (len(pair) == 2 and _are_counts(*pair) and pair[0] < pair[1]):
            raise ConfigError(
                'LossDiagnosisHook: bounds must be the least positives of a medium and of a head class, at least 1 and '
                f'rising, as in (20, 101); got {bounds!r}'
            )
        self.interval, self.bounds, self.patience = interval, bounds, patience
        self._handles: list[Any] = []

    def before_train(self, runner: Any) -> None:
        """Find the head, and part the classes by the training labels."""
        self._model: Any = unwrap(runner.model)
        self._head: Any = getattr(self._model, 'head', None)
        if not (hasattr(self._head, 'loss_module') and hasattr(self._head, 'scores') and runner._statistics):
            raise ConfigError(
                'LossDiagnosisHook: needs a model.head with loss_module and scores(logits), as MultiLabelLinearClsHead'
                f' has, and labelled training data, got {type(self._head).__name__}; change the model or drop the hook'
            )
        labels = runner._statistics.labels  # of images, not of draws: oversampling makes no class frequent
        thr = getattr(self._head, 'thr', None)
        self._thr = 0.5 if thr is None else thr
        self._groups = group_classes(labels.counts(), self.bounds)
        # (quantity, sign, class): sums of shares of the gradient, of scores, of ones, of scores at the threshold.
        size, device = (4, 2, labels.num_classes), next(self._model.parameters()).device
        self._sums = torch.zeros(size, dtype=torch.float64, device=device)
        self._warned = False

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Listen in on this step if it is its turn."""
        length = len(runner.train_dataloader)
        if (batch_idx + 1) % self.interval and not (length < self.interval and batch_idx + 1 == length):
            return
        self.close()
        # For this forward pass alone, however it ends: after an error elsewhere there is nothing left to remove.
        self._handles += [
            self._head.loss_module.register_forward_pre_hook(self._look, with_kwargs=True),
            self._model.register_forward_hook(lambda *_: self.close(), always_call=True),
        ]

    def after_train(self, runner: Any) -> None:
        """Stop listening."""
        self.close()

    def close(self) -> None:
        """Stop listening."""
        while self._handles:
            self._handles.pop().remove()

    def _look(self, loss: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.close()
        given = {**dict(zip(('logits', 'targets'), args)), **kwargs}
        logits, targets = given['logits'], given['targets']
        with torch.no_grad(), torch.autocast(logits.device.type, enabled=False):
            signs = torch.stack([targets > 0.5, (targets >= 0) & (targets <= 0.5)])
            scores = self._head.scores(logits.detach())
            values = torch.stack([scores, torch.ones_like(scores), (scores >= self._thr).to(scores)])
            self._sums[1:] += torch.where(signs, values[:, None], 0).sum(2)
        if logits.requires_grad:
            logits.register_hook(partial(self._weigh, signs))

    def _weigh(self, signs: torch.Tensor, gradient: torch.Tensor) -> None:
        mass = torch.where(signs, gradient.detach().abs().float(), 0).sum(1)
        total = mass.sum()
        is_fine = total.isfinite() & (total > 0)  # neither an overflow nor a batch without a known label
        self._sums[0] += torch.where(is_fine, mass / total, 0)

    def after_train_epoch(self, runner: Any) -> None:
        """Report what was seen, and warn of a collapse."""
        all_reduce(self._sums)
        sums, epoch = self._sums.cpu().numpy().copy(), runner.epoch + 1
        self._sums.zero_()
        with np.errstate(invalid='ignore'):
            sums[0] /= sums[0].sum()  # the number of steps: the shares of each add up to 1
        scalars: dict[str, float] = {}
        for name, classes in self._groups.items():
            values = _summary(sums[:, :, classes].sum(2))
            shown = '  '.join(f'{key} {value:.3f}' for key, value in values.items())
            shown = shown.replace('_positive', '+').replace('_negative', '-')
            runner.logger.info(f'Diagnosis    [{epoch}]  {name} ({len(classes)} classes)  {shown}')
            scalars |= {f'diagnosis/{name}/{key}': value for key, value in values.items()}
        runner.visualizer.add_scalars(scalars, step=epoch, file_path=f'{runner.timestamp}.json')
        if epoch >= self.patience and not self._warned:
            self._warn(runner, epoch, sums.sum(2))

    def _warn(self, runner: Any, epoch: int, sums: np.ndarray) -> None:
        with np.errstate(invalid='ignore'):
            scores, above = sums[1] / sums[2], sums[3] / sums[2]
        collapse = find_collapse(above, scores)
        if collapse is None:
            return
        self._warned = True
        facts = _facts(self._head, self._head.loss_module)
        tips = [text for start, fact, text in ADVICE if collapse.startswith(start) and facts.get(fact)]
        runner.logger.warning(
            f'training collapses into {collapse} in epoch {epoch}: {above[0]:.1%} of the positives and {above[1]:.1%} '
            f'of the negatives score {self._thr:g} or more (means {scores[0]:.3f} and {scores[1]:.3f}), '
            f'with {type(self._head.loss_module).__name__}. Try {"; or ".join(tips)}'
        )


def _summary(sums: np.ndarray) -> dict[str, float]:
    names = ('gradient_positive', 'gradient_negative', 'score_positive', 'score_negative', 'score')
    with np.errstate(invalid='ignore'):
        values = (*sums[0], *sums[1] / sums[2], sums[1].sum() / sums[2].sum())
    return {name: float(value) for name, value in zip(names, values) if np.isfinite(value)}
