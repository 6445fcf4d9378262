"""Asymmetric loss with an exponent of its own for labels that nobody annotated (-1).

python tools/train.py configs/losses/partial_asymmetric.py
"""

_base_ = '../resnet18w16_ml.py'

model = dict(
    head=dict(loss=dict(_delete_=True, type='PartialAsymmetricLoss', gamma_pos=0.0, gamma_neg=1.0, gamma_unann=4.0))
)
