"""Binary cross entropy with smoothed labels.

python tools/train.py configs/losses/label_smooth.py
"""

_base_ = '../resnet18w16_ml.py'

model = dict(head=dict(loss=dict(_delete_=True, type='LabelSmoothLoss', label_smooth_val=0.1)))
