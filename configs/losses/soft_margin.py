"""Binary cross entropy averaged over classes, torch's MultiLabelSoftMarginLoss.

python tools/train.py configs/losses/soft_margin.py
"""

_base_ = '../resnet18w16_ml.py'

model = dict(head=dict(loss=dict(_delete_=True, type='MultiLabelSoftMarginLoss')))
