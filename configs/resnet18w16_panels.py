"""A small ResNet-18 on Panels, pictures whose labels depend on each other in a known way.

python tools/train.py configs/resnet18w16_panels.py

Make the pictures first: python -m mlcls.datasets.panels data/panels
"""

_base_ = [
    '_base_/models/resnet50_ml.py',
    '_base_/datasets/panels.py',
    '_base_/schedules/adamw_cosine.py',
    '_base_/default_runtime.py',
]

model = dict(
    backbone=dict(depth=18, stem_channels=16, base_channels=16, strides=(1, 2, 2, 1)),
    head=dict(num_classes=12, in_channels=128),
)
optim_wrapper = dict(optimizer=dict(lr=4e-3))
