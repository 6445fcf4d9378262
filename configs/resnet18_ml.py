"""ResNet-18 on MultiDigits, from random weights: the smaller and faster sibling of resnet50_ml.py.

python tools/train.py configs/resnet18_ml.py

Result (test set, mean and deviation over seeds 0, 1, 2): mAP 92.1 +- 1.1,
CF1 85.6 +- 1.4, OF1 89.2 +- 0.8 at threshold 0.5; 5.0 minutes for training and test on 2 cores of AMD EPYC, no GPU.
"""

_base_ = 'resnet50_ml.py'

model = dict(backbone=dict(depth=18), head=dict(in_channels=512))
# _delete_ drops what the base says of AdamW.
optim_wrapper = dict(optimizer=dict(_delete_=True, type='SGD', lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4))
