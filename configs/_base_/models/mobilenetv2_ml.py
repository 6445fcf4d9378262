# MobileNetV2 of torchvision, ImageNet weights, with one linear multi-label head.
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True),
    backbone=dict(type='TorchvisionBackbone', name='mobilenet_v2', weights='torchvision://mobilenet_v2'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='MultiLabelLinearClsHead',
        num_classes=7,
        in_channels=1280,
        loss=dict(type='CrossEntropyLoss', use_sigmoid=True),
    ),
)
