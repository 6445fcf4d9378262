"""Focal loss whose positives are asked for a margin.

python tools/train.py configs/losses/focal_margin.py
"""

_base_ = '../resnet18w16_ml.py'

model = dict(head=dict(loss=dict(_delete_=True, type='FocalMarginLoss')))
