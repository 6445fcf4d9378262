"""A weighted sum of two losses.

python tools/train.py configs/losses/bce_and_zlpr.py
"""

_base_ = '../resnet18w16_ml.py'

parts = [dict(type='CrossEntropyLoss', use_sigmoid=True), dict(type='ZLPRLoss')]
model = dict(head=dict(loss=dict(_delete_=True, type='WeightedSum', losses=parts, weights=[1.0, 0.5])))
