"""Focal loss, mmpretrain's defaults.

python tools/train.py configs/losses/focal.py
"""

_base_ = '../resnet18w16_ml.py'

model = dict(head=dict(loss=dict(_delete_=True, type='FocalLoss', gamma=2.0, alpha=0.25)))
