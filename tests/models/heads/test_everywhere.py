"""Every head under mixed precision, torch.compile, ONNX and DDP, and with every loss."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mlcls.errors import ConfigError
from mlcls.models import MultiLabelClsHead
from mlcls.models.losses import MultiLabelLoss
from mlcls.registry import MODELS

from ..losses.cases import SETTINGS
from .everywhere import CASES, CHANNELS, CLASSES, IDS, Case, build, classifier, features, targets, work

every_head = pytest.mark.parametrize('case', CASES, ids=IDS)


def registered(base: type) -> dict[str, type]:
    """The parts of ours with this base, by name."""
    MODELS.import_from_location()
    found = {name: value for name, value in MODELS.module_dict.items() if inspect.isclass(value)}
    return {
        name: value
        for name, value in found.items()
        if issubclass(value, base) and value.__module__.startswith('mlcls.')
    }


def test_every_registered_head_is_in_the_table() -> None:
    assert registered(MultiLabelClsHead).keys() == {case.settings['type'] for case in CASES}


@every_head
def test_logits_and_scores(case: Case) -> None:
    head = build(case).eval()
    logits = head(features(case))
    assert logits.shape == (6, CLASSES) and logits.dtype == torch.float32 and logits.isfinite().all()
    scores = head.predict(features(case))
    assert scores.dtype == torch.float32 and scores.min() >= 0 and scores.max() <= 1 and scores.std() > 0
    assert torch.equal(head(features(case)), logits)  # nothing is drawn at random
    one = head(tuple(feature[:1] for feature in features(case)))
    torch.testing.assert_close(one, logits[:1], rtol=1e-4, atol=1e-5)  # nor does the batch matter


@every_head
def test_every_parameter_gets_a_gradient(case: Case) -> None:
    head = build(case).train()
    inputs = tuple(feature.requires_grad_() for feature in features(case))
    sum(head.loss(inputs, targets(), torch.arange(6)).values()).backward()
    assert all(inputs[0].grad.flatten(1).any(1))  # in each image
    without = [name for name, p in head.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not without


@every_head
def test_mixed_precision(case: Case) -> None:
    head = build(case).train()
    exact = sum(head.loss(features(case), targets(), torch.arange(6)).values())
    inputs = tuple(feature.bfloat16().requires_grad_() for feature in features(case))
    with torch.autocast('cpu', torch.bfloat16):
        logits = head(inputs)
        loss = sum(head.loss(inputs, targets(), torch.arange(6)).values())
    assert logits.dtype == torch.float32 and logits.isfinite().all() and loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=0.1, atol=0.1)
    loss.backward()
    grads = [inputs[0].grad, *(p.grad for p in head.parameters() if p.requires_grad)]
    assert all(grad is not None and grad.isfinite().all() for grad in grads)


@every_head
def test_weights_go_to_another_head(case: Case, tmp_path: Path) -> None:
    head = build(case).eval()
    torch.save(head.state_dict(), tmp_path / 'head.pth')
    other = build(case).eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(torch.load(tmp_path / 'head.pth', weights_only=True))
    assert torch.equal(other(features(case)), head(features(case)))


@every_head
def test_a_head_that_was_not_fitted_takes_what_a_checkpoint_has(case: Case) -> None:
    """As in a test or an export, which have no training labels."""
    from .everywhere import config

    head, bare = build(case).eval(), MODELS.build(config(case)).eval()
    bare.load_state_dict(head.state_dict())
    assert torch.equal(bare(features(case)), head(features(case)))


def check_compiled(case: Case, backend: str) -> None:
    torch._dynamo.reset()
    head = build(case).eval()
    expected = head(features(case))
    torch.testing.assert_close(torch.compile(head, backend=backend)(features(case)), expected, rtol=1e-4, atol=1e-5)
    head.train()
    values, grads = [], []
    for compute in (head.loss, torch.compile(head.loss, backend=backend)):
        head.zero_grad()
        loss = sum(compute(features(case), targets(), torch.arange(6)).values())
        if loss.requires_grad:
            loss.backward()
        values.append(loss.detach())
        grads.append([p.grad.clone() for p in head.parameters() if p.grad is not None])
    torch.testing.assert_close(values[1], values[0], rtol=1e-4, atol=1e-5)
    assert len(grads[0]) == len(grads[1])
    for eager, compiled in zip(*grads):
        torch.testing.assert_close(compiled, eager, rtol=1e-3, atol=1e-5)


@every_head
def test_compiled_equals_eager(case: Case) -> None:
    check_compiled(case, 'eager')


#: Machine code takes long to make: of each way of working (one matrix product, attention, a loop over labels) one head.
COMPILED = ('MultiLabelLinearClsHead', 'MLDecoderHead', 'ClassifierChainHead')


@pytest.mark.slow
@pytest.mark.parametrize('kind', COMPILED)
def test_compiled_to_machine_code_equals_eager(kind: str) -> None:
    case = next(case for case in CASES if case.settings['type'] == kind)
    check_compiled(case, 'inductor')


#: A first, a middle and a last step of the decoder.
ONNX_SETTINGS: dict[str, dict[str, Any]] = {'LabelSequenceHead': dict(max_labels=2)}
QUICK = ('MultiLabelLinearClsHead', 'CSRAClsHead')


@pytest.mark.parametrize(
    'kind',
    [
        pytest.param(kind, marks=() if kind in QUICK else pytest.mark.slow)
        for kind in dict.fromkeys(case.settings['type'] for case in CASES)
    ],
)
def test_onnx(kind: str, tmp_path: Path) -> None:
    case = next(case for case in CASES if case.settings['type'] == kind)
    runtime = pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    case = case._replace(settings={**case.settings, **ONNX_SETTINGS.get(kind, {})})
    model = classifier(case)
    # One stage with the channels of four: the backbone would take longer to export than most heads.
    backbone = dict(type='ResNet', depth=18, base_channels=CHANNELS, stem_channels=4, out_indices=(0,))
    model.backbone = MODELS.build(backbone).eval()
    path = tmp_path / 'model.onnx'
    images = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    batch = torch.export.Dim('batch', min=1, max=64)
    torch.onnx.export(
        model,
        (images[:2],),
        str(path),
        dynamo=True,
        dynamic_shapes=({0: batch},),
        input_names=['images'],
        verbose=False,
    )
    session = runtime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    for number in (1, 2, 5):
        (found,) = session.run(None, {session.get_inputs()[0].name: images[:number].numpy()})
        with torch.no_grad():
            expected = model(images[:number])
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_two_processes_have_the_gradients_of_one(tmp_path: Path) -> None:
    report = tmp_path / 'wrong.json'
    torch.multiprocessing.spawn(work, (str(tmp_path / 'rendezvous'), str(report)), nprocs=2)
    wrong = json.loads(report.read_text())
    assert list(wrong) == IDS
    assert not {name: words for name, words in wrong.items() if words}


LOSSES = {name: next(cfg for cfg in SETTINGS if cfg['type'] == name) for name in registered(MultiLabelLoss)}
#: Heads that take no loss of (N, C) logits, or not those losses, with what they say.
REFUSED = {('LabelSequenceHead', name): 'trains by the likelihood of its sequences' for name in LOSSES} | {
    # The plain head is not told the number of classes, by which these are set up.
    ('MultiLabelClsHead', name): 'use a head with num_classes=5'
    for name in ('ClassBalancedLoss', 'DistributionBalancedLoss', 'PartialAsymmetricLoss')
}


@every_head
def test_every_loss(case: Case) -> None:
    for name, cfg in LOSSES.items():
        words = REFUSED.get((case.settings['type'], name))
        if words:
            with pytest.raises(ConfigError, match=words):
                build(case, cfg)
            continue
        head: Any = build(case, cfg).train()
        inputs = tuple(feature.requires_grad_() for feature in features(case))
        losses = [module for module in head.modules() if isinstance(module, MultiLabelLoss)]
        for loss in losses:
            loss.start_epoch(0)
        total = sum(head.loss(inputs, targets(), torch.arange(6)).values())
        total.backward()
        assert total.isfinite(), name
        found = {key: p.grad for key, p in head.named_parameters() if p.requires_grad}
        assert all(grad is not None and grad.isfinite().all() for grad in found.values()), (name, found.keys())
        assert inputs[0].grad.isfinite().all() and inputs[0].grad.any(), name


def test_sizes_of_the_table() -> None:
    """The plain head's logits are its features, whose number is that of the classes."""
    assert features(CASES[0])[0].shape[1] == CLASSES and features(CASES[1])[0].shape[1] == CHANNELS
    assert isinstance(classifier(CASES[1]), nn.Module)
