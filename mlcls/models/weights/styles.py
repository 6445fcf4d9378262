"""Whose names a file has, and names that mean the same.

Names of tensors differ between mmpretrain, torchvision and timm where the networks are the same. :func:`common_names`
turns those of all three into one form; files and modules are compared in it, so that any of them fills any other.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable

from mlcls.models.weights.prefixes import Shapes

#: Style and what its names hold, in the order in which they are tried.
_MARKS = tuple(
    (style, re.compile(mark))
    for style, mark in (
        ('mmpretrain', r'^(module\.)?(backbone|data_preprocessor)\.'),
        ('torchvision', r'(^|\.)features\.|encoder_layer_\d|conv_proj\.|heads\.head\.|trunk_output'),
        ('torchvision', r'Mixed_5b|inception3a'),
        ('timm', r'\.se\.fc1\.|conv1\.6\.|conv_stem|patch_embed\.proj\.'),
        ('timm', r'(^|\.)((blocks|stages)\.\d|layers\.\d+\.blocks|stem\.)'),
        ('torchvision or timm', r'(^|\.)layer1\.0\.conv1\.weight'),  # ResNets have the same names in both
        ('torchvision', r'(^|\.)classifier\.'),
    )
)

#: One name into the common form; applied in this order. Sources: the state dicts of torchvision 0.x (VisionTransformer,
#: DenseNet and its files of 2017), timm 1.0 (VisionTransformer, SEModule) and mmpretrain 1.x (VisionTransformer,
#: SELayer).
_RULES = tuple(
    (re.compile(pattern), common)
    for pattern, common in (
        (r'(denselayer\d+\.(?:norm|conv))\.([12])\.', r'\1\2.'),
        (r'(^|\.)(stages|blocks|layers|stem)_(\d+)\.', r'\1\2.\3.'),  # timm's extractors of features
        (r'(^|\.)class_token$', r'\1cls_token'),
        (r'(^|\.)encoder\.pos_embedding$', r'\1pos_embed'),
        (r'(^|\.)(?:conv_proj|patch_embed\.projection)\.', r'\1patch_embed.proj.'),
        (r'(^|\.)encoder\.layers\.encoder_layer_(\d+)\.', r'\1blocks.\2.'),
        (r'(^|\.)layers\.(\d+)\.(?=ln[12]\.|ffn\.layers\.|attn\.(?:qkv|proj)\.)', r'\1blocks.\2.'),
        (r'(^|\.)blocks\.(\d+)\.ln_?([12])\.', r'\1blocks.\2.norm\3.'),
        (r'(^|\.)(?:encoder\.ln|ln1)\.', r'\1norm.'),
        (r'\.self_attention\.in_proj_(weight|bias)$', r'.attn.qkv.\1'),
        (r'\.self_attention\.out_proj\.', '.attn.proj.'),
        (r'(\.blocks\.\d+|^blocks\.\d+)\.(?:mlp\.0|mlp\.linear_1|ffn\.layers\.0\.0)\.', r'\1.mlp.fc1.'),
        (r'(\.blocks\.\d+|^blocks\.\d+)\.(?:mlp\.3|mlp\.linear_2|ffn\.layers\.1)\.', r'\1.mlp.fc2.'),
        (r'(^|\.)gn(\d?)\.', r'\1bn\2.'),
        (r'\.(?:se_layer|se_module|se)\.(?:conv|fc)([12])\.(?:conv\.)?', r'.se.fc\1.'),
    )
)
_STEM = re.compile(r'(^|.*\.)(conv1|stem)\.6\.weight$')
_DOWNSAMPLE = re.compile(r'(.*\.downsample)\.(\d+)\.(\w+)$')
_WRAPPERS = re.compile(r'^(?:(?:module|model|backbone)\.)*')


def style_of(names: Iterable[str]) -> str:
    """``'mmpretrain'`` (whose names mlcls has too), ``'torchvision'``, ``'timm'``, ``'torchvision or timm'``, else
    ``'plain'``."""
    names = list(names)
    for style, mark in _MARKS:
        if any(mark.search(name) for name in names):
            return style
    return 'plain'


def common_names(shapes: Shapes) -> dict[str, str]:
    """Common form of names, of a whole file or module at a time.

    Args:
        shapes: Names and shapes.

    Returns:
        Name to common name, all of them different: names whose common forms would be equal stay as they are
        (all names, if that makes others equal).
    """
    found = {name: _by_rules(name) for name in shapes}
    for step in (_deep_stems, _downsamples):
        renamed = step({common: shapes[name] for name, common in found.items()})
        found = {name: renamed.get(common, common) for name, common in found.items()}
    taken = Counter(found.values())
    found = {name: common if taken[common] == 1 else name for name, common in found.items()}
    return found if len(set(found.values())) == len(found) else {name: name for name in found}


def _by_rules(name: str) -> str:
    for pattern, common in _RULES:
        name = pattern.sub(common, name)
    return name


def _deep_stems(shapes: Shapes) -> dict[str, str]:
    """Three convolutions in place of one: ``conv1.{0,3,6}`` and ``bn1`` in timm, ``stem.{0,1,2}.{conv,bn}`` in
    mmpretrain, which is the common form."""
    found = {}
    for mark in filter(None, map(_STEM.match, shapes)):
        before, root = mark.groups()
        parts = {f'{before}{root}.{3 * i}.': f'{before}stem.{i}.conv.' for i in range(3)}
        parts |= {f'{before}{root}.{3 * i + 1}.': f'{before}stem.{i}.bn.' for i in range(3)}
        parts[f'{before}bn1.'] = f'{before}stem.2.bn.'
        for name in shapes:
            start = next((start for start in parts if name.startswith(start)), None)
            if start is not None:
                found[name] = parts[start] + name[len(start) :]
    return found


def _downsamples(shapes: Shapes) -> dict[str, str]:
    """A shortcut is a convolution and a normalisation, after a pooling or not: their numbers differ."""
    groups: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name in shapes:
        if mark := _DOWNSAMPLE.match(name):
            groups[mark[1]][mark[2]].append(name)
    found: dict[str, str] = {}
    for root, children in groups.items():
        kinds = {
            number: 'conv' if any(len(shapes[name]) == 4 for name in names) else 'norm'
            for number, names in children.items()
        }
        if sorted(kinds.values()) == ['conv', 'norm']:
            for number, names in children.items():
                found |= {name: f'{root}.{kinds[number]}.{name.rsplit(".", 1)[1]}' for name in names}
    return found


#: What the names of known networks hold, and what fills a backbone from such a file.
_NETWORKS = tuple(
    (re.compile(f'^{pattern}'), words)
    for pattern, words in (
        (r'features\.1\.conv\.0\.0\.weight', "torchvision MobileNetV2: use TorchvisionBackbone(name='mobilenet_v2')"),
        (r'features\.3\.squeeze\.weight', "torchvision SqueezeNet: use TorchvisionBackbone(name='squeezenet1_1')"),
        (r'features\.denseblock1\.', "torchvision DenseNet: use TorchvisionBackbone(name='densenet121') or its like"),
        (r'features\.1\.block\.0\.', "torchvision MobileNetV3: use TorchvisionBackbone(name='mobilenet_v3_large')"),
        (r'features\.1\.0\.layer_scale', "torchvision ConvNeXt: use TorchvisionBackbone(name='convnext_tiny')"),
        (r'features\.1\.0\.attn\.', "torchvision Swin transformer: use TorchvisionBackbone(name='swin_t')"),
        (r'features\.1\.0\.block\.0\.', "torchvision EfficientNet: use TorchvisionBackbone(name='efficientnet_b0')"),
        (r'trunk_output\.', "torchvision RegNet: use TorchvisionBackbone(name='regnet_y_400mf') or its like"),
        (r'inception3a\.', "torchvision GoogLeNet: use TorchvisionBackbone(name='googlenet')"),
        (r'Mixed_5b\.', "torchvision Inception v3: use TorchvisionBackbone(name='inception_v3')"),
        (r'encoder\.layers\.encoder_layer_0\.', "torchvision ViT: use TorchvisionBackbone(name='vit_b_16')"),
        (r'features\.0\.weight', "torchvision AlexNet or VGG: use TorchvisionBackbone(name='vgg16') or its like"),
        (
            r'layers\.0\.blocks\.0\.attn\.',
            "timm Swin: use TimmBackbone(name='swin_tiny_patch4_window7_224')",
        ),
        (r'blocks\.0\.attn\.qkv\.', "timm ViT: use TimmBackbone(name='vit_small_patch16_224') or its like"),
        (r'stages\.0\.blocks\.0\.(conv_dw|gamma)', "timm ConvNeXt: use TimmBackbone(name='convnext_tiny')"),
        (r'conv_stem\.weight', "timm EfficientNet or MobileNetV3: use TimmBackbone(name='efficientnet_b0')"),
        (r'layer1\.0\.', 'ResNet: use ResNet, SEResNet or ResNeXt of its depth'),
    )
)


def looks_like(names: Iterable[str]) -> str:
    """Which network has such names, and the backbone to use for it; empty if none is known."""
    bare = [_WRAPPERS.sub('', name) for name in names]
    for pattern, words in _NETWORKS:
        if any(pattern.match(name) for name in bare):
            return words
    return ''
