"""Panels: generated pictures whose labels depend on each other in a known way.

Each picture has four panels, and each panel shows one of three colours, so blurred by noise that it often fits two of
them. The true colours follow one another around the picture by a known rule (``FIRST``, ``NEXT``), so the neighbours
tell what a panel alone does not. Because all of this is known, so is the best that any classifier can do:
:func:`posterior` gives the probability of every label set, given a picture.

Command line: ``python -m mlcls.datasets.panels data/panels``
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mlcls.datasets.generated import SPLITS, GeneratedSpec, is_made

PLACES = ('top_left', 'top_right', 'bottom_right', 'bottom_left')  # clockwise, the order of the rule
COLOURS = ('red', 'green', 'blue')
CLASSES = tuple(f'{place}_{colour}' for place in PLACES for colour in COLOURS)

#: Probability of each colour in the first panel, and of the next panel's colour given one's own (rows).
FIRST = np.array([0.5, 0.3, 0.2])
NEXT = np.array([[0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1]])
#: Mean of a panel's channels: GREY, and STEP more in the channel of its colour; NOISE is the standard deviation.
GREY, STEP, NOISE = 115.0, 40.0, 40.0

#: Every way to colour four panels, (81, 4), and the labels of each, (81, 12).
COLOURINGS = np.array(list(itertools.product(range(3), repeat=4)))
LABEL_SETS = np.eye(3, dtype=np.int8)[COLOURINGS].reshape(-1, 12)


@dataclass(frozen=True)
class PanelsSpec(GeneratedSpec):
    """What determines the pictures.

    Args: see :class:`GeneratedSpec`; ``image_size`` is even, at least 8.
    """

    num_train: int = 12000
    num_test: int = 4000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_size % 2:
            raise ValueError(f'image_size must be an even number of pixels, got {self.image_size}')


def draw_colours(rng: np.random.Generator, count: int) -> np.ndarray:
    """True colours of the panels of ``count`` pictures, (count, 4) with values 0 to 2."""
    colours = np.empty((count, 4), int)
    colours[:, 0] = rng.choice(3, count, p=FIRST)
    for place in range(1, 4):
        bounds = NEXT[colours[:, place - 1]].cumsum(1)
        colours[:, place] = (rng.random((count, 1)) > bounds[:, :2]).sum(1)
    return colours


def draw_shades(rng: np.random.Generator, colours: np.ndarray) -> np.ndarray:
    """What is painted: uint8 RGB of each panel, (count, 4, 3)."""
    means = GREY + STEP * np.eye(3)[colours]
    return np.clip(np.rint(rng.normal(means, NOISE)), 0, 255).astype(np.uint8)


def posterior(shades: np.ndarray) -> np.ndarray:
    """Probability of each colouring, given what is painted, by Bayes' rule.

    Args:
        shades: RGB of the panels, (N, 4, 3).

    Returns:
        (N, 81) float64 in the order of ``LABEL_SETS``; rows sum to 1.
    """
    means = GREY + STEP * np.eye(3)
    distance = ((shades[:, :, None].astype(np.float64) - means) ** 2).sum(-1)  # (N, 4, 3)
    evidence = -distance / (2 * NOISE**2)
    places = np.arange(4)
    log = np.log(FIRST)[COLOURINGS[:, 0]] + np.log(NEXT)[COLOURINGS[:, :-1], COLOURINGS[:, 1:]].sum(1)
    log = log + evidence[:, places, COLOURINGS].sum(-1)
    probabilities = np.exp(log - log.max(1, keepdims=True))
    return probabilities / probabilities.sum(1, keepdims=True)


def paint(shades: np.ndarray, size: int) -> np.ndarray:
    """A picture of its four shades, uint8 RGB (size, size, 3)."""
    rows = np.stack([shades[[0, 1]], shades[[3, 2]]])  # (2, 2, 3): the rule runs clockwise
    return rows.repeat(size // 2, axis=0).repeat(size // 2, axis=1)


def make_panels(root: str | os.PathLike[str], spec: PanelsSpec | None = None) -> bool:
    """Write the data set below ``root``: ``{train,val,test}/00000.png``, ``{train,val,test}.json``.

    Args:
        root: Folder to write to; made if missing.
        spec: What to make; the default data set if None.

    Returns:
        True if it was made, False if the same data set was already there.
    """
    import cv2

    root, spec = Path(root), spec or PanelsSpec()
    if is_made(root, spec):
        return False
    for number, split in enumerate(SPLITS, start=1):
        (root / split).mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng([spec.seed, number])
        colours = draw_colours(rng, spec.count(split))
        data_list = []
        for index, (own, shades) in enumerate(zip(colours, draw_shades(rng, colours))):
            name = f'{split}/{index:05d}.png'
            _, encoded = cv2.imencode('.png', np.ascontiguousarray(paint(shades, spec.image_size)[..., ::-1]))
            (root / name).write_bytes(encoded.tobytes())
            data_list.append(
                {'img_path': name, 'gt_label': [3 * place + int(colour) for place, colour in enumerate(own)]}
            )
        metainfo = {'dataset': 'Panels', 'classes': list(CLASSES), 'split': split, 'spec': asdict(spec)}
        # The annotation comes last: while it is missing, the part does not count as made.
        (root / f'{split}.json').write_text(json.dumps({'metainfo': metainfo, 'data_list': data_list}))
    return True


def main(argv: list[str] | None = None) -> None:
    """Command line of ``python -m mlcls.datasets.panels``."""
    parser = argparse.ArgumentParser(
        prog='python -m mlcls.datasets.panels', description='Make the generated data set Panels.'
    )
    parser.add_argument('root', type=Path, help='folder to write to, for example data/panels')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args(argv)
    try:
        made = make_panels(args.root, PanelsSpec(seed=args.seed))
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(f'Panels {"made" if made else "is already there"}: {args.root}')


if __name__ == '__main__':
    main()
