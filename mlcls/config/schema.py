"""What a config may hold: the known keys, which registry a name belongs to, and what builders add or take away.

``check.py`` walks a config by these tables. A new top-level key, or an argument that holds configs of another registry,
is one line here.
"""

from __future__ import annotations

from typing import NamedTuple

TRAIN = ('train_dataloader', 'train_cfg', 'optim_wrapper')
VAL = ('val_dataloader', 'val_cfg', 'val_evaluator')
TEST = ('test_dataloader', 'test_cfg', 'test_evaluator')
#: Keys that are given together or not at all.
GROUPS = (TRAIN, VAL, TEST)

KNOWN_KEYS = frozenset(
    {
        *TRAIN,
        *VAL,
        *TEST,
        'model',
        'data_preprocessor',
        'param_scheduler',
        'auto_scale_lr',
        'default_hooks',
        'custom_hooks',
        'env_cfg',
        'visualizer',
        'vis_backends',
        'log_processor',
        'log_level',
        'load_from',
        'resume',
        'launcher',
        'randomness',
        'work_dir',
        'default_scope',
        'experiment_name',
        'model_wrapper_cfg',
        'find_unused_parameters',
        'sync_bn',
        'channels_last',
        'compile',
        'activation_checkpointing',
        'custom_imports',
        'runner_type',
        'cfg',
    }
)


class Slot(NamedTuple):
    """A place for a config with a ``type``.

    Args:
        registry: Name, in ``mlcls.registry``, of the registry that the type is looked up in.
        default: The type where none is given; None makes it an error.
        filled_by_owner: The part around it may add arguments, so none are missing.
        consumed: Keys that the part around it takes out before it calls the type.
    """

    registry: str
    default: str | None = None
    filled_by_owner: bool = False
    consumed: frozenset[str] = frozenset()


#: Top-level keys that hold configs with a type (or lists of them). Those with rules of their own are in check.py.
TOP_SLOTS = {
    'model': Slot('MODELS'),
    'data_preprocessor': Slot('MODELS', 'ClsDataPreprocessor'),
    'val_cfg': Slot('LOOPS', 'ValLoop'),
    'test_cfg': Slot('LOOPS', 'TestLoop'),
    'visualizer': Slot('VISUALIZERS'),
    'vis_backends': Slot('VISBACKENDS'),
    'log_processor': Slot('LOG_PROCESSORS', 'LogProcessor'),
    'model_wrapper_cfg': Slot('MODEL_WRAPPERS', 'MMDistributedDataParallel'),
}

#: Arguments, anywhere below the top, that hold configs with a type. All others belong to the registry around them.
SLOTS = {
    'backbone': Slot('MODELS'),
    'neck': Slot('MODELS'),
    'plugins': Slot('MODELS', filled_by_owner=True, consumed=frozenset({'stages', 'position'})),
    'head': Slot('MODELS'),
    'loss': Slot('MODELS'),
    'losses': Slot('MODELS'),
    'batch_augments': Slot('MODELS', 'RandomBatchAugment'),
    'augments': Slot('MODELS'),
    'device_augments': Slot('MODELS'),
    'data_preprocessor': Slot('MODELS', 'ClsDataPreprocessor'),
    'init_cfg': Slot('WEIGHT_INITIALIZERS'),
    'dataset': Slot('DATASETS'),
    'datasets': Slot('DATASETS'),
    'pipeline': Slot('TRANSFORMS'),
    'transforms': Slot('TRANSFORMS'),
    'sampler': Slot('DATA_SAMPLERS'),
    'batch_sampler': Slot('DATA_SAMPLERS'),
    'collate_fn': Slot('FUNCTIONS'),
    'worker_init_fn': Slot('FUNCTIONS'),
    'optimizer': Slot('OPTIMIZERS'),
    'metrics': Slot('METRICS'),
    'vis_backends': Slot('VISBACKENDS'),
}

#: Arguments whose ``type``, if any, is not a registered name of ours.
PASSED_OVER = frozenset(
    {
        'norm_cfg',
        'conv_cfg',
        'act_cfg',
        'clip_grad',
        'paramwise_cfg',
        'override',
        'backend_args',
        'file_client_args',
        'init_kwargs',
        'on_trace_ready',
        'tta',
    }
)

