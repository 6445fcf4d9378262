"""Hooks: what happens beside the training step."""

from mlcls.engine.hooks.bad_images import BadImagesHook
from mlcls.engine.hooks.checkpoint import CheckpointHook
from mlcls.engine.hooks.diagnosis import LossDiagnosisHook
from mlcls.engine.hooks.finite_loss import FiniteLossHook
from mlcls.engine.hooks.head_first import HeadFirstHook
from mlcls.engine.hooks.logger import LoggerHook
from mlcls.engine.hooks.precise_norm import PreciseBNHook
from mlcls.engine.hooks.progress import ProgressHook

__all__ = [
    'BadImagesHook',
    'CheckpointHook',
    'FiniteLossHook',
    'HeadFirstHook',
    'LoggerHook',
    'LossDiagnosisHook',
    'PreciseBNHook',
    'ProgressHook',
]
