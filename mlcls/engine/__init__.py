"""The training, validation and test engine. The only room that imports mmengine's Runner."""

from mlcls.engine import hooks
from mlcls.engine.amp import AmpOptimWrapper
from mlcls.engine.batch_norm import reestimate_batch_norm
from mlcls.engine.layer_decay import LayerDecayOptimWrapperConstructor
from mlcls.engine.loops import EvaluationLoop, TestLoop, TrainLoop, ValLoop
from mlcls.engine.runner import Runner
from mlcls.engine.visualization import UniversalVisualizer, VisualizationHook

__all__ = [
    'AmpOptimWrapper',
    'EvaluationLoop',
    'LayerDecayOptimWrapperConstructor',
    'Runner',
    'TestLoop',
    'TrainLoop',
    'UniversalVisualizer',
    'ValLoop',
    'VisualizationHook',
    'hooks',
    'reestimate_batch_norm',
]
