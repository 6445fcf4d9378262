"""What TensorBoard shows beside scalars: precision-recall curves, the images of a batch, settings, the network."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.visualization import TensorboardVisBackend
from torch import nn
from torch.nn import functional as F

from mlcls.engine.checkpoint import unwrap
from mlcls.engine.random_state import seed_step
from mlcls.errors import ConfigError
from mlcls.models.fitting import losses_of
from mlcls.registry import HOOKS

#: Longest side, in pixels, of an image in the grid; larger ones are made smaller.
_SIDE = 256
_GAP = 2


@HOOKS.register_module()
class TensorBoardHook(Hook):
    """Writes more than scalars to the run's TensorBoard events; without such a backend it does nothing.

    TensorBoard is not imported for it, only used where the run's visualizer has it. The grid and the graph are made
    once, after the first step of the process, and leave the random state as it was: weights do not depend on them. An
    error of the disk is a warning, after which nothing more is written.

    Args:
        pr_curves: At each validation a precision-recall curve for this many classes, those with the most positives; 0
            for none. At 127 thresholds they take about a millisecond a class and 10,000 images.
        images: Images in a grid of the first training batch as the network sees them, crops and batch augmentations
            included; 0 for no grid.
        hparams: After training, write the settings people compare runs by, with the last validation's metrics.
        graph: Write the graph of the network; tracing it takes seconds.

    Raises:
        ConfigError: A negative number.
    """

    priority = 'VERY_LOW'

    def __init__(self, pr_curves: int = 20, images: int = 16, hparams: bool = True, graph: bool = False) -> None:
        for name, value in (('pr_curves', pr_curves), ('images', images)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ConfigError(f'TensorBoardHook: {name} must be a whole number, 0 or more; got {value!r}')
        self.pr_curves = pr_curves
        self.images = images
        self.hparams = hparams
        self.graph = graph
        self._is_first = True
        self._failed = False

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """After the first step, which they need not wait for: the images and the graph."""
        if not self._is_first:
            return
        self._is_first = False
        if not (self.images or self.graph) or data_batch is None:
            return
        with self._writer(runner) as writer:
            if writer is None:
                return
            devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
            with torch.random.fork_rng(devices), torch.no_grad():
                seed_step(runner.seed or 0, runner.iter, runner.rank)  # the draws of this step once more
                self._add_batch(writer, runner, data_batch)

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Precision-recall curves of this validation."""
        result = getattr(getattr(runner, 'val_loop', None), 'result', None)
        if not self.pr_curves or result is None:
            return
        with self._writer(runner) as writer:
            if writer is not None:
                add_pr_curves(writer, result, self.pr_curves, runner.epoch)

    def after_train(self, runner: Any) -> None:
        """Settings, and what they led to."""
        if not self.hparams:
            return
        with self._writer(runner) as writer:
            if writer is not None:
                result = getattr(getattr(runner, 'val_loop', None), 'result', None)
                add_hparams(writer, settings_of(runner), {} if result is None else result.metrics)

    @contextmanager
    def _writer(self, runner: Any) -> Iterator[Any]:
        """The run's SummaryWriter on the main process, None elsewhere and without TensorBoard."""
        if self._failed or not is_main_process():
            yield None
            return
        try:
            yield summary_writer(runner.visualizer)
        except torch.OutOfMemoryError:
            runner.logger.warning('TensorBoardHook: no memory is left for pictures of the first batch; none are shown')
        except OSError as error:
            self._failed = True
            runner.logger.warning(
                f'TensorBoard events cannot be written ({error.strerror or error}); training goes on without them'
            )

    def _add_batch(self, writer: Any, runner: Any, batch: Any) -> None:
        model = unwrap(runner.model)
        prepare: Any = getattr(model, 'data_preprocessor', None)
        if not hasattr(prepare, 'restore'):
            return
        inputs = prepare(batch, True)['inputs']
        if self.images:
            grid = image_grid(prepare.restore(inputs[: self.images]))
            writer.add_image('training batch', grid.cpu().numpy(), runner.iter, dataformats='HWC')
        if self.graph:
            try:
                add_graph(writer, model, inputs[:1])
            except Exception as error:  # whatever a network does that cannot be traced: it trains nevertheless
                reason = str(error).strip().partition('\n')[0]
                runner.logger.warning(f'TensorBoardHook: the network cannot be traced for graph=True ({reason})')


