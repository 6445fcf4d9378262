"""Softmax cross entropy with labels that sum to one: wrong for multi-label data, kept to show it.

python tools/train.py configs/losses/softmax.py
"""

_base_ = '../resnet18w16_ml.py'

model = dict(head=dict(loss=dict(_delete_=True, type='CrossEntropyLoss', use_softmax=True)))
