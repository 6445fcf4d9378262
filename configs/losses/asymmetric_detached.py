"""Asymmetric loss as in its authors' code: weights are constants in the gradient.

python tools/train.py configs/losses/asymmetric_detached.py
"""

_base_ = '../resnet18w16_ml.py'

model = dict(
    head=dict(
        loss=dict(_delete_=True, type='AsymmetricLoss', gamma_pos=0.0, gamma_neg=4.0, clip=0.05, detach_weight=True)
    )
)
