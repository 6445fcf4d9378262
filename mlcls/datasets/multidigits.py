"""MultiDigits: a small multi-label data set composed from real scanned digits.

Every picture shows one to five handwritten digits, varied in size, slant, thickness, contrast, blur and background; its
labels are the digits it contains. The glyphs are scikit-learn's 1,797 scans (UCI "Optical Recognition of Handwritten
Digits", CC BY 4.0), split so that no scan serves two parts. Class frequencies fall off as a long tail and some digits
attract or exclude each other, as labels of real photographs do.

Command line: ``python -m mlcls.datasets.multidigits data/multidigits``
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mlcls.datasets.generated import SPLITS, GeneratedSpec, is_made

CLASSES = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')

#: Share of the scans of each digit that serves each part.
SCAN_SHARES = {'train': 0.65, 'val': 0.10, 'test': 0.25}
#: Digits from the most to the least frequent; each is drawn 0.82 times as often as the one before it.
FREQUENCY_ORDER = (1, 3, 0, 7, 2, 4, 9, 5, 8, 6)
TAIL_RATIO = 0.82
#: How much likelier (or less likely) the second digit becomes once the first is in the picture; symmetric.
AFFINITIES = {(3, 8): 4.0, (0, 6): 4.0, (4, 9): 3.0, (1, 7): 2.0, (2, 5): 0.0, (0, 7): 0.3}
#: Probability of 1, 2, ... 5 digits in a picture.
COUNT_PROBABILITIES = (0.22, 0.32, 0.28, 0.12, 0.06)
#: Largest share of a digit's box that another digit's box may cover.
MAX_OVERLAP = 0.15


@dataclass(frozen=True)
class MultiDigitsSpec(GeneratedSpec):
    """What determines the pictures, byte for byte (with one version of the image libraries).

    Args: see :class:`GeneratedSpec`; pictures are of at least 32 pixels.
    """

    least_size = 32

    image_size: int = 64
    num_train: int = 6000
    num_val: int = 1000
    num_test: int = 2000


def split_scans(seed: int) -> dict[str, list[list[int]]]:
    """Share out the scans: for each part, the scan numbers of each digit. No scan is in two parts."""
    from sklearn.datasets import load_digits

    digits = load_digits().target
    rng = np.random.default_rng([seed, 0])
    parts: dict[str, list[list[int]]] = {split: [] for split in SPLITS}
    for digit in range(10):
        scans = rng.permutation(np.flatnonzero(digits == digit))
        bounds = np.cumsum([round(SCAN_SHARES[split] * len(scans)) for split in SPLITS[:-1]])
        for split, chosen in zip(SPLITS, np.split(scans, bounds)):
            parts[split].append(chosen.tolist())
    return parts


def draw_digits(rng: np.random.Generator) -> list[int]:
    """Draw the digits of one picture: a long tail of frequencies, tilted by ``AFFINITIES``."""
    weights = np.empty(10)
    weights[list(FREQUENCY_ORDER)] = TAIL_RATIO ** np.arange(10)
    chosen: list[int] = []
    for _ in range(1 + rng.choice(5, p=COUNT_PROBABILITIES)):
        digit = int(rng.choice(10, p=weights / weights.sum()))
        chosen.append(digit)
        weights[digit] *= 0.25  # the same digit twice happens, but seldom
        for (a, b), factor in AFFINITIES.items():
            if digit in (a, b):
                weights[b if digit == a else a] *= factor
    return chosen


def _smooth_noise(rng: np.random.Generator, size: int, cells: int, channels: int) -> np.ndarray:
    """Smooth random field, float32 (size, size, channels), in about [-1, 1]."""
    import cv2

    coarse = rng.uniform(-1, 1, (cells, cells, channels)).astype(np.float32)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC).reshape(size, size, channels)


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Textured, lit background with a few stray strokes, float32 (size, size, 3) in [0, 255]."""
    import cv2

    base = rng.uniform(30, 225, 3).astype(np.float32)
    image = base + rng.uniform(5, 30) * _smooth_noise(rng, size, int(rng.integers(2, 6)), 3)
    for _ in range(rng.integers(0, 4)):
        start, end = rng.integers(0, size, (2, 2)).tolist()
        colour = np.clip(base + rng.uniform(-45, 45), 0, 255).tolist()
        cv2.line(image, start, end, colour, int(rng.integers(1, 3)), cv2.LINE_AA)
    image += rng.normal(0, rng.uniform(1, 7), image.shape).astype(np.float32)
    return np.clip(image, 0, 255)


def _glyph(rng: np.random.Generator, scan: np.ndarray, size: int) -> np.ndarray:
    """Ink coverage in [0, 1] of a scan drawn at about ``size`` pixels: turned, slanted, bent and thickened."""
    import cv2

    padded = cv2.copyMakeBorder(scan.astype(np.float32) / 16, 3, 3, 3, 3, cv2.BORDER_CONSTANT, value=0)
    side = round(size * 1.4)  # room for the corners of a turned digit
    angle, shear = np.deg2rad(rng.uniform(-15, 15)), rng.uniform(-0.2, 0.2)
    stretch = np.exp(rng.uniform(-0.15, 0.15))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    back = turn @ np.array([[1, shear], [0, 1]]) @ np.diag([stretch, 1 / stretch]) * (8 / size)
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1) - (side - 1) / 2
    source = grid @ back.T + (padded.shape[0] - 1) / 2 + 0.45 * _smooth_noise(rng, side, 4, 2)
    source = source.astype(np.float32)
    ink = cv2.remap(padded, source[..., 0], source[..., 1], cv2.INTER_CUBIC)
    threshold, softness = rng.uniform(0.35, 0.6), rng.uniform(0.12, 0.3)  # pen thickness and edge
    return np.clip((ink - threshold) / softness + 0.5, 0, 1)


