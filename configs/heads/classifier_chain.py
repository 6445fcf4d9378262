"""An ensemble of classifier chains: each label is decided given those before it.

python tools/train.py configs/heads/classifier_chain.py
"""

_base_ = '../resnet18w16_ml.py'

model = dict(
    head=dict(
        _delete_=True,
        type='ClassifierChainHead',
        num_classes=10,
        in_channels=128,
        num_chains=5,
        inference='probabilistic',
    )
)
test_evaluator = [dict(type='ThresholdMetric'), dict(type='AveragePrecision'), dict(type='ExactMatchMetric')]
