"""Large loss, LL-R: the largest losses of unmarked labels are left out.

python tools/train.py configs/losses/large_loss_reject.py
"""

_base_ = '../resnet18w16_ml.py'

model = dict(head=dict(loss=dict(_delete_=True, type='LargeLoss', mode='reject')))
