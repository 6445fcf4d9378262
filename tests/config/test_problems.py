"""One thing wrong in a valid config at a time: the message, its key, its line and what it suggests."""

from __future__ import annotations

import pytest

from .conftest import VALID, Write, problems_of

# (what is replaced, by what, key path, words of the message)
ONE_PROBLEM = [
    # names
    ("type='ZooHead'", "type='ZooHaed'", 'model.head.type', "unknown model 'ZooHaed'; did you mean 'ZooHead'?"),
    (
        "type='ZooHead'",
        "type='ZooMetric'",
        'model.head.type',
        "unknown model 'ZooMetric'; that is the name of a metric",
    ),
    ("type='ZooHead'", "type='ZooSet'", 'model.head.type', "unknown model 'ZooSet'; that is the name of a dataset"),
    (
        "type='ZooHead'",
        "type='mmpretrain.ZooHead'",
        'model.head.type',
        "unknown model 'mmpretrain.ZooHead'; did you mean 'ZooHead'?",
    ),
    ("type='ZooHead'", "type='os'", 'model.head.type', "unknown model 'os'"),
    ("type='ZooHead'", 'type=5', 'model.head.type', 'must be a name or a class, not 5'),
    ("type='ZooBackbone'", "type='zoobackbone'", 'model.backbone.type', "did you mean 'ZooBackbone'?"),
    ("type='ZooLoss'", "type='ZooLos'", 'model.head.loss.type', "unknown model 'ZooLos'; did you mean 'ZooLoss'?"),
    (
        "type='ZooPreprocessor'",
        "type='ZooPrepocessor'",
        'model.data_preprocessor.type',
        "did you mean 'ZooPreprocessor'?",
    ),
    (
        "type='Normal'",
        "type='Norml'",
        'model.backbone.init_cfg.type',
        "unknown weight initializer 'Norml'; did you mean",
    ),
    ("type='ZooBalanced'", "type='ZooBalance'", 'train_dataloader.dataset.type', "did you mean 'ZooBalanced'?"),
    (
        "type='ZooSet'",
        "type='ZooSte'",
        'train_dataloader.dataset.dataset.type',
        "unknown dataset 'ZooSte'; did you mean",
    ),
    (
        "dict(type='ZooLoad', color='rgb')",
        "dict(type='ZooLaod', color='rgb')",
        'train_dataloader.dataset.dataset.pipeline.0.type',
        "unknown transform 'ZooLaod'; did you mean 'ZooLoad'?",
    ),
    (
        "dict(type='ZooLoad', color='bgr')",
        "dict(type='ZooLaod', color='bgr')",
        'train_dataloader.dataset.dataset.pipeline.1.transforms.0.0.type',
        "did you mean 'ZooLoad'?",
    ),
    (
        "type='DefaultSampler'",
        "type='DefaultSampeler'",
        'train_dataloader.sampler.type',
        "unknown data sampler 'DefaultSampeler'; did you mean 'DefaultSampler'?",
    ),
    (
        "type='zoo_collate'",
        "type='zoo_colate'",
        'train_dataloader.collate_fn.type',
        "unknown function 'zoo_colate'; did you mean 'zoo_collate'?",
    ),
    ("type='OptimWrapper'", "type='OptimWraper'", 'optim_wrapper.type', "did you mean 'OptimWrapper'?"),
    ("type='SGD'", "type='SDG'", 'optim_wrapper.optimizer.type', "unknown optimizer 'SDG'; did you mean 'SGD'?"),
    (
        "type='LinearLR'",
        "type='LinearRL'",
        'param_scheduler.0.type',
        "unknown parameter scheduler 'LinearRL'; did you mean 'LinearLR'?",
    ),
    (
        "type='ZooMetric', thr",
        "type='ZooMetrik', thr",
        'val_evaluator.0.type',
        "unknown metric 'ZooMetrik'; did you mean",
    ),
    ("type='ZooHook'", "type='ZooHok'", 'custom_hooks.0.type', "unknown hook 'ZooHok'; did you mean 'ZooHook'?"),
    ("type='LoggerHook'", "type='LogerHook'", 'default_hooks.logger.type', "did you mean 'LoggerHook'?"),
    ("type='Visualizer'", "type='Visualiser'", 'visualizer.type', "did you mean 'Visualizer'?"),
    ("type='LocalVisBackend'", "type='LocalBackend'", 'visualizer.vis_backends.0.type', 'unknown vis backend'),
    ('dict(window_size=20)', "dict(type='LogProcesor')", 'log_processor.type', "did you mean 'LogProcessor'?"),
    ('val_cfg = dict(fp16=False)', "val_cfg = dict(type='ValLop')", 'val_cfg.type', "unknown loop 'ValLop'"),
    (
        '    clip_grad=',
        "    constructor='DefaultOptimWraperConstructor', clip_grad=",
        'optim_wrapper.constructor',
        "did you mean 'DefaultOptimWrapperConstructor'?",
    ),
    # no type
    ("type='ZooHead',", "tpye='ZooHead',", 'model.head.tpye', "unknown key; did you mean 'type'?"),
    ("type='ZooHead',", '', 'model.head', 'has no type'),
    ("type='SGD', ", '', 'optim_wrapper.optimizer', 'has no type'),
    ("norm_cfg=dict(type='BN', requires_grad=True)", "norm_cfg=dict(typ='ZooLoss')", '', ''),
    # arguments
    ('        thr=0.5', '        thrr=0.5', 'model.head.thrr', "ZooHead has no argument 'thrr'; did you mean 'thr'?"),
    ('depth=18', 'dpeth=18, depth=18', 'model.backbone.dpeth', "ZooBackbone has no argument 'dpeth'; did you mean"),
    ('        num_classes=20,\n', '\n', 'model.head', "ZooHead needs 'num_classes'"),
    (
        "ann_file='train.json'",
        "annfile='train.json', ann_file=''",
        'train_dataloader.dataset.dataset.annfile',
        "ZooSet has no argument 'annfile'; did you mean 'ann_file'?",
    ),
    (
        'momentum=0.9',
        'momentun=0.9',
        'optim_wrapper.optimizer.momentun',
        "SGD has no argument 'momentun'; did you mean",
    ),
    (
        'lr=0.1',
        'lr=0.1, betas=(0.9, 0.99)',
        'optim_wrapper.optimizer.betas',
        "SGD has no argument 'betas'; choose from",
    ),
    ('T_max=8', 'Tmax=8', 'param_scheduler.1.Tmax', "CosineAnnealingLR has no argument 'Tmax'; did you mean 'T_max'?"),
    ('T_max=8', 'pct_start=8', 'param_scheduler.1.pct_start', "CosineAnnealingLR has no argument 'pct_start'"),
    ('convert_to_iter_based', 'convert_to_iterbased', 'param_scheduler.0.convert_to_iterbased', 'did you mean'),
    ('prefix=', 'prefx=', 'val_evaluator.1.prefx', "ZooMetric has no argument 'prefx'; did you mean 'prefix'?"),
    (
        'priority=',
        'prioryti=',
        'custom_hooks.0.prioryti',
        "ZooHook has no argument 'prioryti'; did you mean 'priority'?",
    ),
    ('shuffle=True', 'shufle=True', 'train_dataloader.sampler.shufle', "did you mean 'shuffle'?"),
    ('pad=1', 'padd=1', 'train_dataloader.collate_fn.padd', "zoo_collate has no argument 'padd'; did you mean 'pad'?"),
    ('img_save_dir', 'img_savedir', 'visualizer.vis_backends.0.img_savedir', "did you mean 'img_save_dir'?"),
    (
        'window_size',
        'windowsize',
        'log_processor.windowsize',
        "LogProcessor has no argument 'windowsize'; did you mean",
    ),
    ('fp16', 'fp_16', 'val_cfg.fp_16', "ValLoop has no argument 'fp_16'; did you mean 'fp16'?"),
    ('std=0.01', 'sdt=0.01', 'model.backbone.init_cfg.sdt', "Normal has no argument 'sdt'; did you mean 'std'?"),
    ('max_epochs=10,', 'max_epochs=10, val_intervall=1,', 'train_cfg.val_intervall', "did you mean 'val_interval'?"),
    ('max_epochs=10,', '', 'train_cfg', "EpochBasedTrainLoop needs 'max_epochs'"),
    (
        'by_epoch=True, max_epochs=10, val_interval=1',
        "type='EpochBasedTrainLoop', by_epoch=True, max_epochs=1",
        'train_cfg.by_epoch',
        "EpochBasedTrainLoop has no argument 'by_epoch'",
    ),
    (
        'by_epoch=True, max_epochs=10, val_interval=1',
        'by_epoch=False, max_iters=9, max_epochs=1',
        'train_cfg.max_epochs',
        "IterBasedTrainLoop has no argument 'max_epochs'; did you mean",
    ),
    # dicts without a type
    (
        '    num_workers=2',
        '    num_worker=2',
        'train_dataloader.num_worker',
        "unknown key; did you mean 'num_workers'?",
    ),
    (
        "sampler=dict(type='DefaultSampler', shuffle=True)",
        'shuffle=True',
        'train_dataloader.shuffle',
        "is the sampler's",
    ),
    (
        "dataset=dict(type='ZooSet', ann_file='val.json', pipeline=[dict(type='ZooLoad')]),\n",
        '',
        'val_dataloader',
        "needs 'dataset'",
    ),
    (
        "dataset=dict(type='ZooSet', ann_file='val.json', pipeline=[dict(type='ZooLoad')])",
        "dataset='val'",
        'val_dataloader.dataset',
        "must be a dict with a type, not 'val'",
    ),
    ('cudnn_benchmark', 'cudnn_benchmrk', 'env_cfg.cudnn_benchmrk', "did you mean 'cudnn_benchmark'?"),
    ('opencv_num_threads', 'opencv_threads', 'env_cfg.mp_cfg.opencv_threads', "did you mean 'opencv_num_threads'?"),
    ('deterministic', 'determinstic', 'randomness.determinstic', "unknown key; did you mean 'deterministic'?"),
    ('base_batch_size', 'base_batchsize', 'auto_scale_lr.base_batchsize', "did you mean 'base_batch_size'?"),
    ('max_norm', 'maxnorm', 'optim_wrapper.clip_grad.maxnorm', "unknown key; did you mean 'max_norm'?"),
    ('norm_decay_mult', 'norm_decay', 'optim_wrapper.paramwise_cfg.norm_decay', "did you mean 'norm_decay_mult'?"),
    ('lr_mult', 'lr_mul', 'optim_wrapper.paramwise_cfg.custom_keys..head.lr_mul', "did you mean 'lr_mult'?"),
    (
        'logger=dict',
        'loger=dict',
        'default_hooks.loger',
        "the default 'logger' hook would run too; did you mean 'logger'?",
    ),
    ('randomness = dict(seed=0, deterministic=False)', 'randomness = 3', 'randomness', 'must be a dict, not 3'),
    # values
    ('batch_size=16', 'batch_size=0', 'train_dataloader.batch_size', 'must be a whole number, at least 1, not 0'),
    ('batch_size=16', 'batch_size=16.0', 'train_dataloader.batch_size', 'must be a whole number, at least 1, not 16.0'),
    ('batch_size=16', 'batch_size=True', 'train_dataloader.batch_size', 'must be a whole number, at least 1, not True'),
    ('batch_size=16', 'batch_size="16"', 'train_dataloader.batch_size', "must be a whole number, at least 1, not '16'"),
    ('num_workers=2', 'num_workers=-1', 'train_dataloader.num_workers', 'must be a whole number, at least 0, not -1'),
    ('num_classes=20', 'num_classes=0', 'model.head.num_classes', 'must be a whole number, at least 1, not 0'),
    ('        thr=0.5', '        thr=1.5', 'model.head.thr', 'must be in [0, 1], not 1.5'),
    ('        thr=0.5', "        thr=float('nan')", 'model.head.thr', 'must be in [0, 1], not nan'),
    ('        thr=0.5', '        thr=[0.5, -0.1]', 'model.head.thr', 'must be in [0, 1], not -0.1 at position 1'),
    ('topk=3', 'topk=0', 'val_evaluator.1.topk', 'must be a whole number, at least 1, not 0'),
    ('topk=3', 'topk=(1, 0)', 'val_evaluator.1.topk', 'must be a whole number, at least 1, not (1, 0)'),
    ('max_epochs=10', 'max_epochs=0', 'train_cfg.max_epochs', 'must be a whole number, at least 1, not 0'),
    ('max_epochs=10', 'max_epochs=None', 'train_cfg.max_epochs', 'must be a whole number, at least 1, not None'),
    ('lr=0.1', 'lr=0', 'optim_wrapper.optimizer.lr', 'must be a number above 0, not 0'),
    ('lr=0.1', "lr='1e-3'", 'optim_wrapper.optimizer.lr', "must be a number above 0, not '1e-3'"),
    ('lr=0.1', "lr=float('nan')", 'optim_wrapper.optimizer.lr', 'must be a number above 0, not nan'),
    # what belongs together
    (
        'val_cfg = dict(fp16=False)',
        '',
        'val_dataloader',
        'given without val_cfg; give all of val_dataloader, val_cfg, val_evaluator, or none of them',
    ),
    (
        'train_cfg = dict(by_epoch=True, max_epochs=10, val_interval=1)',
        'train_cfg = None',
        'train_dataloader',
        'given without train_cfg; give all of train_dataloader, train_cfg, optim_wrapper, or none of them',
    ),
    ('val_cfg =', 'test_cfg = dict()\nval_cfg =', 'test_cfg', 'given without test_dataloader and test_evaluator'),
    # other top-level keys
    ('val_cfg =', "launcher = 'torch'\nval_cfg =", 'launcher', "unknown launcher 'torch'"),
    ('val_cfg =', "runner_type = 'Runer'\nval_cfg =", 'runner_type', "unknown runner 'Runer'; did you mean 'Runner'?"),
    (
        'val_cfg =',
        'model_wrapper_cfg = dict(find_unused_parameter=True)\nval_cfg =',
        'model_wrapper_cfg.find_unused_parameter',
        "did you mean 'find_unused_parameters'?",
    ),
    (
        'val_cfg =',
        'custom_imports = dict(imports=[], allow_fail=True)\nval_cfg =',
        'custom_imports.allow_fail',
        "unknown key; did you mean 'allow_failed_imports'?",
    ),
    (
        'val_cfg =',
        "vis_backends = [dict(type='LocalVisBackends')]\nval_cfg =",
        'vis_backends.0.type',
        "did you mean 'LocalVisBackend'?",
    ),
    ('custom_hooks = [', 'custom_hooks = [3, ', 'custom_hooks.0', 'must be a dict with a type, not 3'),
    ('val_cfg =', 'modle = dict()\nval_cfg =', 'modle', "unknown key, and no file reads it; did you mean 'model'?"),
    (
        'val_cfg =',
        'imgsize = 3\nval_cfg =',
        'imgsize',
        'unknown key, and no file reads it; remove it or, if it is a note',
    ),
    ("type='ZooHead',", "type='ZooHead', _scope_='mmpretrain',", 'model.head._scope_', "unknown scope 'mmpretrain'"),
    ("type='ZooHead',", "type='ZooHead', _delete_=True,", 'model.head._delete_', 'there is nothing to delete'),
    (
        '    num_workers=2',
        '    num_workers=2, _delete_=True',
        'train_dataloader._delete_',
        'there is nothing to delete',
    ),
]


@pytest.mark.parametrize('old, new, key, words', ONE_PROBLEM, ids=[f'{case[2]}-{case[1][:30]}' for case in ONE_PROBLEM])
def test_one_problem(write: Write, old: str, new: str, key: str, words: str) -> None:
    assert old in VALID
    text = VALID.replace(old, new, 1)
    problems = problems_of(write({'configs/a.py': text}))
    if not words:
        assert problems == []
        return
    assert len(problems) == 1, problems
    place, found, message = problems[0].split(': ', 2)
    assert found == key
    assert words in message
    assert place.startswith('configs/a.py:')
    line = int(place.removeprefix('configs/a.py:'))
    last = key.split('.')[-1]
    if not last.isdigit():
        assert last in text.split('\n')[line - 1] or 'needs' in message or 'type' in message
