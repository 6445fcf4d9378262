"""ResNeXt-50 32x4d: grouped convolutions.

python tools/train.py configs/backbones/resnext50.py
"""

_base_ = '../resnet50_ml.py'

model = dict(backbone=dict(type='ResNeXt', depth=50, groups=32, width_per_group=4))
