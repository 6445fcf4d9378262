"""Distribution-balanced loss for long tails; counts come from the training labels.

python tools/train.py configs/losses/distribution_balanced.py
"""

_base_ = '../resnet18w16_ml.py'

model = dict(head=dict(loss=dict(_delete_=True, type='DistributionBalancedLoss', mu=0.2, neg_scale=2.0)))
