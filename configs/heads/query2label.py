"""Query2Label: each class has a query of its own that looks at the encoded map.

python tools/train.py configs/heads/query2label.py
"""

_base_ = '../resnet18w16_ml.py'

model = dict(
    neck=None,
    head=dict(
        _delete_=True,
        type='Query2LabelHead',
        num_classes=10,
        in_channels=128,
        embed_dims=128,
        num_heads=4,
        feedforward_channels=256,
    ),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
