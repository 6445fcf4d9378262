"""Contact sheets: images with their labels, as a PNG or as one HTML page."""

from __future__ import annotations

import base64
import functools
import html
import importlib.util
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlcls.fileio import write_atomic

if TYPE_CHECKING:
    from PIL import Image

#: Sides of the shown pictures: small ones are enlarged by a whole factor, large ones reduced.
SMALLEST, LARGEST = 192, 288
#: Room, at least, for the labels of a picture.
NARROWEST = 120
#: Lines of labels below a picture; what does not fit is counted.
MAX_LINES = 4
#: Labels of an image on an HTML page.
MAX_LABELS = 40
GAP, MARGIN, LINE = 14, 24, 19
LABEL, ABOUT, TITLE = 14, 13, 20
PAPER, INK, PALE = '#ffffff', '#1d2330', '#7a8294'
#: Colours of a label that is present, soft or unknown.
PRESENT_INK, SOFT_INK, UNKNOWN_INK = '#1d2330', '#0b62a8', '#b3541e'


@dataclass(frozen=True)
class Cell:
    """One image of a sheet.

    Args:
        picture: What the network sees, uint8 RGB (H, W, 3).
        labels: (name, value) in the order in which they are shown: 1 is present, in (0, 1) soft, below 0 unknown.
        name: What it is called.
        original: The image before augmentation, uint8 RGB of any size, or None.
    """

    picture: np.ndarray
    labels: Sequence[tuple[str, float]]
    name: str = ''
    original: np.ndarray | None = None


@dataclass(frozen=True)
class Sheet:
    """A title, a line about what is shown, and the images."""

    title: str
    about: str
    cells: Sequence[Cell]


def label_text(name: str, value: float) -> str:
    """A label as a word: ``cat``, soft ``cat .63``, unknown ``cat?``."""
    if value < 0:
        return f'{name}?'
    if value < 1:
        return f'{name} {min(max(value, 0.01), 0.99):.2f}'.replace(' 0.', ' .')
    return name


def label_color(value: float) -> str:
    """Its colour."""
    return UNKNOWN_INK if value < 0 else PRESENT_INK if value == 1 else SOFT_INK


# Drawing ------------------------------------------------------------------------------------------------------------


def write_png(path: Path, sheet: Sheet) -> None:
    """Write a sheet as one picture."""
    image = draw_sheet(sheet)
    write_atomic(path, lambda file: image.save(file, 'PNG'))


