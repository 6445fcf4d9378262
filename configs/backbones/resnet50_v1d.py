"""ResNet-50-D: three small convolutions first, averages where the map shrinks.

python tools/train.py configs/backbones/resnet50_v1d.py
"""

_base_ = '../resnet50_ml.py'

model = dict(backbone=dict(type='ResNetV1d', depth=50))
