"""Two-way loss: ranks within images and within classes; its scores want thresholds of their own.

python tools/train.py configs/losses/two_way.py
"""

_base_ = '../resnet18w16_ml.py'

model = dict(head=dict(loss=dict(_delete_=True, type='TwoWayLoss', t_pos=4.0, t_neg=1.0)))
