"""What metrics of decisions share: thresholds from the config, from the model or none."""

from __future__ import annotations

from collections.abc import Sequence

from mlcls.errors import ConfigError

from .base import SOURCES, Metric, Protocol, check_decision, check_thr, check_topk, choose, describe_decision


class DecisionMetric(Metric):
    """A metric of which labels an image is given; numbers of the ``topk`` rule end with ``_top3`` or the like.

    Args:
        thr: A label is given where score >= thr. One number in [0, 1] or one per class in class order. None means the
            operating points kept with the model, and 0.5 where it has none, unless ``topk`` is given.
        topk: Give each image its k highest-scored labels instead.
        thr_source: Where the thresholds come from, in words, for the results file. None means the config or the
            default.
        prefix: See ``Metric``.
        collect_device: See ``Metric``.

    Attributes:
        follows_points: Whether the thresholds are those kept with the model (neither ``thr`` nor ``topk`` was given).

    Raises:
        ConfigError: A threshold outside [0, 1], ``topk`` below 1, or both ``thr`` and ``topk``.
    """

    def __init__(
        self,
        thr: float | Sequence[float] | None = None,
        topk: int | None = None,
        thr_source: str | None = None,
        prefix: str | None = None,
        collect_device: str = 'cpu',
    ) -> None:
        super().__init__(prefix, collect_device)
        name = type(self).__name__
        if thr is not None and topk is not None:
            raise ConfigError(f'{name}: give thr or topk, not both; for both rules, configure it twice')
        self.topk = None if topk is None else check_topk(topk, f'{name}: topk')
        self.thr = None if topk is not None else check_thr(0.5 if thr is None else thr, f'{name}: thr')
        self.follows_points = thr is None and topk is None
        self._kind = 'default' if thr is None else 'config'
        self._words = thr_source or self._kind
        self._objective = ''
        self._suffix = '' if topk is None else f'_top{topk}'

    def use_points(
        self, thresholds: float | Sequence[float], source: str = 'fitted', objective: str = '', words: str = ''
    ) -> None:
        """Decide by these thresholds from now on, whatever the config says.

        Args:
            thresholds: One number in [0, 1], or one per class in class order.
            source: One of `SOURCES`, as ``protocol.thresholds.source`` of a results file.
            objective: What they were chosen for, for example ``'f1'``.
            words: How they were chosen, in a sentence.

        Raises:
            ConfigError: A threshold outside [0, 1], an unknown source, or this metric decides by ``topk``.
        """
        name = type(self).__name__
        if self.topk is not None:
            raise ConfigError(f'{name}: topk={self.topk} decides here, and takes no thresholds')
        choose(source, SOURCES, f'{name}: source of the thresholds')
        self.thr = check_thr(thresholds, f'{name}: thr')
        self._kind, self._objective, self._words = source, objective, words or source

    def check(self, num_classes: int) -> None:
        """See ``Metric.check``."""
        super().check(num_classes)
        check_decision(self.thr, self.topk, num_classes, type(self).__name__)

    def protocol(self) -> Protocol:
        """How it decides, and where the thresholds come from."""
        words: Protocol = {'decision': describe_decision(self.thr, self.topk)}
        if self.thr is not None:
            words |= {'thr': self.thr, 'thr_kind': self._kind, 'threshold source': self._words}
            words |= {'objective': self._objective} if self._objective else {}
        return words
