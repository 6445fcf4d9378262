# Aquarium (Roboflow, CC BY 4.0): 638 photographs, 7 kinds of animals, labels in a CSV sheet with its own split column.
data_root = 'data/aquarium'
image_size = 160

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=image_size, crop_ratio_range=(0.4, 1.0)),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='ColorJitter', brightness=0.3, contrast=0.3, saturation=0.3),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(image_size, image_size)),
    dict(type='PackInputs'),
]

train_dataloader = dict(
    batch_size=16,
    num_workers=2,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='ClassBalancedDataset',
        oversample_thr=0.2,
        dataset=dict(
            type='MultiLabelDataset', data_root=data_root, ann_file='labels.csv', split='train', pipeline=train_pipeline
        ),
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type='MultiLabelDataset', data_root=data_root, ann_file='labels.csv', split='valid', pipeline=test_pipeline
    ),
)
test_dataloader = dict(
    batch_size=32,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type='MultiLabelDataset', data_root=data_root, ann_file='labels.csv', split='test', pipeline=test_pipeline
    ),
)

val_evaluator = [dict(type='ThresholdMetric'), dict(type='AveragePrecision'), dict(type='FittedThresholdMetric')]
test_evaluator = [dict(type='ThresholdMetric'), dict(type='AveragePrecision')]
