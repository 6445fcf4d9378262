"""Config files, read and executed, with errors that say where."""

from __future__ import annotations

import ast
import importlib
import re
import traceback
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mlcls.config.expressions import BASE
from mlcls.config.normalise import normalise, set_scope
from mlcls.config.options import apply_options
from mlcls.config.problems import dotted
from mlcls.config.sources import Sources
from mlcls.config.syntax import absolute, near_file
from mlcls.errors import ConfigError


def load_config(path: str | Path, options: Mapping[str, Any] | None = None) -> Config:
    """Load a config file of text style (``_base_ = [...]``) or Python style (``with read_base(): ...``).

    The file is Python and is executed. Modules in its ``custom_imports`` are imported. Call ``check_config`` next.

    Args:
        path: A ``.py`` file.
        options: The ``--cfg-options``, see :func:`apply_options`.

    Returns:
        The config, with ``default_scope='mlcls'`` and after :func:`normalise`.

    Raises:
        ConfigError: A file is missing, is not Python, fails when executed, or asks for another ``default_scope``; an
            option does not fit; a custom import fails.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        raise ConfigError(f'{path}: is a folder, not a config file')
    if file.suffix != '.py':
        raise ConfigError(f'{path}: a config is a .py file')
    if not file.is_file():
        raise ConfigError(f'{path}: there is no such config file{near_file(file)}')
    sources = Sources([file], options)
    lazy = _is_python_style(sources)
    try:
        cfg = Config.fromfile(str(file), import_custom_modules=False, lazy_import=lazy)
    except Exception as error:  # a config is code: it can raise anything
        raise ConfigError(_explain(error, sources)) from error
    apply_options(cfg, options or {})
    set_scope(cfg, str(sources.nearest(('default_scope',))))
    _import_modules(cfg, sources)
    return normalise(cfg)


def _is_python_style(sources: Sources) -> bool:
    """Whether imports in the files stand for names that are looked up later.

    mmengine decides by each file and, in a virtual environment, takes Python's own modules for foreign ones.
    """
    by_style = {file.style: file for file in reversed(sources.files)}
    if 'text' in by_style and 'python' in by_style:
        text, python = by_style['text'].shown, by_style['python'].shown
        raise ConfigError(
            f'{text} inherits by {BASE} and {python} by read_base(); use one style in all files of a config'
        )
    return 'text' not in by_style and ('python' in by_style or sources.files[0].imports_parts)


def _explain(error: Exception, sources: Sources) -> str:
    """One sentence for an exception that came out of executing a config."""
    text = ' '.join(str(error.args[0] if error.args else error).split())
    files = {file.path: file for file in sources.files}
    frames = traceback.extract_tb(error.__traceback__)
    if frames[-1].name == '__call__' and Path(frames[-1].filename).name == 'lazy.py':
        text = 'a config of Python style can name what it imports, but not call it'
    for frame in reversed(frames):
        if file := files.get(absolute(Path(frame.filename))):
            return f'{file.place(frame.lineno)}: {type(error).__name__}: {text}'
    if match := re.match(r'(\w+)=.*cannot inherit from base because', text):
        return _clash(match[1], sources)
    if match := re.search(r'Duplicate keys: (\{.*\})', text):
        return _duplicate(sorted(ast.literal_eval(match[1]))[0], sources)
    child = sources.files[0].shown
    return f'{child}: {type(error).__name__}: {text}'


def _clash(key: str, sources: Sources) -> str:
    """A dict in a child where the base has something else."""
    path = next((path for _, path in sources.paths_to(key)), (key,))
    return (
        f'{sources.nearest(path)}: {dotted(path)}: a dict here, but something else in the base file, so they '
        'cannot be merged; add _delete_=True to the dict to replace what the base has'
    )


def _duplicate(key: str, sources: Sources) -> str:
    setters = [str(file.place(file.assigned[key])) for file in sources.files if key in file.assigned]
    return (
        f"{sources.files[0].shown}: '{key}' is set by two of its base files ({', '.join(setters)}); set it in one "
        'of them, or let one inherit from the other'
    )


def _import_modules(cfg: Config, sources: Sources) -> None:
    """Import the modules of ``custom_imports``; mmengine does so only for files of text style."""
    wanted = cfg.get('custom_imports') or {}
    names = wanted.get('imports') if isinstance(wanted, Mapping) else None
    for name in [names] if isinstance(names, str) else names or []:
        try:
            importlib.import_module(name)
        except Exception as error:  # the module is the user's code
            if isinstance(error, ImportError) and wanted.get('allow_failed_imports'):
                warnings.warn(f"custom_imports: '{name}' is left out: {error}", stacklevel=3)
                continue
            place = sources.nearest(('custom_imports', 'imports'))
            raise ConfigError(
                f"{place}: custom_imports: cannot import '{name}': {type(error).__name__}: {error}; "
                'a module must lie in the working directory or on PYTHONPATH'
            ) from error
