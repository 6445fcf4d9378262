# Panels: 32-pixel pictures whose labels depend on each other in a known way.
# Made by `python -m mlcls.datasets.panels data/panels`.
data_root = 'data/panels'

pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]

train_dataloader = dict(
    batch_size=128,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='MultiLabelDataset', data_root=data_root, ann_file='train.json', pipeline=pipeline),
)
val_dataloader = dict(
    batch_size=200,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(type='MultiLabelDataset', data_root=data_root, ann_file='val.json', pipeline=pipeline),
)
test_dataloader = dict(
    batch_size=200,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(type='MultiLabelDataset', data_root=data_root, ann_file='test.json', pipeline=pipeline),
)

val_evaluator = [dict(type='ThresholdMetric'), dict(type='AveragePrecision'), dict(type='ExactMatchMetric')]
test_evaluator = val_evaluator
