"""``plugins`` of a backbone: which attention stands where."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from mlcls.errors import ConfigError, did_you_mean
from mlcls.models.layers.attention import Attention, Position
from mlcls.registry import MODELS


@dataclass(frozen=True)
class Plugin:
    """One entry of ``plugins``.

    Args:
        kind: Its class.
        arguments: What the class gets besides ``channels``.
        stages: Stages that it stands in, counted from 0.
        position: Where in a stage.
    """

    kind: type[Attention]
    arguments: dict[str, Any]
    stages: frozenset[int]
    position: Position

    def stands(self, stage: int, is_last: bool) -> bool:
        """Whether a block, the last of its stage or not, has it."""
        return stage in self.stages and (is_last or self.position != 'after_stage')

    def build(self, channels: int) -> Attention:
        """A new one for maps of ``channels`` channels."""
        return self.kind(channels, **self.arguments)


def read_plugins(plugins: Sequence[Mapping[str, Any]] | None, num_stages: int, owner: str) -> list[Plugin]:
    """Read the ``plugins`` of a backbone.

    Args:
        plugins: ``dict(type='CBAM', stages=(2, 3), position='before_sum', ...)``; ``stages`` are all by default.
        num_stages: Stages of the backbone.
        owner: Name of the backbone, for messages.

    Raises:
        ConfigError: Unknown type or position, stages out of range, ``channels`` given, or one type twice in a stage.
    """
    if isinstance(plugins, Mapping) or not all(isinstance(each, Mapping) for each in plugins or ()):
        raise ConfigError(f'{owner}: plugins must be a list of dicts with a type, got {plugins!r}')
    found = [_read(dict(each), num_stages, f'{owner}: plugins.{index}') for index, each in enumerate(plugins or ())]
    for index, plugin in enumerate(found):
        for earlier in found[:index]:
            both = sorted(plugin.stages & earlier.stages) if plugin.kind.name == earlier.kind.name else ()
            if both:
                raise ConfigError(f'{owner}: plugins: {plugin.kind.__name__} stands twice in stage {both[0]}')
    return found


def _read(settings: dict[str, Any], num_stages: int, place: str) -> Plugin:
    kind = _kind(settings.pop('type', None), place)
    stages = settings.pop('stages', None)
    stages = range(num_stages) if stages is None else stages
    position = settings.pop('position', kind.position)
    is_list = isinstance(stages, Sequence) and len(stages) > 0
    if not is_list or not all(type(stage) is int and 0 <= stage < num_stages for stage in stages):  # no booleans
        shown = tuple(stages) if isinstance(stages, Sequence) else stages
        raise ConfigError(f'{place}: stages must lie in 0 to {num_stages - 1}, got {shown}')
    if position not in get_args(Position):
        raise ConfigError(f"{place}: unknown position '{position}'{did_you_mean(str(position), get_args(Position))}")
    if 'channels' in settings:
        raise ConfigError(f'{place}: channels are those of the stage; leave them out')
    try:
        inspect.signature(kind).bind(1, **settings)
    except TypeError as error:
        raise ConfigError(f'{place}: {kind.__name__}: {error}') from error
    return Plugin(kind, settings, frozenset(stages), position)


def _kind(kind: Any, place: str) -> type[Attention]:
    found = MODELS.get(kind) if isinstance(kind, str) else kind
    if not (inspect.isclass(found) and issubclass(found, Attention)):
        choices = [
            name for name, each in MODELS.module_dict.items() if inspect.isclass(each) and issubclass(each, Attention)
        ]
        raise ConfigError(f'{place}: no plugin {kind!r}{did_you_mean(str(kind), choices)}')
    return found
