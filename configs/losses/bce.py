"""Binary cross entropy: the plain choice, calibrated as it is.

python tools/train.py configs/losses/bce.py
"""

_base_ = '../resnet18w16_ml.py'

model = dict(head=dict(loss=dict(_delete_=True, type='CrossEntropyLoss', use_sigmoid=True)))
