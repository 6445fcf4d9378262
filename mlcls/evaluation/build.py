"""From a config to metrics, with the mistakes named before anything runs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from mlcls.errors import ConfigError, did_you_mean
from mlcls.registry import METRICS

from .metrics import Metric

#: One metric, as an object or as its config.
MetricConfig = Metric | Mapping[str, Any]


def build_metrics(metrics: MetricConfig | Sequence[MetricConfig]) -> list[Metric]:
    """Build metrics from a config, ``dict(type='AveragePrecision')``, an object, or a list of these.

    Raises:
        ConfigError: No metric at all, an unknown type, a class that is no ``Metric``, or arguments it does not take.
    """
    if isinstance(metrics, (Metric, Mapping)):
        metrics = [metrics]
    if not isinstance(metrics, Sequence) or isinstance(metrics, str):
        raise ConfigError(f'metrics must be a dict or a list of dicts, not {metrics!r}')
    if not metrics:
        raise ConfigError("an evaluator needs at least one metric, for example dict(type='AveragePrecision')")
    return [_build(config) for config in metrics]


def _build(config: MetricConfig) -> Metric:
    if isinstance(config, Metric):
        return config
    if not isinstance(config, Mapping) or 'type' not in config:
        raise ConfigError(f"a metric must be a dict with a 'type', not {config!r}")
    settings = {key: value for key, value in config.items() if key not in ('type', '_scope_')}
    made = _find(config['type'])
    check_arguments(made, settings)
    return made(**settings)


def check_arguments(made: type, settings: Mapping[str, Any]) -> None:
    """Raise ConfigError, with the nearest valid name, where a class does not take these arguments."""
    signature = inspect.signature(made)
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values())
    for key in settings:
        if key not in signature.parameters and not open_ended:
            raise ConfigError(f"{made.__name__} has no argument '{key}'" + did_you_mean(key, signature.parameters))
    try:
        signature.bind(**settings)
    except TypeError as error:
        raise ConfigError(f'{made.__name__}: {error}') from None


def _find(kind: object) -> type[Metric]:
    """The class of a metric from its registered name, its import path or itself."""
    found = METRICS.module_dict.get(kind.removeprefix('mlcls.')) if isinstance(kind, str) else kind
    if found is None and '.' in str(kind):
        try:
            found = METRICS.get(str(kind))
        except RuntimeError:  # mmengine's word for "not found"
            found = None
    if found is None:
        raise ConfigError(f"no metric is called '{kind}'" + did_you_mean(str(kind), METRICS.module_dict))
    if not (isinstance(found, type) and issubclass(found, Metric)):
        raise ConfigError(
            f"'{kind}' is not a metric of mlcls: it must be a subclass of mlcls.evaluation.Metric, "
            'which reads whole tensors instead of one object per image'
        )
    return found
