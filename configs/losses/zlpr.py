"""ZLPR, multi-label softmax: positives above 0, negatives below, in one loss an image.

python tools/train.py configs/losses/zlpr.py
"""

_base_ = '../resnet18w16_ml.py'

model = dict(head=dict(loss=dict(_delete_=True, type='ZLPRLoss')))
