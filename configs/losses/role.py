"""ROLE: estimates the labels of every training image along with the network.

python tools/train.py configs/losses/role.py
"""

_base_ = '../resnet18w16_ml.py'

model = dict(head=dict(loss=dict(_delete_=True, type='RoleLoss')))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(label_logits=dict(lr_mult=10.0, decay_mult=0.0))))