def draw_sheet(sheet: Sheet) -> Image.Image:
    """Draw a sheet: the pictures in rows, their labels below them."""
    from PIL import Image, ImageDraw

    tiles = [_tile(cell) for cell in sheet.cells]
    width = max(NARROWEST, *(tile.width for tile in tiles))
    height = max(tile.height for tile in tiles)
    captions = [_wrap(cell.labels, width) for cell in sheet.cells]
    step_x, step_y = width + GAP, height + 6 + LINE * max(len(lines) for lines in captions) + GAP
    columns = min(len(tiles), max(round(math.sqrt(len(tiles) * 1.5 * step_y / step_x)), 1))
    rows = -(-len(tiles) // columns)
    top = MARGIN + 56
    title, about = shown(sheet.title), shown(sheet.about)
    inner = max(columns * step_x - GAP, text_width(about, ABOUT), text_width(title, TITLE))
    page = Image.new('RGB', (inner + 2 * MARGIN, top + rows * step_y - GAP + MARGIN), PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((MARGIN, MARGIN - 6), title, INK, font(TITLE))
    draw.text((MARGIN, MARGIN + 24), about, PALE, font(ABOUT))
    for number, (tile, lines) in enumerate(zip(tiles, captions)):
        x, y = MARGIN + number % columns * step_x, top + number // columns * step_y
        page.paste(tile, (x, y))
        for row, words in enumerate(lines):
            _write_line(draw, words, x, y + height + 6 + row * LINE)
    return page


def _write_line(draw: Any, words: Sequence[tuple[str, str]], x: int, y: int) -> None:
    for text, ink in words:
        draw.text((x, y), text, ink, font(LABEL))
        x += text_width(text)


def _tile(cell: Cell) -> Image.Image:
    """The picture at the size at which it is shown and, to its left, the original at the same height."""
    from PIL import Image

    picture = fit(cell.picture)
    if cell.original is None:
        return picture
    original = Image.fromarray(cell.original)
    room = max(picture.width, SMALLEST)
    original.thumbnail((room, picture.height), Image.Resampling.LANCZOS)
    tile = Image.new('RGB', (room + 4 + picture.width, picture.height), '#eceef2')
    tile.paste(original, ((room - original.width) // 2, (picture.height - original.height) // 2))
    tile.paste(picture, (tile.width - picture.width, 0))
    return tile


def reduced(picture: np.ndarray) -> np.ndarray:
    """A picture, uint8 RGB (H, W, 3), at the largest size that is shown, or as it is."""
    from PIL import Image

    if max(picture.shape[:2]) <= LARGEST:
        return picture
    image = Image.fromarray(np.ascontiguousarray(picture))
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    return np.asarray(image)


def fit(picture: np.ndarray) -> Image.Image:
    """A picture, uint8 RGB (H, W, 3), at the size at which it is shown; small ones keep their pixels."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(reduced(picture)))
    factor = max(SMALLEST // max(image.size), 1)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)  # pixels stay as is


def _wrap(labels: Sequence[tuple[str, float]], width: int) -> list[list[tuple[str, str]]]:
    """Lines of (text, colour) that fit into a width; the last one says how many labels are left out."""
    if not labels:
        return [[('no label', PALE)]]
    lines: list[list[tuple[str, str]]] = [[]]
    used = 0
    for number, (name, value) in enumerate(labels):
        left = len(labels) - number - 1
        text = label_text(shown(name), value) + (', ' if left else '')
        if lines[-1] and used + text_width(text) > _room(len(lines), left, width):
            if len(lines) == MAX_LINES:
                lines[-1].append((f'+{left + 1}', PALE))
                break
            lines.append([])
            used = 0
        text = shorten(text, _room(len(lines), left, width))
        lines[-1].append((text, label_color(value)))
        used += text_width(text)
    return lines


def _room(line: int, left: int, width: int) -> int:
    """Width of a line; the last one needs some for the number of labels that are left out."""
    return width - (text_width(f'+{left}') if line == MAX_LINES and left else 0)


def shorten(text: str, width: int) -> str:
    """A name that is too long for a line, without its middle."""
    keep = len(text)
    short = text
    while text_width(short) > width and keep > 6:
        keep -= 1
        short = f'{text[: -(-keep // 2)]}…{text[len(text) - keep // 2 :]}'
    return short


# Letters ------------------------------------------------------------------------------------------------------------


@functools.cache
def font(size: int) -> Any:
    """DejaVu Sans, which matplotlib (mmengine needs it) brings along: Latin, Greek, Cyrillic; or Pillow's own font."""
    from PIL import ImageFont

    found = importlib.util.find_spec('matplotlib')
    if found is not None and found.origin is not None:
        path = Path(found.origin).parent / 'mpl-data/fonts/ttf/DejaVuSans.ttf'
        if path.is_file():
            return ImageFont.truetype(str(path), size)
    return ImageFont.load_default(size)


@functools.cache
def _is_drawable(letter: str) -> bool:
    return letter == ' ' or bytes(font(LABEL).getmask(letter)) != bytes(font(LABEL).getmask('\uffff'))


def shown(text: str) -> str:
    """A text with the letters that the font does not have as their escapes, such as ``\\u732b``."""
    return ''.join(
        letter if letter.isprintable() and _is_drawable(letter) else letter.encode('unicode_escape').decode()
        for letter in text
    )


def text_width(text: str, size: int = LABEL) -> int:
    """Pixels that a text takes."""
    return math.ceil(font(size).getlength(text))


# Pages --------------------------------------------------------------------------------------------------------------

_STYLE = f"""
body {{ font: 14px/1.45 system-ui, sans-serif; margin: 24px; color: {INK}; background: {PAPER}; }}
h1 {{ font-size: 20px; margin: 0 0 4px; }} p {{ color: {PALE}; margin: 0 0 20px; }}
main {{ display: flex; flex-wrap: wrap; gap: 18px {GAP}px; align-items: flex-start; }}
figure {{ margin: 0; display: table; }} figure div {{ display: flex; gap: 4px; }}
.small {{ image-rendering: pixelated; }}
figcaption {{ display: table-caption; caption-side: bottom; margin-top: 6px; overflow-wrap: anywhere; }}
.present {{ color: {PRESENT_INK}; }} .soft {{ color: {SOFT_INK}; }} .unknown {{ color: {UNKNOWN_INK}; }}
.pale {{ color: {PALE}; }}
"""


def write_html(path: Path, sheet: Sheet) -> None:
    """Write a sheet as one page, its pictures inside."""
    write_atomic(path, lambda file: file.write(draw_page(sheet).encode()))


def draw_page(sheet: Sheet) -> str:
    """The page."""
    figures = '\n'.join(map(_figure, sheet.cells))
    title, about = html.escape(sheet.title), html.escape(sheet.about)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<style>{_STYLE}</style></head>\n<body><h1>{title}</h1><p>{about}</p>\n<main>\n{figures}\n</main></body></html>\n'
    )


def _figure(cell: Cell) -> str:
    images = _image(cell.picture, cell.name)
    if cell.original is not None:
        images = _image(reduced(cell.original), f'{cell.name} as loaded') + images
    words = [
        f'<span class="{"unknown" if value < 0 else "present" if value == 1 else "soft"}">'
        f'{html.escape(label_text(name, value)).replace(" ", "&nbsp;")}</span>'
        for name, value in cell.labels[:MAX_LABELS]
    ] or ['<span class="pale">no label</span>']
    if len(cell.labels) > MAX_LABELS:
        rest = html.escape(', '.join(label_text(name, value) for name, value in cell.labels[MAX_LABELS:]))
        words.append(f'<span class="pale" title="{rest}">+{len(cell.labels) - MAX_LABELS}</span>')
    return f'<figure><div>{images}</div><figcaption>{", ".join(words)}</figcaption></figure>'


def _image(picture: np.ndarray, name: str) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, 'PNG')
    data = base64.b64encode(buffer.getvalue()).decode()
    height, width = picture.shape[:2]
    factor = max(SMALLEST // max(height, width), 1)
    kind = ' class="small"' if factor > 1 else ''
    name = html.escape(name)
    size = f'width="{width * factor}" height="{height * factor}"'
    return f'<img{kind} {size} alt="{name}" title="{name}" src="data:image/png;base64,{data}">'


#: What writes a sheet, by the ending of the file's name.
WRITERS: dict[str, Callable[[Path, Sheet], None]] = {'.png': write_png, '.html': write_html}
