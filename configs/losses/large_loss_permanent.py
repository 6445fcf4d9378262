"""Large loss, LL-Cp: the largest losses of unmarked labels count as positive for good.

python tools/train.py configs/losses/large_loss_permanent.py
"""

_base_ = '../resnet18w16_ml.py'

model = dict(head=dict(loss=dict(_delete_=True, type='LargeLoss', mode='correct_permanent')))
