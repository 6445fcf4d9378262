"""What command lines and users call: plain functions over the engine. They load when they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlcls.apis.browsing import BrowseFlags, browse
    from mlcls.apis.cams import CamFlags, visualize_cam
    from mlcls.apis.checking import CheckFlags, check_data
    from mlcls.apis.comparing import CompareFlags, compare
    from mlcls.apis.complexity import ComplexityFlags, measure_complexity
    from mlcls.apis.finding_batch_size import BatchSizeFlags, find_batch_size
    from mlcls.apis.finding_lr import FindLrFlags, find_lr
    from mlcls.apis.log_curves import CurveFlags, draw_runs
    from mlcls.apis.packing import PackFlags, pack_data
    from mlcls.apis.prepare import prepare_data
    from mlcls.apis.projects import ProjectFlags, start_project
    from mlcls.apis.splitting import SplitFlags, split_data
    from mlcls.apis.testing import TestFlags, test
    from mlcls.apis.thresholds import FitFlags, fit_thresholds
    from mlcls.apis.training import TrainFlags, train

#: Where each function and the class of its flags are.
_ROOMS = {
    'browsing': ('BrowseFlags', 'browse'),
    'cams': ('CamFlags', 'visualize_cam'),
    'checking': ('CheckFlags', 'check_data'),
    'comparing': ('CompareFlags', 'compare'),
    'complexity': ('ComplexityFlags', 'measure_complexity'),
    'finding_batch_size': ('BatchSizeFlags', 'find_batch_size'),
    'finding_lr': ('FindLrFlags', 'find_lr'),
    'log_curves': ('CurveFlags', 'draw_runs'),
    'packing': ('PackFlags', 'pack_data'),
    'prepare': ('prepare_data',),
    'projects': ('ProjectFlags', 'start_project'),
    'splitting': ('SplitFlags', 'split_data'),
    'testing': ('TestFlags', 'test'),
    'thresholds': ('FitFlags', 'fit_thresholds'),
    'training': ('TrainFlags', 'train'),
}

__all__ = [
    'BatchSizeFlags',
    'BrowseFlags',
    'CamFlags',
    'CheckFlags',
    'CompareFlags',
    'ComplexityFlags',
    'CurveFlags',
    'FindLrFlags',
    'FitFlags',
    'PackFlags',
    'ProjectFlags',
    'SplitFlags',
    'TestFlags',
    'TrainFlags',
    'browse',
    'check_data',
    'compare',
    'draw_runs',
    'find_batch_size',
    'find_lr',
    'fit_thresholds',
    'measure_complexity',
    'pack_data',
    'prepare_data',
    'split_data',
    'start_project',
    'test',
    'train',
    'visualize_cam',
]


def __getattr__(name: str) -> Any:
    import importlib

    for room, names in _ROOMS.items():
        if name in names:
            return getattr(importlib.import_module(f'mlcls.apis.{room}'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
