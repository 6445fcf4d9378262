"""Contact sheets of class activation maps: a row an image, a tile a label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlcls.apis.sheets import (
    ABOUT,
    GAP,
    INK,
    LABEL,
    LINE,
    MARGIN,
    PALE,
    PAPER,
    TITLE,
    fit,
    font,
    shorten,
    shown,
    text_width,
)
from mlcls.fileio import write_atomic

if TYPE_CHECKING:
    from PIL import Image

#: Images on a page.
ROWS = 8
#: Room, at least, for the words below a tile.
NARROWEST = 192
#: How much of the colours covers the picture where the map is 0 and where it is 1.
_COVER = 0.25, 0.7
#: What became of a label, in words, and their colours.
VERDICTS = {
    'true positive': '#1a7f45',
    'false positive': '#c0352b',
    'missed': '#b3541e',
    'decided': '#0b62a8',
    'highest, not decided': PALE,
}


@dataclass(frozen=True)
class Tile:
    """The map of one label.

    Args:
        label: Name of the class.
        score: In [0, 1].
        threshold: At which the class is decided.
        verdict: One of `VERDICTS`.
        map: float32 (h, w) in [0, 1].
    """

    label: str
    score: float
    threshold: float
    verdict: str
    map: np.ndarray


@dataclass(frozen=True)
class MapRow:
    """One image.

    Args:
        name: What it is called.
        picture: What the network sees, uint8 RGB (H, W, 3).
        truth: Names of the labels it has, or None where they are not known.
        tiles: Its labels.
    """

    name: str
    picture: np.ndarray
    truth: Sequence[str] | None
    tiles: Sequence[Tile]


def overlay(picture: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A picture under the colours of a map: dark where the label is not seen, bright where it is.

    Args:
        picture: uint8 RGB (H, W, 3).
        values: float (h, w) in [0, 1]; spread over the whole picture, bilinear.

    Returns:
        uint8 RGB (H, W, 3).
    """
    import torch
    from matplotlib import colormaps

    wanted = torch.from_numpy(np.array(values, np.float32))[None, None]
    spread = torch.nn.functional.interpolate(wanted, picture.shape[:2], mode='bilinear', align_corners=False)
    level = spread[0, 0].clamp(0, 1).numpy()
    colors = np.asarray(colormaps['inferno'](level))[..., :3] * 255
    cover = (_COVER[0] + (_COVER[1] - _COVER[0]) * level)[..., None]
    # Half way to grey: the picture's own colours must not be taken for those of the map.
    faded = 0.5 * picture + 0.5 * picture.mean(axis=2, keepdims=True)
    return np.clip(faded * (1 - cover) + colors * cover + 0.5, 0, 255).astype(np.uint8)


def write_sheets(folder: Path, title: str, about: str, rows: Sequence[MapRow]) -> list[Path]:
    """Write the pages ``cam_1.png``, ``cam_2.png`` and so on; their paths."""
    pages = [rows[start : start + ROWS] for start in range(0, len(rows), ROWS)]
    paths = []
    for number, page in enumerate(pages, start=1):
        heading = title if len(pages) == 1 else f'{title} ({number} of {len(pages)})'
        image = draw_rows(heading, about, page)
        paths.append(folder / f'cam_{number}.png')
        write_atomic(paths[-1], lambda file, image=image: image.save(file, 'PNG'))  # type: ignore[misc]
    return paths


def write_singles(folder: Path, rows: Sequence[MapRow]) -> list[Path]:
    """Write each map over its picture as one PNG; their paths, numbered by image: ``001_fish.png``."""
    from PIL import Image

    paths = []
    for number, row in enumerate(rows, start=1):
        picture = np.asarray(fit(row.picture))
        for tile in row.tiles:
            word = ''.join(letter if letter.isalnum() else '_' for letter in tile.label)[:60]
            path = folder / f'{number:03d}_{word}.png'
            image = Image.fromarray(overlay(picture, tile.map))
            write_atomic(path, lambda file, image=image: image.save(file, 'PNG'))  # type: ignore[misc]
            paths.append(path)
    return paths


def draw_rows(title: str, about: str, rows: Sequence[MapRow]) -> Image.Image:
    """Draw one page."""
    from PIL import Image, ImageDraw

    pictures = [fit(row.picture) for row in rows]
    step = max(NARROWEST, *(picture.width for picture in pictures)) + GAP
    heights = [picture.height + 3 * LINE + GAP for picture in pictures]
    columns = 1 + max(len(row.tiles) for row in rows)
    top = MARGIN + 56
    title, about = shown(title), shown(about)
    inner = max(columns * step - GAP, text_width(about, ABOUT), text_width(title, TITLE))
    page = Image.new('RGB', (inner + 2 * MARGIN, top + sum(heights) - GAP + MARGIN), PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((MARGIN, MARGIN - 6), title, INK, font(TITLE))
    draw.text((MARGIN, MARGIN + 24), about, PALE, font(ABOUT))
    y = top
    for row, picture, height in zip(rows, pictures, heights):
        page.paste(picture, (MARGIN, y))
        below, width = y + picture.height + 4, step - GAP
        _write(draw, (MARGIN, below), shorten(shown(Path(row.name).name), width), PALE)
        _write(draw, (MARGIN, below + LINE), shorten(shown(_truth(row)), width), INK)
        for number, tile in enumerate(row.tiles, start=1):
            x = MARGIN + number * step
            page.paste(Image.fromarray(overlay(np.asarray(picture), tile.map)), (x, y))
            _caption(draw, tile, x, below, width)
        y += height
    return page


def _truth(row: MapRow) -> str:
    if row.truth is None:
        return 'labels not known'
    return ', '.join(row.truth) or 'no label'


def _caption(draw: Any, tile: Tile, x: int, y: int, width: int) -> None:
    score = f' {tile.score:.2f}'
    label = shorten(shown(tile.label), width - text_width(score))
    _write(draw, (x, y), label, INK)
    _write(draw, (x + text_width(label), y), score, PALE)
    words = tile.verdict if tile.map.any() else f'{tile.verdict}, empty map'
    _write(draw, (x, y + LINE), shorten(words, width), VERDICTS[tile.verdict])


def _write(draw: Any, place: tuple[int, int], text: str, ink: str) -> None:
    draw.text(place, text, ink, font(LABEL))