#: Arguments that the builder of a kind of part adds: not missing where a config leaves them out.
PROVIDED: dict[str, frozenset[str]] = {
    'OPTIMIZERS': frozenset({'params'}),
    'PARAM_SCHEDULERS': frozenset({'optimizer', 'param_name'}),
    'LOOPS': frozenset({'runner', 'dataloader', 'evaluator'}),
    'DATA_SAMPLERS': frozenset({'dataset', 'seed', 'sampler', 'batch_size'}),
    'MODEL_WRAPPERS': frozenset({'module', 'model', 'model_wrapper', 'device_ids'}),
    'VISUALIZERS': frozenset({'name', 'save_dir'}),
    'VISBACKENDS': frozenset({'save_dir'}),
}

#: Keys that the builder of a kind of part takes out before it calls the type.
CONSUMED: dict[str, frozenset[str]] = {
    'OPTIM_WRAPPERS': frozenset({'constructor', 'paramwise_cfg'}),
    'PARAM_SCHEDULERS': frozenset({'convert_to_iter_based', 'epoch_length'}),
    'HOOKS': frozenset({'priority'}),
}

_LOADER = frozenset(
    {
        'dataset',
        'sampler',
        'batch_sampler',
        'batch_size',
        'num_workers',
        'collate_fn',
        'pin_memory',
        'drop_last',
        'timeout',
        'worker_init_fn',
        'multiprocessing_context',
        'generator',
        'prefetch_factor',
        'persistent_workers',
        'pin_memory_device',
        'in_order',
        'num_batch_per_epoch',
        'disable_subprocess_warning',
    }
)

#: Keys of dicts that have no type, by their key path; a dict that is not listed may hold anything.
UNTYPED: dict[str, frozenset[str]] = {
    'train_dataloader': _LOADER,
    'val_dataloader': _LOADER,
    'test_dataloader': _LOADER,
    'env_cfg': frozenset({'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit', 'tf32'}),
    'env_cfg.dist_cfg': frozenset({'backend', 'timeout', 'heartbeat'}),
    'env_cfg.mp_cfg': frozenset({'mp_start_method', 'opencv_num_threads'}),
    'randomness': frozenset({'seed', 'diff_rank_seed', 'deterministic'}),
    'auto_scale_lr': frozenset({'enable', 'base_batch_size'}),
    'custom_imports': frozenset({'imports', 'allow_failed_imports'}),
    'optim_wrapper.clip_grad': frozenset(
        {'type', 'max_norm', 'norm_type', 'error_if_nonfinite', 'foreach', 'clip_value'}
    ),
}

#: Keys of ``optim_wrapper.paramwise_cfg`` and of each of its ``custom_keys``, as mmengine's own constructor reads them.
DEFAULT_CONSTRUCTOR = 'DefaultOptimWrapperConstructor'
PARAMWISE = frozenset(
    {
        'custom_keys',
        'bias_lr_mult',
        'bias_decay_mult',
        'norm_decay_mult',
        'flat_decay_mult',
        'dwconv_decay_mult',
        'dcn_offset_lr_mult',
        'bypass_duplicate',
    }
)
CUSTOM_KEY = frozenset({'lr_mult', 'decay_mult'})
#: Keys of ``paramwise_cfg`` by the constructor that reads them; those of others are not checked.
CONSTRUCTORS = {
    DEFAULT_CONSTRUCTOR: PARAMWISE,
    'LayerDecayOptimWrapperConstructor': PARAMWISE | {'layer_decay_rate'},
    'LearningRateDecayOptimWrapperConstructor': PARAMWISE | {'layer_decay_rate'},
}

#: The hooks that run unless a config replaces them, by their slot in ``default_hooks``; the type of a slot need not be
# said.
HOOK_SLOTS = {
    'runtime_info': 'RuntimeInfoHook',
    'timer': 'IterTimerHook',
    'sampler_seed': 'DistSamplerSeedHook',
    'logger': 'LoggerHook',
    'param_scheduler': 'ParamSchedulerHook',
    'checkpoint': 'CheckpointHook',
    'finite_loss': 'FiniteLossHook',
    'progress': 'ProgressHook',
    'bad_images': 'BadImagesHook',
    'tensorboard': 'TensorBoardHook',
}

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')
