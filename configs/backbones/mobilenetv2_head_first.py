"""MobileNetV2 with ImageNet weights on photographs: two epochs for the head alone, then all, the backbone more gently.

python tools/train.py configs/backbones/mobilenetv2_head_first.py
"""

_base_ = '../mobilenetv2_aquarium.py'

custom_hooks = [dict(type='HeadFirstHook', epochs=2)]
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.1)}))
