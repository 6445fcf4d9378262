"""Binary cross entropy with positives weighted up to their negatives; the weights come from the training labels.

python tools/train.py configs/losses/bce_pos_weight.py
"""

_base_ = '../resnet18w16_ml.py'

model = dict(head=dict(loss=dict(_delete_=True, type='CrossEntropyLoss', use_sigmoid=True, pos_weight='auto')))
