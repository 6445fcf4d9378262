"""What is said of a weights file: what filled what, what did not and why."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from mlcls.errors import CheckpointError
from mlcls.models import ImageClassifier, MultiLabelLinearClsHead, ResNet
from mlcls.models.weights import load_pretrained, load_weights, loaded_weights, take_over
from tests.models.weights.test_styles import classifier, images, shuffled


def small() -> ResNet:
    return ResNet(18, base_channels=8, stem_channels=8)


@pytest.mark.parametrize('prefix', ['', 'backbone.', 'module.', 'module.backbone.', 'model.', 'encoder.', 'a.b.c.'])
@pytest.mark.parametrize('key', [None, 'state_dict', 'model'])
def test_prefixes_and_keys_are_found(tmp_path: Path, prefix: str, key: str | None) -> None:
    source = small()
    weights = {prefix + name: value for name, value in source.state_dict().items()}
    weights |= {'head.fc.weight': torch.zeros(3, 3)}
    torch.save(weights if key is None else {key: weights, 'epoch': 3}, tmp_path / 'w.pth')
    target = small()
    report = load_pretrained(target, str(tmp_path / 'w.pth'))
    assert len(report.matched) == 100 and not report.missing and not report.mismatched  # 20 convolutions, 20 norms of 4
    assert report.stripped == prefix and report.parameters == report.all_parameters
    assert report.all_parameters == sum(each.numel() for each in source.parameters())
    assert all(torch.equal(a, b) for a, b in zip(source.state_dict().values(), target.state_dict().values()))
    assert (f"names after '{prefix}'" in str(report)) == bool(prefix)


def test_a_prefix_taken_off_and_another_put_on() -> None:
    source, target = shuffled(small()), classifier().eval()
    weights = {f'student.encoder.{name}': value for name, value in source.state_dict().items()}
    weights |= {'student.projector.weight': torch.zeros(3, 3)}
    report = load_weights(target, weights, 'ssl.pth')
    assert (report.stripped, report.added) == ('student.encoder.', 'backbone.') and len(report.matched) == 100
    assert "(names after 'student.encoder.', put under 'backbone.')" in str(report)
    assert report.missing == ('head.fc.weight', 'head.fc.bias') and not report.unused
    with torch.inference_mode():
        assert torch.equal(target.backbone(images())[0], source(images())[0])


def test_report_names_what_does_not_fit() -> None:
    weights = small().state_dict()
    weights['conv1.weight'] = torch.zeros(8, 2, 7, 7)
    weights['extra'] = weights.pop('bn1.weight')
    report = load_weights(small(), weights, 'file.pth', sha256='0123456789abcdef' * 4)
    text, size = str(report), sum(each.numel() for each in small().parameters())
    assert report.missing == ('bn1.weight',) and report.unused == ('extra',)
    assert report.mismatched == ('conv1.weight (file (8, 2, 7, 7), model (8, 3, 7, 7))',)
    assert text.splitlines() == [
        f'file.pth (sha256 0123456789ab): filled 98 of 100 tensors, {size - 8 * 3 * 49 - 8:,} of {size:,} parameters; '
        'names of torchvision or timm',
        '  not in the file: bn1.weight',
        '  in the file but not in the model: extra',
        '  left out because shapes differ: conv1.weight (file (8, 2, 7, 7), model (8, 3, 7, 7))',
    ]


def test_long_lists_are_cut_in_words_and_in_data() -> None:
    weights = {**small().state_dict(), **{f'more.{number}': torch.zeros(1) for number in range(60)}}
    report = load_weights(small(), weights, 'f')
    assert 'more.3, ... (60 in all)' in str(report) and 'more.4' not in str(report)
    plain = report.as_dict()
    assert plain['num_unused'] == 60 and len(plain['unused']) == 50 and plain['num_missing'] == 0
    assert json.loads(json.dumps(plain)) == plain


def test_asked_prefix() -> None:
    weights = {f'student.backbone.{name}': value for name, value in small().state_dict().items()}
    assert load_weights(small(), weights, 'f', prefix='student.backbone').complete
    assert load_weights(small(), weights, 'f', prefix='student.backbone.').complete
    with pytest.raises(CheckpointError, match="no name starts with 'studnt.'; did you mean 'student'"):
        load_weights(small(), weights, 'f', prefix='studnt')
    with pytest.raises(CheckpointError, match='nothing in it fits'):  # the prefix is taken as it is said
        load_weights(small(), weights, 'f', prefix='student')
    with pytest.raises(CheckpointError, match='nothing in it fits'):
        load_weights(small(), weights, 'f', prefix='')


def test_head_of_other_classes_is_left_alone_and_that_is_said() -> None:
    source, target = classifier(1000), classifier(7)
    start = {name: value.clone() for name, value in target.head.state_dict().items()}
    report = load_weights(target, source.state_dict(), 'mm.pth')
    assert report.head == 'head replaced: file has 1000 classes, model 7' and report.head in str(report)
    assert report.replaced == ('head.fc.weight', 'head.fc.bias')
    assert not (report.missing or report.unused or report.mismatched) and report.share == 1
    assert all(torch.equal(value, start[name]) for name, value in target.head.state_dict().items())
    assert load_weights(classifier(7), classifier(7).state_dict(), 'f').head == ''


def test_last_layer_of_other_networks() -> None:
    weights = shuffled(torchvision.models.resnet18(num_classes=1000)).state_dict()
    target = classifier(7, base_channels=64, stem_channels=64)
    report = load_weights(target, weights, 'tv.pth')
    assert report.head == 'head replaced: file has 1000 classes, model 7'
    assert report.replaced == ('head.fc.weight', 'head.fc.bias') and not report.unused and not report.missing
    narrow = {**weights, 'fc.weight': torch.zeros(7, 100), 'fc.bias': torch.zeros(7)}
    report = load_weights(target, narrow, 'tv.pth')
    assert report.head == "head not loaded: fc of the file takes 100 features, the model's 512"
    assert report.unused == ('fc.weight', 'fc.bias') and report.missing == ('head.fc.weight', 'head.fc.bias')
    del weights['fc.weight'], weights['fc.bias']
    assert load_weights(target, weights, 'tv.pth').head == ''


@pytest.mark.parametrize(
    'last, shape',
    [
        ('classifier', (7, 64)),
        ('classifier.1', (7, 64)),
        ('head', (7, 64)),
        ('head.fc', (7, 64)),
        ('heads.head', (7, 64)),
        ('last_linear', (7, 64)),
        ('fc', (7, 64, 1, 1)),
    ],
)
def test_last_layers_by_their_names(last: str, shape: tuple[int, ...]) -> None:
    target = classifier(7)
    weights = {**small().state_dict(), f'{last}.weight': torch.rand(shape), f'{last}.bias': torch.rand(7)}
    report = load_weights(target, weights, 'f')
    assert report.head == f'head: {last} of the file fills head.fc' and not report.missing and not report.unused
    assert torch.equal(target.head.fc.weight, weights[f'{last}.weight'].reshape(7, 64))
    assert torch.equal(target.head.fc.bias, weights[f'{last}.bias'])


def test_head_of_as_many_classes_but_other_features_is_a_mismatch() -> None:
    weights = classifier(7).state_dict()
    weights['head.fc.weight'] = torch.zeros(7, 100)
    report = load_weights(classifier(7), weights, 'f')
    assert report.mismatched == ('head.fc.weight (file (7, 100), model (7, 64))',) and not report.head


def test_nothing_is_adapted_where_that_is_not_wanted() -> None:
    weights = {**classifier(9).state_dict(), 'backbone.conv1.weight': torch.zeros(8, 1, 7, 7)}
    report = load_weights(classifier(7), weights, 'f', adapt=False)
    assert len(report.mismatched) == 3 and not report.adapted and not report.head and not report.replaced


def test_another_network_is_refused() -> None:
    with pytest.raises(CheckpointError) as caught:
        load_weights(small(), {'blocks.0.attn.qkv.weight': torch.zeros(2), 'norm.bias': torch.zeros(1)}, 'vit.pth')
    assert str(caught.value) == (
        'vit.pth: nothing in it fits ResNet: the model has names in conv1 (1), bn1 (4), layer1 (20), layer2 (25), '
        "layer3 (25), layer4 (25), like 'conv1.weight', the file in blocks (1), norm (1), like "
        "'blocks.0.attn.qkv.weight'; is it a file of another network? It looks like a timm ViT: use "
        "TimmBackbone(name='vit_small_patch16_224') or its like"
    )
    with pytest.raises(CheckpointError, match=r'in a0 \(1\), .*a7 \(1\), \.\.\. \(9 in all\), like .*network\?$'):
        load_weights(small(), {f'a{number}.b': torch.zeros(2) for number in range(9)}, 'f')
    with pytest.raises(CheckpointError, match='nothing in it fits'):  # counters of batches alone are nothing
        load_weights(small(), {'bn1.num_batches_tracked': torch.tensor(3)}, 'f')
    with pytest.raises(CheckpointError, match='there are no tensors in it'):
        load_weights(small(), {}, 'f')
    wide = ResNet(18, base_channels=16, stem_channels=16)  # whose stages have the shapes of the next ones of the other
    with pytest.raises(CheckpointError, match=r'100 names are in both, .*: conv1.weight \(file \(16, 3, 7, 7\), model'):
        load_weights(small(), wide.state_dict(), 'f')


def test_a_refused_file_changes_nothing() -> None:
    target = small()
    before = {name: value.clone() for name, value in target.state_dict().items()}
    with pytest.raises(CheckpointError):
        load_weights(target, {'a.b': torch.zeros(2)}, 'f')
    assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())


@pytest.mark.parametrize(
    'make, words',
    [
        (lambda: torch.zeros(8).to_sparse(), 'of sparse_coo'),
        (lambda: torch.zeros(8, dtype=torch.complex64), 'of complex64'),
        (lambda: torch.zeros(8, device='meta'), 'of no data'),
        (lambda: torch.quantize_per_tensor(torch.zeros(8), 1.0, 0, torch.qint8), 'of qint8'),
    ],
)
@pytest.mark.filterwarnings('ignore:torch.quantize_per_tensor')
def test_tensors_that_are_no_plain_numbers(make: Callable[[], torch.Tensor], words: str) -> None:
    report = load_weights(small(), {**small().state_dict(), 'bn1.weight': make()}, 'f')
    assert report.mismatched == (f'bn1.weight (file (8,) {words}, model (8,))',)


def test_little_matched_is_a_warning(tmp_path: Path, records: pytest.LogCaptureFixture) -> None:
    weights = small().state_dict()
    torch.save(weights, tmp_path / 'all.pth')
    load_pretrained(small(), str(tmp_path / 'all.pth'))
    assert [record.levelno for record in records.records] == [logging.INFO]
    assert records.messages[0].startswith(f'ResNet weights from {tmp_path}/all.pth (sha256 ')
    few = {name: value for name, value in weights.items() if name.startswith(('conv1', 'bn1', 'layer1'))}
    torch.save(few, tmp_path / 'few.pth')
    records.clear()
    load_pretrained(small(), str(tmp_path / 'few.pth'))
    assert [record.levelno for record in records.records] == [logging.WARNING]
    assert 'ONLY 25% OF THE TENSORS ARE FILLED; the rest is random' in records.messages[0]


def test_reports_stay_with_the_modules(tmp_path: Path) -> None:
    model = classifier()
    torch.save(small().state_dict(), tmp_path / 'w.pth')
    report = load_pretrained(model.backbone, str(tmp_path / 'w.pth'))
    (entry,) = loaded_weights(model)
    assert entry == {'part': 'backbone', 'module': 'ResNet', **report.as_dict()}
    assert entry['file'] == str(tmp_path / 'w.pth') and entry['tensors'] == entry['all_tensors'] == 100
    take_over(model, [entry, {'part': 'head', 'file': 'x'}])
    assert loaded_weights(model) == [entry, {'part': 'head', 'file': 'x'}]
    assert not loaded_weights(model.backbone)
    take_over(model, [])
    assert loaded_weights(model) == []


def test_mobilenet_of_imagenet(test_data: Path) -> None:
    path = test_data / 'weights/mobilenet_v2_features_torchvision.pth'
    reference = torchvision.models.mobilenet_v2(weights=None)
    reference.load_state_dict(torch.load(path, weights_only=True), strict=False)
    model: Any = ImageClassifier(
        dict(type='TorchvisionBackbone', name='mobilenet_v2', weights=str(path)),
        dict(type='GlobalAveragePooling'),
        dict(type='MultiLabelLinearClsHead', num_classes=7, in_channels=1280),
    )
    model.init_weights()
    (entry,) = loaded_weights(model)
    assert entry['part'] == 'backbone' and entry['style'] == 'torchvision' and entry['tensors'] == entry['all_tensors']
    x = images(96)
    with torch.inference_mode():
        torch.testing.assert_close(model.eval().backbone(x)[0], reference.eval().features(x))
    report = load_weights(model, torch.load(path, weights_only=True), str(path))
    assert report.added == 'backbone.' and report.missing == ('head.fc.weight', 'head.fc.bias') and not report.unused


def test_squeezenet_of_imagenet(test_data: Path) -> None:
    path = test_data / 'weights/squeezenet1_1_torchvision.pth'
    reference = torchvision.models.squeezenet1_1(weights=None)
    report = load_pretrained(reference, str(path))
    assert report.complete and report.style == 'torchvision'
    with pytest.raises(CheckpointError, match='It looks like a torchvision SqueezeNet: use TorchvisionBackbone'):
        load_pretrained(small(), str(path))


def test_modules_with_state_that_is_no_tensor() -> None:
    class Net(nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {'seen': 3}

        def set_extra_state(self, state: dict[str, int]) -> None:
            pass

    assert load_weights(Net(2, 3), nn.Linear(2, 3).state_dict(), 'f').complete
    head = MultiLabelLinearClsHead(num_classes=3, in_channels=4)
    assert load_weights(head, head.state_dict(), 'f').complete
