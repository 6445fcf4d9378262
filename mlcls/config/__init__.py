"""Config files: loading, checking before a run, and plain copies for checkpoints.

``load_config(path, options)`` executes a file, ``check_config(cfg, Sources([path], options))`` finds what is wrong in
it, ``to_plain`` and ``load_resolved`` carry it through a checkpoint without code.
"""

from mlcls.config.check import check_config
from mlcls.config.expressions import KeyPath
from mlcls.config.load import load_config
from mlcls.config.normalise import normalise
from mlcls.config.options import apply_options
from mlcls.config.plain import importable_names, load_resolved, to_plain
from mlcls.config.sources import COMMAND_LINE, Sources
from mlcls.config.syntax import Place

__all__ = [
    'COMMAND_LINE',
    'KeyPath',
    'Place',
    'Sources',
    'apply_options',
    'check_config',
    'importable_names',
    'load_config',
    'load_resolved',
    'normalise',
    'to_plain',
]
