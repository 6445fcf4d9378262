"""ResNet-18 of a quarter of the width on MultiDigits, from random weights: small enough to compare many settings.

python tools/train.py configs/resnet18w16_ml.py
"""

_base_ = 'resnet50_ml.py'

model = dict(backbone=dict(depth=18, stem_channels=16, base_channels=16), head=dict(in_channels=128, prior_bias=True))
# A small network bears, and wants, a higher rate.
optim_wrapper = dict(optimizer=dict(lr=6e-3))
