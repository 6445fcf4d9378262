"""MobileNetV2 with ImageNet weights on photographs of an aquarium: an example of one's own data.

    python tools/train.py configs/mobilenetv2_aquarium.py

wants data/aquarium/labels.csv with the columns filename, split, fish, jellyfish, ... and the images beside it.
"""

_base_ = [
    '_base_/models/mobilenetv2_ml.py',
    '_base_/datasets/aquarium.py',
    '_base_/schedules/adamw_cosine.py',
    '_base_/default_runtime.py',
]

# Pretrained weights want a gentler rate than random ones.
optim_wrapper = dict(optimizer=dict(lr=5e-4))
