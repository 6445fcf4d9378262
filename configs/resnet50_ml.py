"""ResNet-50 on MultiDigits, from random weights.

python tools/train.py configs/resnet50_ml.py

Result (test set, mean and deviation over seeds 0, 1, 2): mAP 86.6 +- 1.7,
CF1 78.5 +- 2.2, OF1 84.5 +- 1.2 at threshold 0.5; 8.5 minutes for training and test on 2 cores of AMD EPYC, no GPU.
"""

_base_ = [
    '_base_/models/resnet50_ml.py',
    '_base_/datasets/multidigits.py',
    '_base_/schedules/adamw_cosine.py',
    '_base_/default_runtime.py',
]
