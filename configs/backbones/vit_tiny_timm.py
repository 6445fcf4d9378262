"""A small vision transformer of timm (pip install 'mlcls[timm]'), with layer-wise learning rates.

python tools/train.py configs/backbones/vit_tiny_timm.py
"""

_base_ = '../resnet50_ml.py'

model = dict(
    backbone=dict(_delete_=True, type='TimmBackbone', name='vit_tiny_patch16_224', img_size=64, patch_size=8),
    head=dict(in_channels=192),
)
optim_wrapper = dict(
    constructor='LayerDecayOptimWrapperConstructor',
    optimizer=dict(lr=1e-3),
    paramwise_cfg=dict(layer_decay_rate=0.8),
)
