"""Class-balanced loss; effective numbers come from the training labels.

python tools/train.py configs/losses/class_balanced.py
"""

_base_ = '../resnet18w16_ml.py'

model = dict(head=dict(loss=dict(_delete_=True, type='ClassBalancedLoss', beta=0.999)))
