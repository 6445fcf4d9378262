"""What the loader is measured against: the pipelines people run, and a loop with nothing in it but the work.

mmpretrain is not needed. Its training pipeline consists of mmcv's `LoadImageFromFile` and `RandomFlip`, which are used
here, and of `RandomResizedCrop` and `PackInputs`, which are written again below with the functions that they call
(`mmcv.imcrop`, `mmcv.imresize`, mmengine's data element); as is the way of mmengine's dataset from index to sample.
"""

from __future__ import annotations

import io
import math
from typing import Any

import cv2
import mmcv
import numpy as np
import simplejpeg
import torch
from mmcv import transforms as mmcv_transforms
from mmengine.structures import BaseDataElement
from PIL import Image
from torch.utils.data import Dataset
from torchvision.transforms import v2

SIDE = 224
META_KEYS = ('sample_idx', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'flip_direction')


class MMCropping:
    """mmpretrain's RandomResizedCrop: the crop is drawn from numpy's global generator."""

    def __init__(self, scale: tuple[float, float]) -> None:
        self.scale = scale

    def draw(self, height: int, width: int) -> tuple[int, int, int, int]:
        """(top, left, height, width)."""
        for _ in range(10):
            area = np.random.uniform(*self.scale) * height * width
            ratio = math.exp(np.random.uniform(math.log(3 / 4), math.log(4 / 3)))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                return np.random.randint(0, height - h + 1), np.random.randint(0, width - w + 1), h, w
        side = min(height, width)
        return (height - side) // 2, (width - side) // 2, side, side

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        image = results['img']
        top, left, height, width = self.draw(*image.shape[:2])
        image = mmcv.imcrop(image, np.array([left, top, left + width - 1, top + height - 1]))
        results['img'] = mmcv.imresize(image, (SIDE, SIDE), interpolation='bilinear', backend='cv2')
        results['img_shape'] = results['img'].shape
        return results


def mm_pack(results: dict[str, Any]) -> dict[str, Any]:
    """mmpretrain's PackInputs: a contiguous (3, H, W) tensor and a data sample with label and meta data."""
    sample = BaseDataElement()
    sample.set_field(torch.as_tensor(results['gt_label']), 'gt_label')
    for key in META_KEYS:
        if key in results:
            sample.set_field(results[key], key, field_type='metainfo')
    image = torch.from_numpy(np.ascontiguousarray(results['img']))
    return {'inputs': image.permute(2, 0, 1).contiguous(), 'data_samples': sample}


class MMDataset(Dataset):
    """mmcv's transforms as mmpretrain arranges them."""

    def __init__(self, paths: list[str], labels: list[list[int]], scale: tuple[float, float]) -> None:
        self.paths, self.labels = paths, labels
        self.pipeline = [
            mmcv_transforms.LoadImageFromFile(imdecode_backend='cv2'),
            MMCropping(scale),
            mmcv_transforms.RandomFlip(prob=0.5, direction='horizontal'),
            mm_pack,
        ]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        number = int(index)
        results: Any = {'img_path': self.paths[number], 'gt_label': self.labels[number], 'sample_idx': number}
        for transform in self.pipeline:
            results = transform(results)
        return results


class TorchvisionDataset(Dataset):
    """Pillow and torchvision's v2 transforms, as in most scripts; the image stays uint8."""

    def __init__(self, paths: list[str], labels: list[list[int]], scale: tuple[float, float]) -> None:
        self.paths, self.labels = paths, labels
        self.pipeline = v2.Compose(
            [v2.RandomResizedCrop(SIDE, scale, antialias=True), v2.RandomHorizontalFlip(), v2.PILToTensor()]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        with open(self.paths[int(index)], 'rb') as file:
            image = Image.open(io.BytesIO(file.read())).convert('RGB')
        target = torch.zeros(20, dtype=torch.int8)
        target[self.labels[int(index)]] = 1
        return self.pipeline(image), target


class Limit:
    """Read, decode whole with the fast transform, crop, resize, flip into a buffer: nothing else, no errors caught."""

    def __init__(self, paths: list[str], scale: tuple[float, float]) -> None:
        self.paths, self.scale = paths, scale
        self.rng = np.random.default_rng(0)
        self.out = np.empty((SIDE, SIDE, 3), np.uint8)
        self.buffer = np.empty(3 * 2048 * 1536, np.uint8)
        self.ratios = math.log(3 / 4), math.log(4 / 3)

    def __call__(self, index: int) -> None:
        random = self.rng.random
        with open(self.paths[index], 'rb', buffering=0) as file:
            data = file.read()
        image = simplejpeg.decode_jpeg(data, 'RGB', fastdct=True, buffer=self.buffer)
        height, width = image.shape[:2]
        while True:
            area = height * width * (self.scale[0] + random() * (self.scale[1] - self.scale[0]))
            ratio = math.exp(self.ratios[0] + random() * (self.ratios[1] - self.ratios[0]))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if w <= width and h <= height:
                break
        top, left = int(random() * (height - h + 1)), int(random() * (width - w + 1))
        cv2.resize(image[top : top + h, left : left + w], (SIDE, SIDE), dst=self.out)
        if random() < 0.5:
            cv2.flip(self.out, 1, dst=self.out)
