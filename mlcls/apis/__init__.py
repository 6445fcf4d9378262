"""What command lines and users call: plain functions over the engine."""

from mlcls.apis.test import test
from mlcls.apis.train import TrainFlags, train

__all__ = ['TrainFlags', 'test', 'train']
