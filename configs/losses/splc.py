"""SPLC: unmarked labels of high score are taken as positive from the second epoch on.

python tools/train.py configs/losses/splc.py
"""

_base_ = '../resnet18w16_ml.py'

model = dict(head=dict(loss=dict(_delete_=True, type='SPLCLoss', tau=0.6)))
