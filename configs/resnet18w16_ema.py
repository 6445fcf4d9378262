"""The small ResNet-18 on MultiDigits, with an exponential moving average of its weights.

python tools/train.py configs/resnet18w16_ema.py

The averaged weights are validated, tested and deployed; statistics of batch normalisation are estimated for them.
"""

_base_ = 'resnet18w16_ml.py'

custom_hooks = [
    dict(type='EMAHook', momentum=0.002),
    dict(type='PreciseBNHook', num_batches=50),
]
