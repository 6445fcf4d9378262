"""Hooks: what happens beside the training step."""

from mlcls.engine.hooks.averaging import EMAHook, SWAHook
from mlcls.engine.hooks.bad_images import BadImagesHook
from mlcls.engine.hooks.checkpoint import CheckpointHook
from mlcls.engine.hooks.diagnosis import LossDiagnosisHook
from mlcls.engine.hooks.early_stopping import EarlyStoppingHook
from mlcls.engine.hooks.finite_loss import FiniteLossHook
from mlcls.engine.hooks.head_first import HeadFirstHook
from mlcls.engine.hooks.logger import LoggerHook
from mlcls.engine.hooks.precise_norm import PreciseBNHook
from mlcls.engine.hooks.profile import ProfileHook
from mlcls.engine.hooks.progress import ProgressHook
from mlcls.engine.hooks.runtime_info import IterTimerHook, RuntimeInfoHook
from mlcls.engine.hooks.tensorboard import TensorBoardHook

__all__ = [
    'BadImagesHook',
    'CheckpointHook',
    'EMAHook',
    'EarlyStoppingHook',
    'FiniteLossHook',
    'HeadFirstHook',
    'IterTimerHook',
    'LoggerHook',
    'LossDiagnosisHook',
    'PreciseBNHook',
    'ProfileHook',
    'ProgressHook',
    'RuntimeInfoHook',
    'SWAHook',
    'TensorBoardHook',
]
