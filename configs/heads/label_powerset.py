"""One softmax over the label sets seen in training.

python tools/train.py configs/heads/label_powerset.py
"""

_base_ = '../resnet18w16_ml.py'

model = dict(head=dict(_delete_=True, type='LabelPowersetHead', num_classes=10, in_channels=128))
test_evaluator = [dict(type='ThresholdMetric'), dict(type='AveragePrecision'), dict(type='ExactMatchMetric')]
