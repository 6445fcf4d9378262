"""Entropy maximisation: unmarked labels are kept undecided.

python tools/train.py configs/losses/entropy_maximization.py
"""

_base_ = '../resnet18w16_ml.py'

model = dict(head=dict(loss=dict(_delete_=True, type='EntropyMaximizationLoss', alpha=0.1)))
