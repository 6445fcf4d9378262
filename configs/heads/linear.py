"""One linear layer on pooled features, with dropout.

python tools/train.py configs/heads/linear.py
"""

_base_ = '../resnet18w16_ml.py'

model = dict(head=dict(dropout=0.2))