def _free_spot(
    rng: np.random.Generator, taken: list[tuple[int, int, int]], size: int, side: int
) -> tuple[int, int] | None:
    """Find a top-left corner whose box covers at most MAX_OVERLAP of every box already taken, or None."""
    for _ in range(40):
        x, y = rng.integers(0, side - size + 1, 2).tolist()
        for other_x, other_y, other in taken:
            width = min(x + size, other_x + other) - max(x, other_x)
            height = min(y + size, other_y + other) - max(y, other_y)
            if width > 0 and height > 0 and width * height > MAX_OVERLAP * min(size, other) ** 2:
                break
        else:
            return x, y
    return None


def _ink_colour(rng: np.random.Generator, under: np.ndarray) -> np.ndarray:
    """A colour whose brightness differs from what it covers by at least 45 of 255."""
    brightness = float(under.mean())
    contrast = rng.uniform(70, 140)
    darker = brightness - contrast >= 0 and (brightness + contrast > 255 or rng.random() < 0.5)
    target = brightness - contrast if darker else min(brightness + contrast, 255)
    return np.clip(target + rng.uniform(-25, 25, 3), 0, 255).astype(np.float32)


def _paste(rng: np.random.Generator, image: np.ndarray, ink: np.ndarray, x: int, y: int, size: int) -> None:
    """Blend a glyph into the picture around the box at (x, y); what overhangs the picture is cut."""
    side, extent = image.shape[0], ink.shape[0]
    left, top = x + (size - extent) // 2, y + (size - extent) // 2
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + extent, side), min(top + extent, side)
    under = image[y0:y1, x0:x1]
    alpha = ink[y0 - top : y1 - top, x0 - left : x1 - left, None]
    under += alpha * (_ink_colour(rng, under) - under)


def compose(
    rng: np.random.Generator, scans: np.ndarray, by_digit: list[list[int]], size: int
) -> tuple[np.ndarray, list[int]]:
    """Compose one picture.

    Args:
        rng: Source of randomness.
        scans: All scans, (1797, 8, 8) with values 0 to 16.
        by_digit: Scan numbers of each digit that may be used.
        size: Side of the picture in pixels.

    Returns:
        The picture, uint8 RGB (size, size, 3), and its sorted labels. A digit for which no room is left is dropped
        from both.
    """
    import cv2

    image = _background(rng, size)
    digits = draw_digits(rng)
    largest = 0.62 if len(digits) < 3 else 0.5
    taken: list[tuple[int, int, int]] = []
    labels: set[int] = set()
    for digit in digits:
        box = round(size * rng.uniform(0.4, largest))
        spot = _free_spot(rng, taken, box, size)
        if spot is None:
            continue
        scan = scans[by_digit[digit][rng.integers(len(by_digit[digit]))]]
        _paste(rng, image, _glyph(rng, scan, box), *spot, box)
        taken.append((*spot, box))
        labels.add(digit)
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.8))
    return np.clip(image + 0.5, 0, 255).astype(np.uint8), sorted(labels)


def make_multidigits(root: str | os.PathLike[str], spec: MultiDigitsSpec | None = None) -> bool:
    """Write the data set below ``root``: ``{train,val,test}/00000.jpg`` and ``{train,val,test}.json``.

    Args:
        root: Folder to write to; made if missing.
        spec: What to make; the default data set if None.

    Returns:
        True if it was made, False if the same data set was already there.
    """
    import cv2
    from sklearn.datasets import load_digits

    root, spec = Path(root), spec or MultiDigitsSpec()
    if is_made(root, spec):
        return False
    scans, parts = load_digits().images, split_scans(spec.seed)
    for split_number, split in enumerate(SPLITS, start=1):
        (root / split).mkdir(parents=True, exist_ok=True)
        data_list = []
        for index in range(spec.count(split)):
            rng = np.random.default_rng([spec.seed, split_number, index])
            image, labels = compose(rng, scans, parts[split], spec.image_size)
            name = f'{split}/{index:05d}.jpg'
            _, encoded = cv2.imencode('.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
            (root / name).write_bytes(encoded.tobytes())
            data_list.append({'img_path': name, 'gt_label': labels})
        metainfo = {'dataset': 'MultiDigits', 'classes': list(CLASSES), 'split': split, 'spec': asdict(spec)}
        # The annotation comes last: while it is missing, the part does not count as made.
        (root / f'{split}.json').write_text(json.dumps({'metainfo': metainfo, 'data_list': data_list}, indent=1))
    return True


def main(argv: list[str] | None = None) -> None:
    """Command line of ``python -m mlcls.datasets.multidigits``."""
    default = MultiDigitsSpec()
    parser = argparse.ArgumentParser(
        prog='python -m mlcls.datasets.multidigits', description='Make the built-in data set MultiDigits.'
    )
    parser.add_argument('root', help='folder to write to, for example data/multidigits')
    parser.add_argument('--seed', type=int, default=default.seed)
    parser.add_argument('--image-size', type=int, default=default.image_size, help='side of a picture in pixels')
    for split in SPLITS:
        parser.add_argument(
            f'--num-{split}', type=int, default=default.count(split), help=f'number of {split} pictures'
        )
    args = parser.parse_args(argv)
    try:
        spec = MultiDigitsSpec(args.seed, args.image_size, args.num_train, args.num_val, args.num_test)
    except ValueError as error:
        parser.error(str(error))
    made = make_multidigits(args.root, spec)
    counts = ', '.join(f'{spec.count(split)} {split}' for split in SPLITS)
    print(f'MultiDigits {"made" if made else "already there"}: {args.root} ({counts} pictures of {spec.image_size} px)')


if __name__ == '__main__':
    main()
