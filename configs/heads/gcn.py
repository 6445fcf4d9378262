"""ML-GCN: classifiers made from label embeddings by a graph of which labels go together.

python tools/train.py configs/heads/gcn.py
"""

_base_ = '../resnet18w16_ml.py'

model = dict(
    neck=dict(_delete_=True, type='GlobalMaxPooling'),
    head=dict(_delete_=True, type='GCNHead', num_classes=10, in_channels=128, embedding_dims=64, hidden_dims=128),
)
