"""SE-ResNet-50: channels re-weighted by what the whole map shows.

python tools/train.py configs/backbones/se_resnet50.py
"""

_base_ = '../resnet50_ml.py'

model = dict(backbone=dict(type='SEResNet', depth=50))
