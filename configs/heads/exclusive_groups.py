"""Labels that exclude each other: at most one of 'two' and 'five' is in a picture of MultiDigits.

python tools/train.py configs/heads/exclusive_groups.py
"""

_base_ = '../resnet18w16_ml.py'

model = dict(
    head=dict(
        _delete_=True,
        type='ExclusiveGroupsHead',
        num_classes=10,
        in_channels=128,
        groups=[dict(labels=[2, 5], none=True)],
    )
)
test_evaluator = [dict(type='ThresholdMetric'), dict(type='AveragePrecision'), dict(type='ExactMatchMetric')]