def summary_writer(visualizer: Any) -> Any:
    """The SummaryWriter behind a visualizer, or None; made at its first use."""
    for backend in getattr(visualizer, '_vis_backends', {}).values():
        if isinstance(backend, TensorboardVisBackend):
            return backend.experiment
    return None


def add_pr_curves(writer: Any, result: Any, number: int, step: int) -> None:
    """Write the precision-recall curves of the classes with the most positives; unknown labels are left out.

    Args:
        writer: A SummaryWriter.
        result: ``EvaluationResult``.
        number: How many classes at most.
        step: Epoch.
    """
    from mlcls.evaluation.report.tensorboard import class_tags

    positives = torch.tensor(result.positives)
    order = torch.argsort(positives, descending=True, stable=True)[:number].tolist()
    chosen = [c for c in order if positives[c] > 0]
    for c, tag in class_tags(result, chosen).items():
        scores, labels = result.scores[:, c].float(), result.targets[:, c]
        known = labels >= 0
        writer.add_pr_curve(f'precision-recall/{tag}', labels[known] == 1, scores[known], step)


def image_grid(images: torch.Tensor) -> torch.Tensor:
    """Images side by side on white.

    Args:
        images: uint8 RGB (N, 3, H, W), N at least 1.

    Returns:
        uint8 (H', W', 3), as square as N allows; a long side over 256 pixels is made 256 first.
    """
    height, width = images.shape[-2:]
    if max(height, width) > _SIDE:
        scale = _SIDE / max(height, width)
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        images = F.interpolate(images.float(), size, mode='bilinear', antialias=True).round().clamp(0, 255).byte()
    count, channels, height, width = images.shape
    columns = next(n for n in range(1, count + 1) if n * n >= count)
    rows = -(-count // columns)
    grid = images.new_full((rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, channels), 255)
    for number, image in enumerate(images):
        top, left = number // columns * (height + _GAP), number % columns * (width + _GAP)
        grid[top : top + height, left : left + width] = image.permute(1, 2, 0)
    return grid


def settings_of(runner: Any) -> dict[str, str | float | int]:
    """What people compare runs by: learning rate, images a step of all processes, loss, backbone, optimiser.

    The learning rate is the one the schedulers start from, of several groups of parameters the highest.
    """
    model = unwrap(runner.model)
    wrapper = runner.optim_wrapper
    optimizer = wrapper.optimizer
    sampler = getattr(runner.train_dataloader, 'batch_sampler', None)
    batch = getattr(runner.train_dataloader, 'batch_size', None) or getattr(sampler, 'batch_size', None) or 0
    backbone = (runner.cfg.get('model') or {}).get('backbone') or {}
    size = backbone.get('depth') or backbone.get('arch') or backbone.get('model_name')
    return {
        'lr': float(max(group.get('initial_lr', group['lr']) for group in optimizer.param_groups)),
        'weight_decay': float(optimizer.defaults.get('weight_decay') or 0.0),
        'batch_size': int(batch) * get_world_size() * int(getattr(wrapper, '_accumulative_counts', 1)),
        'epochs': int(runner.max_epochs or 0),
        'seed': int(runner.seed or 0),
        'optimizer': type(optimizer).__name__,
        'loss': ', '.join(dict.fromkeys(type(loss).__name__ for loss in losses_of(model).values())),
        'backbone': str(backbone.get('type', '')) + (f' {size}' if isinstance(size, (int, str)) else ''),
    }


def add_hparams(writer: Any, settings: dict[str, Any], metrics: dict[str, float]) -> None:
    """Write settings into the run's own events: ``SummaryWriter.add_hparams`` would begin another run beside it.

    The dashboard finds the metrics in the scalars of the run, by their names.
    """
    from torch.utils.tensorboard.summary import hparams

    for summary in hparams(settings, metrics):
        writer.file_writer.add_summary(summary)
    writer.flush()


def add_graph(writer: Any, model: nn.Module, inputs: torch.Tensor) -> None:
    """Write the graph of the network in evaluation, and leave its modes as they were.

    Args:
        writer: A SummaryWriter.
        model: Called with images alone, it returns a tensor or tuples of them.
        inputs: (N, 3, H, W), normalised.

    Raises:
        Exception: Whatever tracing finds that it cannot follow.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # about branches that a trace does not follow
            writer.add_graph(model, inputs, use_strict_trace=False)
    finally:
        for module, mode in modes.items():
            module.training = mode
