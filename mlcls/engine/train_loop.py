"""The training loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from mmengine.dist import all_reduce
from mmengine.runner import EpochBasedTrainLoop
from torch import nn

from mlcls.engine.checkpoint import unwrap
from mlcls.engine.dataloader import start_at
from mlcls.engine.prefetch import prefetched
from mlcls.engine.random_state import seed_step
from mlcls.engine.step import TrainStep
from mlcls.errors import ConfigError, DataError, RunStopped
from mlcls.models.fitting import losses_of
from mlcls.registry import LOOPS
from mlcls.structures import Batch

if TYPE_CHECKING:
    from mlcls.engine.runner import Runner

_OUT_OF_MEMORY = ('stop', 'halve')


@LOOPS.register_module(name=['EpochBasedTrainLoop', 'TrainLoop'])
class TrainLoop(EpochBasedTrainLoop):
    """Training by epochs, with validation in between.

    A run that is resumed at the end of an epoch first validates it, since the checkpoint was written before that
    validation: best scores and early stopping go on as if nothing had happened. One that is resumed inside an epoch
    begins with the batch that comes next.

    Args:
        runner: The run.
        dataloader: Training loader or its config.
        max_epochs: Number of epochs.
        val_begin: First epoch that is validated.
        val_interval: Validate each time this many epochs have passed, and after the last.
        dynamic_intervals: (epoch, interval) pairs that change ``val_interval`` on the way.
        out_of_memory: Where memory does not suffice for a step, ``'stop'`` the run with advice, or ``'halve'`` the
            number of images that are worked on at a time, accumulate their gradients, and go on.

    Raises:
        ConfigError: Another ``out_of_memory``.
    """

    runner: Runner

    def __init__(
        self,
        runner: Runner,
        dataloader: Any,
        max_epochs: int,
        val_begin: int = 1,
        val_interval: int = 1,
        dynamic_intervals: Sequence[tuple[int, int]] | None = None,
        out_of_memory: Literal['stop', 'halve'] = 'stop',
    ) -> None:
        if out_of_memory not in _OUT_OF_MEMORY:
            raise ConfigError(f"train_cfg.out_of_memory must be 'stop' or 'halve', got {out_of_memory!r}")
        super().__init__(runner, dataloader, max_epochs, val_begin, val_interval, dynamic_intervals)
        self.step = TrainStep(runner, halve=out_of_memory == 'halve')
        self._done = 0  # batches of the present epoch
        self._is_validated = self._is_in_step = False

    @property
    def batches_done(self) -> int:
        """Batches of the present epoch that were trained on; 0 between epochs."""
        return self._done

    def take_up(self, epoch: int, iteration: int, batches_done: int = 0, is_validated: bool = False) -> None:
        """Go on from a checkpoint.

        Args:
            epoch: Epochs finished.
            iteration: Steps finished.
            batches_done: Batches of the next epoch that are finished, too.
            is_validated: The checkpoint was written after the validation of the epochs finished.
        """
        self._epoch, self._iter, self._done = epoch, iteration, batches_done
        self._is_validated = is_validated

    def run(self) -> nn.Module:
        """Train to the end; returns the model.

        Raises:
            RunStopped: It was asked to stop, and has saved.
        """
        self.runner.call_hook('before_train')
        if self._epoch > 0 and not self._is_validated:
            self._validate_if_due()
        if self._epoch >= self._max_epochs:
            self.runner.logger.info(f'training is over: {self._epoch} of {self._max_epochs} epochs are done')
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._stop_if_asked()
            self._validate_if_due()
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_epoch(self) -> None:
        """One epoch, or what is left of it. Normalisation statistics are averaged over the ranks before anything is
        saved at its end."""
        runner = self.runner
        runner.operating_points = runner.raw_points = None  # those were of the weights that are now changed
        seed_step(runner.seed or 0, self._iter, runner.rank)  # hooks may draw, too
        runner.call_hook('before_train_epoch')
        runner.model.train()
        losses = losses_of(runner.model).values()
        for loss in losses:
            loss.start_epoch(self._epoch)
        if hasattr(runner.optim_wrapper, 'start_epoch'):
            runner.optim_wrapper.start_epoch(len(self.dataloader), self._done)
        start_at(self.dataloader, self._epoch, self._done)
        runner.meter.restart()
        try:
            for number, batch in enumerate(runner.meter.timed(self._batches()), self._done):
                self.run_iter(number, batch)
        except DataError:
            self._save_what_is_done()
            raise
        self._done = 0
        for loss in losses:
            loss.end_epoch()
        average_statistics(runner.model)
        runner.decide(at_end=True)
        runner.call_hook('after_train_epoch')
        self._epoch += 1

    def _batches(self) -> Iterator[Batch]:
        return prefetched(self.dataloader, self.runner.device)

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """One step."""
        runner = self.runner
        self._check_batch(data_batch)
        self._is_in_step = True
        runner.call_hook('before_train_iter', batch_idx=idx, data_batch=data_batch)
        outputs = self.step(data_batch)
        runner.meter.add(outputs, len(data_batch['index']))
        self._done = idx + 1
        runner.decide()
        runner.call_hook('after_train_iter', batch_idx=idx, data_batch=data_batch, outputs=outputs)
        self._iter += 1
        self._is_in_step = False
        if runner.decided and self._done < len(self.dataloader):
            self._stop_if_asked()

    def _save_what_is_done(self) -> None:
        """Keep the steps of an epoch whose next batch cannot be had; of several processes, others do not know of it."""
        runner = self.runner
        if runner.world_size == 1 and self._done and not self._is_in_step and runner.is_between_steps:
            runner.call_hook('save_inside_epoch', batches_done=self._done)

    def _stop_if_asked(self) -> None:
        if 'stop' in self.runner.decided and self.runner.is_between_steps:
            raise self.runner.stopped()

    def _check_batch(self, batch: Batch | None) -> None:
        """Refuse what is left of a batch after ``on_error='skip'``, if nothing can be learnt from it."""
        listed = 'work_dir/bad_images.jsonl lists those left out, with the reasons'
        if batch is None:
            raise DataError(f'no image of a whole batch can be used; {listed}')
        if len(batch['index']) == 1 and has_batch_norm(self.runner.model):
            raise DataError(
                'a single image of a batch can be used, on which batch normalisation has no meaning; '
                f"{listed}; on_error='replace' keeps batches whole"
            )

    def _validate_if_due(self) -> None:
        self._decide_current_val_interval()
        due = self._epoch % self.val_interval == 0 or self._epoch == self._max_epochs
        if self.runner.val_loop is None or self._epoch < self.val_begin or not due:
            return
        try:
            self.runner.val_loop.run()
        except RunStopped:
            self.runner.call_hook('save_to_stop')
            raise self.runner.stopped() from None


def has_batch_norm(model: nn.Module) -> bool:
    """Whether a model, in training, normalises by the statistics of a batch."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training for module in model.modules())


def average_statistics(model: nn.Module) -> None:
    """Make batch normalisation's running statistics those of all ranks: each has seen its own share of the images.

    Those that are kept fixed are equal already, and the mean of equal numbers could differ in its last digit.
    """
    for module in unwrap(model).modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training and module.running_mean is not None:
            all_reduce(module.running_mean, op='mean')
            all_reduce(module.running_var, op='mean')
