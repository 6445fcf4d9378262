# MultiDigits, the built-in data set: 64-pixel pictures of one to five handwritten digits. Made by `make data`.
data_root = 'data/multidigits'
image_size = 64

train_pipeline = [
    dict(type='LoadImageFromFile'),
    # Digits must stay whole and readable: crops are mild, and nothing is flipped.
    dict(type='RandomResizedCrop', scale=image_size, crop_ratio_range=(0.7, 1.0)),
    dict(type='ColorJitter', brightness=0.3, contrast=0.3),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(image_size, image_size)),
    dict(type='PackInputs'),
]

train_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='ClassBalancedDataset',
        oversample_thr=0.2,
        dataset=dict(type='MultiLabelDataset', data_root=data_root, ann_file='train.json', pipeline=train_pipeline),
    ),
)
val_dataloader = dict(
    batch_size=100,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(type='MultiLabelDataset', data_root=data_root, ann_file='val.json', pipeline=test_pipeline),
)
test_dataloader = dict(
    batch_size=100,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(type='MultiLabelDataset', data_root=data_root, ann_file='test.json', pipeline=test_pipeline),
)

val_evaluator = [dict(type='ThresholdMetric'), dict(type='AveragePrecision'), dict(type='FittedThresholdMetric')]
test_evaluator = [dict(type='ThresholdMetric'), dict(type='AveragePrecision')]
