"""ML-Decoder: a fixed number of queries look at the map, each answers for a group of classes.

python tools/train.py configs/heads/ml_decoder.py
"""

_base_ = '../resnet18w16_ml.py'

model = dict(
    neck=None,
    head=dict(
        _delete_=True,
        type='MLDecoderHead',
        num_classes=10,
        in_channels=128,
        embed_dims=128,
        num_heads=4,
        feedforward_channels=256,
    ),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
