"""Photograph-like JPEGs for the benchmark of loading: texture at all scales, edges, moderate colours, a little noise.

A JPEG of 500 x 375 pixels at quality 90 with 4:2:0 chroma comes to about 50 kB, as photographs in data sets do; noise
would take thrice that, and flat areas a tenth, and both would shift the time between the steps of decoding.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import simplejpeg

QUALITY = 90
CLASSES = 20


def make_picture(width: int, height: int, seed: int) -> np.ndarray:
    """One picture, uint8 RGB (height, width, 3)."""
    rng = np.random.default_rng([width, seed])
    picture = np.zeros((height, width, 3), np.float32)
    cell = 2
    while cell < max(width, height):  # the spectrum of photographs falls off about as 1 / frequency
        rows, columns = max(height // cell, 2) + 2, max(width // cell, 2) + 2
        grey = rng.standard_normal((rows, columns, 1), np.float32)
        colour = rng.standard_normal((rows, columns, 3), np.float32)
        layer = cv2.resize(grey + 0.35 * colour, (width, height), interpolation=cv2.INTER_CUBIC)
        picture += layer * cell**0.4
        cell *= 2
    picture = (picture - picture.mean()) / picture.std() * 55 + 118
    for _ in range(8):
        centre = int(rng.integers(width)), int(rng.integers(height))
        axes = int(rng.integers(width // 20, width // 5)), int(rng.integers(height // 20, height // 5))
        mask = np.zeros((height, width), np.uint8)
        cv2.ellipse(mask, centre, axes, float(rng.integers(180)), 0, 360, 1, -1)
        picture[mask > 0] = picture[mask > 0] * 0.5 + rng.integers(0, 128, 3)
    picture += rng.standard_normal((height, width, 1), np.float32) * 2
    return np.clip(picture, 0, 255).astype(np.uint8)


def write_pictures(folder: Path, width: int, height: int, count: int) -> Path:
    """Write pictures and an annotation file about them into a folder, and give the path of the latter."""
    folder.mkdir(parents=True)
    rng, listed = np.random.default_rng(0), []
    for number in range(count):
        data = simplejpeg.encode_jpeg(make_picture(width, height, number), QUALITY, 'RGB', '420')
        (folder / f'{number}.jpg').write_bytes(data)
        listed.append({'img_path': f'{number}.jpg', 'gt_label': rng.choice(CLASSES, 3, replace=False).tolist()})
    path = folder / 'annotations.json'
    classes = [f'class {number}' for number in range(CLASSES)]
    path.write_text(json.dumps({'metainfo': {'classes': classes}, 'data_list': listed}))
    return path
