"""mmpretrain's metrics for VOC, where an object may be marked difficult."""

from __future__ import annotations

from collections.abc import Sequence

from mlcls.errors import ConfigError
from mlcls.registry import METRICS

from .average_precision import AveragePrecision
from .base import Protocol
from .multi_label import MultiLabelMetric

_MEANINGS = {None: 'ignored', True: 'count as present', False: 'count as absent'}


def _value(difficult_as_positive: object) -> int:
    """The label that an unknown one, which in VOC is a difficult one, is taken for."""
    if difficult_as_positive is not None and not isinstance(difficult_as_positive, bool):
        raise ConfigError(f'difficult_as_positive must be None, True or False, not {difficult_as_positive!r}')
    return -1 if difficult_as_positive is None else int(difficult_as_positive)


def _words(difficult_as_positive: bool | None) -> Protocol:
    return {'difficult labels': _MEANINGS[difficult_as_positive]}


@METRICS.register_module()
class VOCMultiLabelMetric(MultiLabelMetric):
    """``MultiLabelMetric`` with a say over difficult labels, which the data set must give as -1.

    Args:
        thr: See ``MultiLabelMetric``, as for all below.
        topk: See there.
        items: See there.
        average: See there.
        collect_device: See ``Metric``.
        prefix: See ``Metric``.
        difficult_as_positive: None ignores difficult labels, True counts them as present, False as absent.

    Raises:
        ConfigError: As ``MultiLabelMetric``.
    """

    def __init__(
        self,
        thr: float | None = None,
        topk: int | None = None,
        items: Sequence[str] = ('precision', 'recall', 'f1-score'),
        average: str | None = 'macro',
        collect_device: str = 'cpu',
        prefix: str | None = None,
        difficult_as_positive: bool | None = None,
    ) -> None:
        super().__init__(thr, topk, items, average, collect_device, prefix)
        self._unknown_as = _value(difficult_as_positive)
        self.difficult_as_positive = difficult_as_positive

    def protocol(self) -> Protocol:
        """See ``Metric.protocol``."""
        return super().protocol() | _words(self.difficult_as_positive)


@METRICS.register_module()
class VOCAveragePrecision(AveragePrecision):
    """``AveragePrecision`` with a say over difficult labels, which the data set must give as -1.

    Args:
        average: See ``AveragePrecision``.
        absent: See there.
        prefix: See ``Metric``.
        collect_device: See ``Metric``.
        difficult_as_positive: None ignores difficult labels, True counts them as present, False as absent.
        variant: See ``AveragePrecision``; VOC 2007 itself was measured with ``'voc07'``.

    Raises:
        ConfigError: As ``AveragePrecision``.
    """

    def __init__(
        self,
        average: str | None = 'macro',
        absent: str = 'exclude',
        prefix: str | None = None,
        collect_device: str = 'cpu',
        difficult_as_positive: bool | None = None,
        variant: str = 'exact',
    ) -> None:
        super().__init__(average, absent, prefix, collect_device, variant)
        self._unknown_as = _value(difficult_as_positive)
        self.difficult_as_positive = difficult_as_positive

    def protocol(self) -> Protocol:
        """See ``Metric.protocol``."""
        return super().protocol() | _words(self.difficult_as_positive)
