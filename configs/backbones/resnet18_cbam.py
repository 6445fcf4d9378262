"""ResNet-18 with channel and spatial attention in its last two stages, and stochastic depth.

python tools/train.py configs/backbones/resnet18_cbam.py
"""

_base_ = '../resnet50_ml.py'

model = dict(
    backbone=dict(depth=18, drop_path_rate=0.05, plugins=[dict(type='CBAM', stages=(2, 3))]), head=dict(in_channels=512)
)
