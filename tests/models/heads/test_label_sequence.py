"""Label sequences against loops over single images, and against all sequences."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mlcls.apis import test, train
from mlcls.errors import ConfigError, DataError
from mlcls.fileio import read_checkpoint
from mlcls.models import LabelSequenceHead
from mlcls.models.fitting import fit_heads
from mlcls.models.heads.label_decoders import GRULabelDecoder, TransformerLabelDecoder
from mlcls.structures import LabelMatrix, LabelStatistics
from tests.models.heads import dependent_labels

C, F = 4, 5
BOTH = pytest.mark.parametrize('decoder', ['gru', 'transformer'])


def make(decoder: str = 'gru', **settings: object) -> LabelSequenceHead:
    """A head with weights large enough to matter."""
    generator = torch.Generator().manual_seed(0)
    head = LabelSequenceHead(num_classes=C, in_channels=F, decoder=decoder, **{'embed_dims': 8, **settings})
    for parameter in head.parameters():
        parameter.data = 0.6 * torch.randn(parameter.shape, generator=generator)
    return head.eval()


def inputs(images: int = 3) -> torch.Tensor:
    return torch.randn(images, F, generator=torch.Generator().manual_seed(1))


def next_logits(head: LabelSequenceHead, x: torch.Tensor, said: tuple[int, ...]) -> np.ndarray:
    """Logits of the next token of one image (F,), float64 (C + 1,)."""
    with torch.no_grad():
        state = head.decoder.start(x[None])
        for token in (C, *said):
            vector, state = head.decoder.step(torch.tensor([token]), state)
        return head.fc(vector)[0].double().numpy()


def softmax(logits: np.ndarray, barred: set[int]) -> np.ndarray:
    e = np.where(np.isin(np.arange(len(logits)), list(barred)), 0, np.exp(logits - logits.max()))
    return e / e.sum()


def test_the_gru_is_torchs() -> None:
    decoder, x, tokens = GRULabelDecoder(C, F, 6), inputs(3), torch.tensor([[C, 0, 2], [C, 3, 1], [C, 1, 0]])
    gru = nn.GRU(6, 6, batch_first=True)
    for name in ('weight_ih', 'weight_hh', 'bias_ih', 'bias_hh'):
        getattr(gru, f'{name}_l0').data = getattr(decoder.cell, name).data
    hidden, _ = gru(decoder.embedding(tokens), decoder.first(x).tanh()[None])
    expected = (decoder.output(hidden) + decoder.image(x)[:, None]).relu()
    state = decoder.start(x)
    for t in range(3):
        vector, state = decoder.step(tokens[:, t], state)
        torch.testing.assert_close(vector, expected[:, t])


def test_the_transformer_is_torchs_with_a_causal_mask() -> None:
    decoder, x, tokens = TransformerLabelDecoder(C, F, 8), inputs(3), torch.tensor([[C, 0, 2], [C, 3, 1], [C, 1, 0]])
    layers = []
    for block in decoder.blocks:
        layer = nn.TransformerEncoderLayer(8, 4, 16, 0.0, 'gelu', batch_first=True, norm_first=True)
        layer.self_attn.in_proj_weight.data, layer.self_attn.in_proj_bias.data = block.qkv.weight, block.qkv.bias
        for mine, theirs in (
            (block.norm, layer.norm1),
            (block.proj, layer.self_attn.out_proj),
            (block.ffn[0], layer.norm2),
            (block.ffn[1], layer.linear1),
            (block.ffn[3], layer.linear2),
        ):
            theirs.load_state_dict(mine.state_dict())
        layers.append(layer)
    sequence = torch.cat([decoder.image(x)[:, None], decoder.embedding(tokens) + decoder.position[:3]], 1)
    for layer in layers:
        sequence = layer(sequence, nn.Transformer.generate_square_subsequent_mask(4), is_causal=True)
    state = decoder.start(x)
    for t in range(3):
        vector, state = decoder.step(tokens[:, t], state)
        torch.testing.assert_close(vector, decoder.norm(sequence)[:, t + 1], rtol=1e-4, atol=1e-5)


TARGETS = [[1, 1, 0, 1], [0, 0, 0, 0], [1, -1, 0, 1], [-1, -1, -1, -1], [1, 1, 1, 1], [0, -1, 1, 0]]


@BOTH
def test_order_free_training(decoder: str) -> None:
    head, x, targets = make(decoder), inputs(6), torch.tensor(TARGETS, dtype=torch.int8)
    losses, tokens = head.order_free_losses(x, targets)
    total = 0.0
    for n, row in enumerate(TARGETS):
        left, unknown, said = {c for c in range(C) if row[c] == 1}, {c for c in range(C) if row[c] < 0}, ()
        for t in range(C + 1):
            p = softmax(next_logits(head, x[n], said), unknown | set(said))
            target = max(left, key=lambda c: p[c]) if left else C
            assert tokens[t, n] == target
            assert losses[t, n].item() == pytest.approx(-np.log(p[target]), abs=1e-5)
            total -= np.log(p[target])
            if target == C:
                assert (tokens[t:, n] == C).all() and (losses[t + 1 :, n] == 0).all()
                break
            said, left = (*said, target), left - {target}
    assert head.loss([x], targets)['loss'].item() == pytest.approx(total / 6, rel=1e-5)


def test_unknown_labels_change_nothing() -> None:
    head, x = make(), inputs(1)
    gradients = []
    for shift in (0.0, 5.0):
        head.zero_grad()
        head.fc.bias.data[1] += shift
        head.loss([x], torch.tensor([[1, -1, 0, 1]]))['loss'].backward()
        assert not head.fc.weight.grad[1].any() and head.fc.weight.grad[[0, 2, 3, 4]].any(1).all()
        gradients.append(head.fc.weight.grad.clone())
    torch.testing.assert_close(*gradients)


def sequences(
    head: LabelSequenceHead, x: torch.Tensor, most: int, said: tuple[int, ...] = ()
) -> Iterator[tuple[tuple[int, ...], float, np.ndarray]]:
    """All sequences of at most ``most`` labels: labels, log probability, log probability of each never being said."""
    p = softmax(next_logits(head, x, said), set(said))
    absent = np.log1p(-np.minimum(p[:C], 1 - 1e-6))
    yield said, float(np.log(p[C])), absent
    if len(said) < most:
        for c in sorted(set(range(C)) - set(said)):
            for whole, score, rest in sequences(head, x, most, (*said, c)):
                yield whole, float(np.log(p[c])) + score, absent + rest


@BOTH
@pytest.mark.parametrize('most', [2, 4])
def test_a_wide_beam_is_an_exhaustive_search(decoder: str, most: int) -> None:
    head, x = make(decoder, max_labels=most, beam_size=70), inputs(4)
    beams, logits = head.search(x), head([x]).detach()
    for n in range(4):
        paths = sorted(sequences(head, x[n], most), key=lambda path: -path[1])
        np.testing.assert_allclose(beams.score[n, : len(paths)].detach(), [path[1] for path in paths], atol=1e-4)
        assert beams.score[n, len(paths) :].max() < -1e8
        assert set(np.flatnonzero(beams.said[n, 0])) == set(paths[0][0])
        weight = np.exp([path[1] for path in paths])
        absent = (weight[:, None] * np.exp([path[2] for path in paths])).sum(0) / weight.sum()
        np.testing.assert_allclose(logits[n], np.log((1 - absent) / absent), atol=1e-3)


@BOTH
@pytest.mark.parametrize('beam', [1, 3])
def test_a_narrow_beam_is_a_loop(decoder: str, beam: int) -> None:
    head, x = make(decoder, max_labels=3, beam_size=beam), inputs(5)
    found = head.search(x)
    for n in range(5):
        paths: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
        for step in range(4):
            grown = []
            for said, score in paths:
                if said[-1:] == (C,):
                    grown.append((said, score))
                    continue
                p = softmax(next_logits(head, x[n], said), set(said))
                choices = [c for c in range(C) if c not in said and step < 3] + [C]
                grown += [((*said, c), score + np.log(p[c])) for c in choices]
            paths = sorted(grown, key=lambda path: -path[1])[:beam]
        np.testing.assert_allclose(found.score[n].detach(), [score for _, score in paths], atol=1e-4)
        for b, (said, _) in enumerate(paths):
            assert set(np.flatnonzero(found.said[n, b])) == set(said) - {C}


@BOTH
def test_the_best_sequence_decides(decoder: str) -> None:
    head, x = make(decoder, beam_size=4), inputs(30)
    marginals = head([x]).detach()
    head.inference = 'sequence'
    logits, best = head([x]).detach(), head.search(x).said[:, 0]
    assert torch.equal(logits > 0, best) and logits.abs().min() >= 0.01
    assert torch.equal(head.predict([x]).bfloat16() > 0.5, best)
    for n in range(30):  # in each group, the order of the marginals
        for group in (best[n], ~best[n]):
            order = marginals[n][group].argsort()
            assert (logits[n][group][order].diff() >= 0).all()


def test_the_length_comes_from_the_training_labels() -> None:
    labels = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, -1]], np.int8)
    head = make()
    assert head.steps == C + 1  # until it is known
    told = fit_heads(head, LabelStatistics(LabelMatrix.from_dense(labels)))
    assert told == ['LabelSequenceHead: max_labels from the training labels: 3'] and head.steps == 4
    other = make()
    other.load_state_dict(head.state_dict())
    assert other.steps == 4
    given = make(max_labels=2)
    assert not given.fit(LabelStatistics(LabelMatrix.from_dense(labels)))
    given.load_state_dict(head.state_dict())
    assert given.steps == 3 and given.length == 2
    # Fine-tuning: weights of images with fewer labels do not shorten the sequences, those of more lengthen them.
    new, old = make(), make()
    new.fit(LabelStatistics(LabelMatrix.from_dense(labels)))
    old.fit(LabelStatistics(LabelMatrix.from_dense(labels[1:2])))
    new.load_state_dict(old.state_dict())
    assert new.steps == 4 and new.length == 3
    old.load_state_dict(new.state_dict())
    assert old.steps == 4
    head.fit(LabelStatistics(LabelMatrix.from_dense(np.zeros((2, C), np.int8))))
    assert head.steps == 2 and head([inputs()]).isfinite().all()
    # More labels than that: the first max_labels steps train, nothing breaks.
    assert head.loss([inputs()], torch.ones(3, C, dtype=torch.int8))['loss'].isfinite()


@BOTH
@pytest.mark.parametrize('inference', ['marginals', 'sequence'])
def test_gradients_round_trip_and_precision(decoder: str, inference: str) -> None:
    head, x = make(decoder, inference=inference), inputs(6)
    targets = torch.tensor(TARGETS, dtype=torch.int8)
    head.loss([x], targets)['loss'].backward()
    assert all(p.grad is not None and p.grad.any() for p in head.parameters())
    other = LabelSequenceHead(C, F, decoder, 8, inference=inference).eval()
    other.load_state_dict(head.state_dict())
    assert torch.equal(other([x]), head([x]))
    with torch.autocast('cpu', torch.bfloat16):
        low = head([x.bfloat16()])
        loss = head.loss([x.bfloat16()], targets)['loss']
    assert low.dtype == torch.float32 and low.isfinite().all() and loss.isfinite()
    torch.testing.assert_close(head([x[:1]]), head([x])[:1], rtol=1e-4, atol=1e-5)
    assert head([1e4 * x]).isfinite().all() and head.loss([1e4 * x], targets)['loss'].isfinite()
    one = LabelSequenceHead(1, F, decoder, 8, beam_size=5).eval()
    assert one([x]).shape == (6, 1) and one([x]).isfinite().all()


@BOTH
def test_dependence_pays(decoder: str) -> None:
    linear = dependent_labels.linear_accuracy()
    torch.manual_seed(0)
    head = LabelSequenceHead(6, 6, decoder, 16, inference='sequence')
    head.fit(dependent_labels.statistics())
    assert head.steps == 3
    assert dependent_labels.subset_accuracy(head, steps=60, rate=0.01) > linear + 0.08


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(loss=dict(type='AsymmetricLoss')), 'takes no loss of .N, C. logits; remove model.head.loss'),
        (dict(decoder='lstm'), "unknown decoder 'lstm'; choose from gru, transformer"),
        (dict(inference='sequences'), "unknown inference 'sequences'; did you mean 'sequence'"),
        (dict(beam_size=0), 'beam_size must be at least 1, got 0'),
        (dict(max_labels=0), 'max_labels must be at least 1, got 0'),
        (dict(embed_dims=0), 'embed_dims must be at least 1, got 0'),
        (dict(decoder='transformer', embed_dims=6), 'embed_dims must be a multiple of the 4 heads .*, got 6'),
    ],
)
def test_settings_that_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=f'LabelSequenceHead: .*{message}'):
        LabelSequenceHead(**{'num_classes': C, 'in_channels': F, **settings})


def test_targets_that_are_refused() -> None:
    head, x = make(), inputs()
    with pytest.raises(DataError, match=r'soft targets are no sequence of labels; remove data_preprocessor'):
        head.loss([x], torch.full((3, C), 0.5))
    with pytest.raises(ConfigError, match='the data have 3 classes; set model.head.num_classes=3'):
        head.loss([x], torch.zeros(3, 3))
    assert torch.equal(head.loss([x], torch.ones(3, C))['loss'], head.loss([x], torch.ones(3, C).char())['loss'])


def test_a_run_and_its_test(tiny_config: Path) -> None:
    settings = dict(type='LabelSequenceHead', num_classes=3, in_channels=64, embed_dims=16)
    run = train(tiny_config, options={'model.head': dict(_delete_=True, **settings), 'train_cfg.max_epochs': 1})
    assert 1 <= read_checkpoint(run / 'epoch_1.pth')['state_dict']['head.length'] <= 3
    assert test(run).num_images == 20  # without the training data
