"""Hill loss: high-scored negatives, which may be missing labels, lose their weight.

python tools/train.py configs/losses/hill.py
"""

_base_ = '../resnet18w16_ml.py'

model = dict(head=dict(loss=dict(_delete_=True, type='HillLoss')))
