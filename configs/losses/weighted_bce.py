"""Binary cross entropy that trusts negatives half, for labels that miss positives.

python tools/train.py configs/losses/weighted_bce.py
"""

_base_ = '../resnet18w16_ml.py'

model = dict(head=dict(loss=dict(_delete_=True, type='WeightedBCELoss', w_pos=1.0, w_neg=0.5)))
