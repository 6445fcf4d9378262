"""Unmarked labels as negatives of small weight, for single positive labels.

python tools/train.py configs/losses/weak_negatives.py
"""

_base_ = '../resnet18w16_ml.py'

model = dict(head=dict(loss=dict(_delete_=True, type='WeakAssumeNegativeLoss')))
