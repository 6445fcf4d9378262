"""Softmax cross entropy with the label vector as it is: wrong for multi-label data, kept to show it.

python tools/train.py configs/losses/soft.py
"""

_base_ = '../resnet18w16_ml.py'

model = dict(head=dict(loss=dict(_delete_=True, type='CrossEntropyLoss', use_soft=True)))
