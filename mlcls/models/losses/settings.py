"""Settings of losses: their checks, and those with a value for each class, which may come from the training labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from mlcls.errors import ConfigError, did_you_mean
from mlcls.structures import LabelStatistics

#: Computes a value for each class, float64 (C,), from the training labels.
FromData = Callable[[LabelStatistics], np.ndarray]


class Settings(nn.Module):
    """Base of the losses' base: what it takes to refuse a setting clearly, or to take it from the data."""

    #: What is done about labels of -1.
    unknown: str = 'ignore'

    def __init__(self) -> None:
        super().__init__()
        #: Names of the settings that may have a value for each class.
        self.class_settings: list[str] = []
        self._from_data: dict[str, FromData] = {}
        self._unfilled: set[str] = set()

    @property
    def name(self) -> str:
        """Name of the type, for messages."""
        return type(self).__name__

    def set_classes(self, num_classes: int) -> None:
        """Tell the number of classes; heads do so at construction.

        Raises:
            ConfigError: A setting has values for another number of classes.
        """
        for name, value in list(self.named_buffers(recurse=False)):
            if name in self._from_data:
                self.register_buffer(name, torch.full((num_classes,), torch.nan))
                self._unfilled.add(name)
            elif name in self.class_settings and value.dim() and len(value) != num_classes:
                raise ConfigError(f'{self.name}: {name} has {len(value)} values, but there are {num_classes} classes')

    def fit(self, statistics: LabelStatistics) -> dict[str, torch.Tensor]:
        """Fill the settings that the config leaves to the data.

        Args:
            statistics: Of the training labels.

        Returns:
            What was filled, by name, for the log.

        Raises:
            ConfigError: The head did not tell the number of classes.
        """
        if self.unknown == 'negative':
            statistics = statistics.with_unknown_as_absent()
        for name, rule in self._from_data.items():
            buffer = self.get_buffer(name)
            if len(buffer) != statistics.num_classes:
                raise ConfigError(
                    f'{self.name}: {name} is to come from the data, which have {statistics.num_classes} classes, but '
                    f'{len(buffer)} were announced; use a head with num_classes={statistics.num_classes}'
                )
            buffer.copy_(torch.as_tensor(rule(statistics)))
        self._unfilled.clear()
        return {name: self.get_buffer(name) for name in self._from_data}

    def add_class_setting(
        self,
        name: str,
        value: str | float | Sequence[float] | None,
        rules: Mapping[str, FromData] | None = None,
        may_be_zero: bool = False,
    ) -> None:
        """Keep a setting that may have one value for each class.

        Args:
            name: Its name; a buffer of this name is made.
            value: One number, one for each class, the name of a rule, or None.
            rules: Rules that compute it from the training labels.
            may_be_zero: Whether 0 is a possible value.

        Raises:
            ConfigError: No such rule, or values that are no numbers above (or at least) 0.
        """
        self.class_settings.append(name)
        if isinstance(value, str):
            self.check_choice(name, value, tuple(rules or ()))
            self._from_data[name] = (rules or {})[value]
            self._unfilled.add(name)
            self.register_buffer(name, torch.empty(0))
        elif value is None:
            self.register_buffer(name, None)
        else:
            try:
                tensor = torch.as_tensor(value, dtype=torch.float32)
            except (TypeError, ValueError) as error:
                raise ConfigError(f'{self.name}: {name} must be numbers, got {value!r}') from error
            fine = tensor >= 0 if may_be_zero else tensor > 0
            if tensor.dim() > 1 or not fine.all() or not tensor.isfinite().all():
                least = 'at least 0' if may_be_zero else 'above 0'
                raise ConfigError(f'{self.name}: {name} must be {least}, one number or one a class, got {value!r}')
            self.register_buffer(name, tensor, persistent=False)

    def setting(self, name: str) -> torch.Tensor | None:
        """A setting added by :meth:`add_class_setting`, (C,) or (); None if it was.

        Raises:
            ConfigError: It comes from the training labels, and they have not been seen yet.
        """
        if name in self._unfilled:
            raise ConfigError(
                f'{self.name}: {name} comes from the training labels, which it has not seen; call '
                'set_classes(...) and fit(LabelStatistics(labels)) first, as a training run does'
            )
        return getattr(self, name)

    def values(self, name: str) -> torch.Tensor:
        """:meth:`setting` of one that is never None."""
        found = self.setting(name)
        if found is None:
            raise ConfigError(f'{self.name}: {name} is missing')
        return found

    def check_choice(self, name: str, value: object, choices: Sequence[str]) -> None:
        """Refuse a value that is none of the choices.

        Raises:
            ConfigError: It is none of them.
        """
        if value not in choices:
            adjective = 'impossible' if name == 'unknown' else 'unknown'
            raise ConfigError(f"{self.name}: {adjective} {name} '{value}'{did_you_mean(str(value), choices)}")

    def check_range(
        self, name: str, value: object, low: float = -math.inf, high: float = math.inf, below: bool = False
    ) -> None:
        """Refuse what is no finite number in [low, high], or [low, high) if it must stay ``below``.

        Raises:
            ConfigError: It is outside, or no number.
        """
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not is_number or not low <= value <= high or (below and value == high):  # type: ignore[operator]
            wanted = 'a number'
            if math.isfinite(low):
                wanted = f'at least {low:g}' if math.isinf(high) else f'in [{low:g}, {high:g}{")" if below else "]"}'
            raise ConfigError(f'{self.name}: {name} must be {wanted}, got {value!r}')

    def check_positive(self, name: str, value: object) -> None:
        """Refuse what is no finite number above 0.

        Raises:
            ConfigError: It is none.
        """
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not is_number or not value > 0:  # type: ignore[operator]
            raise ConfigError(f'{self.name}: {name} must be above 0, got {value!r}')

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._unfilled -= {name for name in self._from_data if prefix + name in state_dict}
