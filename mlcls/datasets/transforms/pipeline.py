"""From the list of dicts in a config to a pipeline."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from mlcls.errors import ConfigError, DataError, UserError, did_you_mean
from mlcls.registry import SCOPE, TRANSFORMS, root

from .base import Adapter, Sample, Transform
from .fused import fuse


class Compose(Transform):
    """Transforms one after another; loading with a random crop after it runs as one step, see `fused`.

    Args:
        transforms: The transforms; `build_transform` says what each may be.

    Raises:
        ConfigError: If one cannot be built; the message names its position.
    """

    def __init__(self, transforms: Iterable[Any]) -> None:
        if isinstance(transforms, (str, Mapping)) or not isinstance(transforms, Iterable):
            raise ConfigError(f'a pipeline must be a list of transforms, got {transforms!r}')
        self.transforms: list[Transform] = []
        for position, transform in enumerate(transforms):
            try:
                self.transforms.append(build_transform(transform))
            except ConfigError as error:
                raise ConfigError(f'pipeline[{position}]: {error}') from error
        self._steps = fuse(self.transforms)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Run them all.

        Raises:
            DataError: If one fails; the message names it.
        """
        for transform in self._steps:
            try:
                sample = transform(sample, rng)
            except (UserError, MemoryError):
                raise
            except Exception as error:  # of a library or a plug-in: say in which step the image failed
                name = type(getattr(transform, 'transform', transform)).__name__
                raise DataError(f'{name} failed: {type(error).__name__}: {error}') from error
        return sample

    def __len__(self) -> int:
        return len(self.transforms)


def build_pipeline(pipeline: Iterable[Any]) -> Compose:
    """Build a pipeline from a list of config dicts; see `Compose`."""
    return Compose(pipeline)


def build_transform(config: Any) -> Transform:
    """Build one transform.

    Args:
        config: A dict with ``type`` (a name or a class) and arguments; or a transform, ours or any callable of mmcv's
            kind.

    Raises:
        ConfigError: If the name or an argument is unknown or unusable.
    """
    if not isinstance(config, Mapping):
        if not callable(config) or inspect.isclass(config):
            raise ConfigError(f'a transform must be a dict with a type, or a transform, got {config!r}')
        return config if isinstance(config, Transform) else Adapter(config)
    arguments = dict(config)
    name = arguments.pop('type', None)
    if name is None:
        raise ConfigError(f"a transform needs a 'type', got {dict(config)!r}")
    made = find_transform(name) if isinstance(name, str) else name
    if getattr(made, '__module__', '').startswith('mmcv.') and 'resize_type' in inspect.signature(made).parameters:
        arguments.setdefault('resize_type', 'mmengine.Resize')  # mmcv's, whose results its wrappers read
    _check_arguments(made, arguments)
    try:
        transform = made(**arguments)
    except UserError:
        raise
    except (TypeError, ValueError, AssertionError) as error:
        raise ConfigError(f'{getattr(made, "__name__", made)}: {error or "an argument is invalid"}') from error
    return transform if isinstance(transform, Transform) else Adapter(transform)


def _check_arguments(made: Callable[..., Any], arguments: dict[str, Any]) -> None:
    parameters = inspect.signature(made).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    name = getattr(made, '__name__', str(made))
    for argument in arguments:
        if argument not in parameters:
            raise ConfigError(f"{name} has no argument '{argument}'{did_you_mean(argument, parameters)}")
    for argument, parameter in parameters.items():
        if argument not in arguments and parameter.default is parameter.empty:
            raise ConfigError(f"{name} needs the argument '{argument}'")


def find_transform(name: str) -> Callable[..., Any]:
    """Find a transform by name: ours first, then mmengine's root registry, into which mmcv registers its own.

    mmcv is imported only for a name that is not found without it.

    Args:
        name: ``'Resize'``, with scope ``'mmcv.Pad'``, or the full path of a class.

    Raises:
        ConfigError: If there is none.
    """
    scope, _, bare = name.rpartition('.')
    inherited = root.TRANSFORMS.module_dict
    TRANSFORMS.import_from_location()
    if scope in ('', SCOPE) and bare in TRANSFORMS.module_dict:
        return TRANSFORMS.module_dict[bare]
    if scope in ('', 'mmengine', 'mmcv'):
        if bare not in inherited:
            _import_mmcv(name)
        if bare in inherited:
            return inherited[bare]
    elif found := _find_elsewhere(name):
        return found
    known = {*TRANSFORMS.module_dict, *inherited}
    raise ConfigError(f"no transform is called '{name}'{did_you_mean(bare, known)}")


def _import_mmcv(name: str) -> None:
    try:
        import mmcv.transforms  # noqa: F401
    except ImportError as error:
        near = did_you_mean(name.rpartition('.')[2], TRANSFORMS.module_dict)
        raise ConfigError(
            f"transform '{name}' is not one of ours{near}; for mmcv's own, install mmcv or mmcv-lite ({error})"
        ) from error


def _find_elsewhere(name: str) -> Callable[..., Any] | None:
    """What mmengine finds under another scope or a full path."""
    try:
        return TRANSFORMS.get(name)
    except (RuntimeError, ImportError, AttributeError, ValueError):  # what it raises where there is nothing
        return None
