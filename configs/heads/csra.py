"""Class-specific residual attention: for each class, the mean of the map and its most telling positions.

python tools/train.py configs/heads/csra.py
"""

_base_ = '../resnet18w16_ml.py'

model = dict(
    neck=None, head=dict(_delete_=True, type='CSRAClsHead', num_classes=10, in_channels=128, num_heads=2, lam=0.1)
)
