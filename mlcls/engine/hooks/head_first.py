"""Training the head before the whole network."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from torch import nn

from mlcls.engine.checkpoint import unwrap
from mlcls.errors import ConfigError
from mlcls.registry import HOOKS


@HOOKS.register_module()
class HeadFirstHook(Hook):
    """Trains only neck and head at first, and everything from then on.

    A head that starts at random sends gradients at random into a pretrained backbone; here it is trained on fixed
    features before (Kumar et al., "Fine-Tuning can Distort Pretrained Features", arXiv 2202.10054). Meanwhile the
    backbone is in evaluation mode, so that its statistics and features stand still, its parameters have no gradient,
    so that neither momentum nor weight decay moves them, and its forward pass keeps nothing for a backward pass.
    Parameters that the backbone itself freezes (``frozen_stages``) stay frozen afterwards.

    Schedules go on meanwhile; a run may be stopped and resumed in either phase.

    Args:
        epochs: Number of epochs for the head, at least 1.
        iterations: Number of steps instead, at least 1. Give one of the two.

    Raises:
        ConfigError: Both or neither, or a number below 1. As training starts: a model without backbone or head, or a
            backbone of which nothing is trained.
    """

    priority = 'VERY_HIGH'

    def __init__(self, epochs: int | None = None, iterations: int | None = None) -> None:
        if (epochs is None) == (iterations is None):
            raise ConfigError('HeadFirstHook: give epochs or iterations, and one of them only')
        for name, value in (('epochs', epochs), ('iterations', iterations)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ConfigError(f'HeadFirstHook: {name} must be a whole number of at least 1, got {value!r}')
        self.epochs, self.iterations = epochs, iterations
        self._waiting: list[nn.Parameter] = []

    def before_train(self, runner: Any) -> None:
        """Freeze the backbone, unless a resumed run is past that."""
        model: Any = unwrap(runner.model)
        backbone = getattr(model, 'backbone', None)
        if backbone is None or getattr(model, 'head', None) is None:
            raise ConfigError('HeadFirstHook: the model needs a backbone and a head; remove the hook')
        trained = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
        if not trained:
            raise ConfigError(
                'HeadFirstHook: nothing of model.backbone is trained, so there is nothing to thaw; remove the hook, or '
                'what freezes the backbone'
            )
        if self._is_over(runner):
            return
        self._waiting = trained
        for parameter in trained:
            parameter.requires_grad_(False)
            parameter.grad = None
        runner.rewrap_model()
        length = f'{self.epochs} epoch(s)' if self.epochs else f'{self.iterations} iterations'
        runner.logger.info(f'head first: {type(backbone).__name__} is frozen for the first {length}')
        if (self.epochs or 0) >= runner.max_epochs or (self.iterations or 0) >= runner.max_iters:
            runner.logger.warning(
                f'head first: the training ends before the backbone is trained: it has {runner.max_epochs} epoch(s), '
                f'the head has the first {length}; lower that of HeadFirstHook, or train longer'
            )

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Keep the backbone as it is, or let it go if it is time."""
        if not self._waiting:
            return
        backbone: Any = unwrap(runner.model).backbone
        if not self._is_over(runner):
            if backbone.training:  # epochs begin with model.train()
                backbone.eval()
            return
        for parameter in self._waiting:
            parameter.requires_grad_(True)
        runner.logger.info(
            f'head first: from epoch {runner.epoch + 1}, iteration {runner.iter + 1} on the backbone is trained, too '
            f'({len(self._waiting)} tensors)'
        )
        self._waiting = []
        backbone.train()
        runner.rewrap_model()

    def _is_over(self, runner: Any) -> bool:
        return runner.epoch >= self.epochs if self.epochs is not None else runner.iter >= self.iterations
