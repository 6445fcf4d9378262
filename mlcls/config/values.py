"""Values that no run could use, by the name of their key."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

#: Keys that hold a whole number, wherever they stand, and the least that they may be.
LEAST = {
    'batch_size': 1,
    'num_workers': 0,
    'num_classes': 1,
    'topk': 1,
    'max_epochs': 1,
    'max_iters': 1,
    'val_interval': 1,
    'accumulative_counts': 1,
}
#: Those that may be None, which means that they are left out.
_OPTIONAL = {'num_classes', 'topk'}


def wrong_value(key: str | int, value: Any, registry: str | None) -> str | None:
    """What is wrong with a value, or None.

    Args:
        key: Last key of its path.
        value: The value.
        registry: Name of the registry of the config that it belongs to; None outside configs with a type.
    """
    if key in LEAST:
        return _wrong_count(str(key), value)
    if key == 'thr':
        return _wrong_thr(value)
    if key == 'lr' and registry == 'OPTIMIZERS' and not (_is_number(value) and value > 0):
        return f'must be a number above 0, not {value!r}'
    return None


def _wrong_count(key: str, value: Any) -> str | None:
    if value is None and key in _OPTIONAL:
        return None
    least = LEAST[key]
    values = value if key == 'topk' and isinstance(value, (list, tuple)) else [value]
    if all(isinstance(each, Integral) and not isinstance(each, bool) and int(each) >= least for each in values):
        return None
    return f'must be a whole number, at least {least}, not {value!r}'


def _wrong_thr(value: Any) -> str | None:
    values = value if isinstance(value, (list, tuple)) else [value]
    for position, each in enumerate(values):
        if _is_number(each) and not 0 <= each <= 1:
            where = '' if values is not value else f' at position {position}'
            return f'must be in [0, 1], not {each!r}{where}'
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
