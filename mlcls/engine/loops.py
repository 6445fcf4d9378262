"""Validation and test loops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from mmengine.device import get_device
from mmengine.runner import BaseLoop

from mlcls.datasets import innermost
from mlcls.engine.amp import autocast_dtype
from mlcls.engine.averaging import RAW, averaging_hook
from mlcls.engine.dataloader import order_of
from mlcls.engine.prefetch import prefetched
from mlcls.errors import ConfigError
from mlcls.evaluation import EvaluationResult, Evaluator, Rows
from mlcls.evaluation.operating_points import OperatingPoints
from mlcls.models.test_time import TestTimeViews
from mlcls.registry import LOOPS
from mlcls.structures import Batch

if TYPE_CHECKING:
    from mlcls.engine.runner import Runner


class EvaluationLoop(BaseLoop):
    """One pass over a data set without training; the evaluator sees batches of tensors.

    Args:
        runner: The run.
        dataloader: Loader or its config.
        evaluator: Evaluator or config of its metrics.
        fp16: Run under autocast to float16; mmengine's argument.
        dtype: Run under autocast to ``'bfloat16'`` or ``'float16'``. Float32 by default, so that the numbers do not
            depend on how a device rounds.
        tta: Test-time augmentation: True takes the mean score of each picture and its mirror image; a dict the
            arguments of ``mlcls.models.test_time.TestTimeViews``, such as ``dict(flip=True, scales=[0.8, 1.25])``.
    """

    stage: str
    runner: Runner

    def __init__(
        self,
        runner: Runner,
        dataloader: Any,
        evaluator: Any,
        fp16: bool = False,
        dtype: str | None = None,
        tta: bool | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(runner, dataloader)
        if self.dataloader.drop_last or getattr(self.dataloader.batch_sampler, 'drop_last', False):
            raise ConfigError(
                f'{self.stage}_dataloader.drop_last=True would leave images out of the evaluation; remove it'
            )
        self._on_error = getattr(innermost(self.dataloader.dataset), 'on_error', 'raise')
        if self._on_error == 'replace':
            raise ConfigError(
                f"{self.stage}_dataloader.dataset.on_error='replace' would count other images twice; use 'skip', which "
                'leaves out what cannot be used and says so in the results'
            )
        self.evaluator: Evaluator = runner.build_evaluator(evaluator)
        self.refresh_meta()
        self.tta = TestTimeViews.from_config(tta)
        device_type = get_device()
        name = 'float16' if fp16 else dtype
        self.dtype = None if name is None else autocast_dtype(name, device_type)
        self.device_type = device_type
        self.result: EvaluationResult | None = None

    @property
    def data_hash(self) -> str:
        """16 hexadecimal digits over the data that are evaluated; empty of a data set that gives none."""
        return str(getattr(self.dataloader.dataset, 'fingerprint', ''))

    @property
    def tta_words(self) -> str:
        """Test-time augmentation in words, for results files."""
        return 'none' if self.tta is None else self.tta.describe()

    @property
    def dtype_words(self) -> str:
        """The precision of the network in words, for results files."""
        return 'float32' if self.dtype is None else f'{str(self.dtype).removeprefix("torch.")} (autocast)'

    def refresh_meta(self) -> None:
        """Tell the evaluator what is known of the data: classes and, where known, training counts."""
        meta = dict(self.dataloader.dataset.metainfo)
        if self.runner.train_counts is not None:
            meta['train_counts'] = self.runner.train_counts
        self.evaluator.dataset_meta = meta

    @torch.no_grad()
    def run(self) -> dict[str, float]:
        """Evaluate the data set; returns the metrics, and keeps the whole result in ``result``."""
        self._begin()
        self.result = self._evaluate()
        self._keep_points(self.result)
        self._finish(self.result.metrics)
        return self.result.metrics

    @torch.no_grad()
    def collect(self) -> Rows:
        """Score the data set and gather the rows of all processes, without computing any metric.

        Hooks are called as in ``run``; those after the epoch are given no metrics.
        """
        self._begin()
        self._score_all()
        rows = self.evaluator.collect(*self._extent())
        self._finish({})
        return rows

    def _begin(self) -> None:
        self.runner.call_hook(f'before_{self.stage}')
        self.runner.call_hook(f'before_{self.stage}_epoch')

    def _evaluate(self) -> EvaluationResult:
        """Score the images by the network as it is, and compute the metrics."""
        self._score_all()
        return self.evaluator.evaluate(*self._extent())

    def _score_all(self) -> None:
        """Score this process's share of the images."""
        self.runner.model.eval()
        self.evaluator.prepare(len(order_of(self.dataloader)))
        for number, batch in enumerate(prefetched(self.dataloader, self.runner.device)):
            self.runner.check_stop()
            if batch is not None:  # none of its images can be used
                self.run_iter(number, batch)

    def _extent(self) -> tuple[int, bool]:
        """How many images there are, and whether some may have been left out."""
        dataset = self.dataloader.dataset
        return getattr(dataset, 'num_images', len(dataset)), self._on_error == 'skip'  # of shards, len is a rank's part

    def _finish(self, metrics: dict[str, float]) -> None:
        self.runner.call_hook(f'after_{self.stage}_epoch', metrics=metrics)
        self.runner.call_hook(f'after_{self.stage}')

    def _keep_points(self, result: EvaluationResult) -> None:
        """What becomes of thresholds that a metric has fitted: nothing, unless this is a validation."""

    def run_iter(self, number: int, batch: Batch) -> None:
        """Score one batch."""
        self.runner.call_hook(f'before_{self.stage}_iter', batch_idx=number, data_batch=batch)
        with torch.autocast(self.device_type, self.dtype, enabled=self.dtype is not None):
            output = self._score(batch)
        self.evaluator.process(output['scores'], output['targets'], output['index'])
        self.runner.call_hook(f'after_{self.stage}_iter', batch_idx=number, data_batch=batch, outputs=output)

    def _score(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Scores, targets and index of a batch, by one view of each picture or by several."""
        if self.tta is None:
            return self.runner.model.val_step(batch)
        device = next(self.runner.model.parameters()).device
        inputs, targets, index = (batch[key].to(device, non_blocking=True) for key in ('inputs', 'targets', 'index'))

        def score(images: torch.Tensor) -> torch.Tensor:
            return self.runner.model.val_step(Batch(inputs=images, targets=targets, index=index))['scores']

        return {'scores': self.tta.mean_scores(inputs, score), 'targets': targets, 'index': index}


@LOOPS.register_module()
class ValLoop(EvaluationLoop):
    """Validation; see :class:`EvaluationLoop`. Thresholds that a metric fits are kept with the checkpoint.

    Where the run averages its weights, the averaged ones are validated, and before them those in training, whose
    metrics are called ``raw/<name>``.
    """

    stage = 'val'

    @torch.no_grad()
    def run(self) -> dict[str, float]:
        """Evaluate the data set; returns the metrics. ``result`` is that of the weights to be used."""
        hook = averaging_hook(self.runner)
        self.runner.raw_points = None
        if hook is None or not hook.average.is_started:
            return super().run()
        self._begin()
        raw: dict[str, float] = {}
        if hook.evaluate_raw:
            found = self._evaluate()
            self.runner.raw_points = self._points_of(found)
            raw = {f'{RAW}{name}': value for name, value in found.metrics.items()}
        with hook.average.in_model():
            self.result = self._evaluate()
        self._keep_points(self.result)
        metrics = {**self.result.metrics, **raw}
        self._finish(metrics)
        return metrics

    def _points_of(self, result: EvaluationResult) -> OperatingPoints | None:
        points = result.points
        if points is not None and not points.data_hash:
            words = '' if self.dtype is None else f', scores in {self.dtype_words}'
            points = replace(points, data_hash=self.data_hash, source=points.source + words)
        return points

    def _keep_points(self, result: EvaluationResult) -> None:
        points = self._points_of(result)
        self.runner.operating_points = points
        if points is not None:
            self.runner.logger.info(_gain(points))


def _gain(points: OperatingPoints) -> str:
    """One line: what the fitted thresholds are worth."""
    before, after = (points.figures.get(kind, {}).get('CF1') for kind in ('at 0.5', 'cross-fitted'))
    words = f'thresholds fitted on the validation data for {points.objective}'
    if before is None or after is None:
        return words
    return f'{words}: CF1 {before:.2f} at 0.5 -> {after:.2f} fitted (measured on folds left out of the fit)'


@LOOPS.register_module()
class TestLoop(EvaluationLoop):
    """Test; see :class:`EvaluationLoop`."""

    stage = 'test'
    __test__ = False  # no test of pytest's
