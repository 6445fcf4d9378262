"""Registries: the names a config may use. Each is a child of mmengine's registry of that kind, with scope ``mlcls``.

A name is looked up here first, then in mmengine. To add a part, decorate its class with ``@MODELS.register_module()``
(or another of these) in a module that the package named by ``locations`` imports.
"""

from __future__ import annotations

from mmengine import registry as root
from mmengine.registry import Registry

SCOPE = 'mlcls'


def _child(name: str, parent: Registry, location: str) -> Registry:
    return Registry(name, parent=parent, scope=SCOPE, locations=[location])


#: Classifiers, preprocessors, backbones, necks, heads and losses.
MODELS = _child('model', root.MODELS, 'mlcls.models')
#: Ways to fill a module's weights (``init_cfg``).
WEIGHT_INITIALIZERS = _child('weight initializer', root.WEIGHT_INITIALIZERS, 'mlcls.models')

DATASETS = _child('dataset', root.DATASETS, 'mlcls.datasets')
DATA_SAMPLERS = _child('data sampler', root.DATA_SAMPLERS, 'mlcls.datasets')
TRANSFORMS = _child('transform', root.TRANSFORMS, 'mlcls.datasets')
#: Collate functions.
FUNCTIONS = _child('function', root.FUNCTIONS, 'mlcls.datasets')

METRICS = _child('metric', root.METRICS, 'mlcls.evaluation')
EVALUATORS = _child('evaluator', root.EVALUATOR, 'mlcls.evaluation')

RUNNERS = _child('runner', root.RUNNERS, 'mlcls.engine')
LOOPS = _child('loop', root.LOOPS, 'mlcls.engine')
HOOKS = _child('hook', root.HOOKS, 'mlcls.engine')
OPTIMIZERS = _child('optimizer', root.OPTIMIZERS, 'mlcls.engine')
OPTIM_WRAPPERS = _child('optim_wrapper', root.OPTIM_WRAPPERS, 'mlcls.engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child('optimizer wrapper constructor', root.OPTIM_WRAPPER_CONSTRUCTORS, 'mlcls.engine')
PARAM_SCHEDULERS = _child('parameter scheduler', root.PARAM_SCHEDULERS, 'mlcls.engine')
MODEL_WRAPPERS = _child('model_wrapper', root.MODEL_WRAPPERS, 'mlcls.engine')
LOG_PROCESSORS = _child('log_processor', root.LOG_PROCESSORS, 'mlcls.engine')
VISUALIZERS = _child('visualizer', root.VISUALIZERS, 'mlcls.engine')
VISBACKENDS = _child('vis_backend', root.VISBACKENDS, 'mlcls.engine')
