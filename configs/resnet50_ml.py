"""ResNet-50 on MultiDigits, from random weights.

python tools/train.py configs/resnet50_ml.py
"""

_base_ = [
    '_base_/models/resnet50_ml.py',
    '_base_/datasets/multidigits.py',
    '_base_/schedules/adamw_cosine.py',
    '_base_/default_runtime.py',
]
