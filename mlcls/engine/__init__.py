"""The training, validation and test engine. The only room that imports mmengine's Runner."""

from mlcls.engine import hooks
from mlcls.engine.amp import AmpOptimWrapper
from mlcls.engine.batch_norm import reestimate_batch_norm
from mlcls.engine.ddp import MMDistributedDataParallel
from mlcls.engine.layer_decay import LayerDecayOptimWrapperConstructor
from mlcls.engine.loops import EvaluationLoop, TestLoop, ValLoop
from mlcls.engine.optim import OptimWrapper
from mlcls.engine.param_groups import DefaultOptimWrapperConstructor
from mlcls.engine.runner import Runner
from mlcls.engine.sharding import FullyShardedDataParallel
from mlcls.engine.train_loop import TrainLoop
from mlcls.engine.visualization import UniversalVisualizer, VisualizationHook

__all__ = [
    'AmpOptimWrapper',
    'DefaultOptimWrapperConstructor',
    'EvaluationLoop',
    'FullyShardedDataParallel',
    'LayerDecayOptimWrapperConstructor',
    'MMDistributedDataParallel',
    'OptimWrapper',
    'Runner',
    'TestLoop',
    'TrainLoop',
    'UniversalVisualizer',
    'ValLoop',
    'VisualizationHook',
    'hooks',
    'reestimate_batch_norm',
]
