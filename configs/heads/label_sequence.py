"""CNN-RNN: labels are named one after another, in the order that the model finds easiest.

python tools/train.py configs/heads/label_sequence.py
"""

_base_ = '../resnet18w16_ml.py'

model = dict(head=dict(_delete_=True, type='LabelSequenceHead', num_classes=10, in_channels=128))
test_evaluator = [dict(type='ThresholdMetric'), dict(type='AveragePrecision'), dict(type='ExactMatchMetric')]
