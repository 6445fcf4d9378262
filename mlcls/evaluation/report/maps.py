"""Where the network saw the label that a picture is shown under: pictures that lie beside the thumbnails."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

from .galleries import KINDS
from .source import Look, ReportSource
from .thumbnails import thumbnail

#: Maps in a report, whatever the room: each image of theirs goes through the network.
MAX_MAPS = 1000
#: Part of the room for pictures that is kept for maps.
MAPS_SHARE = 0.35
#: Bytes that a map hardly ever needs more of: more of them than fit are not even asked for.
_USUAL = 6000


def add_maps(payload: dict[str, Any], source: ReportSource, rows: Sequence[int], room: int) -> list[str]:
    """Put the maps of what is shown into ``payload['maps']``, as many as there is room for.

    Args:
        payload: With its images, galleries and suspects.
        source: Whose ``look`` makes the maps; each image is asked for once, for all its labels.
        rows: Row of each of the images.
        room: Bytes that the maps may take as JSON.

    Returns:
        Notes about what is left out.
    """
    if source.look is None:
        return []
    wanted = list(dict.fromkeys(_shown(payload)))
    taken = wanted[: min(MAX_MAPS, max(room, 0) // _USUAL)]
    made = _make(source.look, rows, taken)
    pictures: dict[str, dict[str, str]] = {}
    count, room = 0, room - len(json.dumps({'words': source.look_words, 'pictures': {}}))
    for image, c in taken:
        uri = made.get((image, c))
        if uri is None:
            continue
        room -= len(json.dumps({f'{image}': {f'{c}': uri}})) + 1
        if room < 0:
            break
        pictures.setdefault(str(image), {})[str(c)] = uri
        count += 1
    payload['maps'] = {'words': source.look_words, 'pictures': pictures} if count else None
    missing = len(wanted) - count
    if not missing:
        return []
    return [f'Where the network looked is shown for {count:,} of {len(wanted):,} pairs of a picture and a label.']


def _shown(payload: dict[str, Any]) -> Iterator[tuple[int, int]]:
    """What is shown, as numbers of image and class: the first of each gallery, the second, ..., then suspects."""
    galleries = payload['galleries']
    columns = [[(entry[0], int(c)) for entry in galleries[c][kind]] for c in galleries for kind in KINDS]
    for line in zip_longest(*columns):
        yield from (pair for pair in line if pair is not None)
    for entry in payload['suspects']:
        if entry['image'] is not None:
            yield entry['image'], entry['class']


def _make(look: Look, rows: Sequence[int], pairs: Sequence[tuple[int, int]]) -> dict[tuple[int, int], str]:
    """The maps of pairs of an image and a class, image by image, as data URIs."""
    classes: dict[int, list[int]] = {}
    for image, c in pairs:
        classes.setdefault(image, []).append(c)
    made = {}
    for image, columns in classes.items():
        found = look(rows[image], columns)
        if found is not None:
            made.update({(image, c): thumbnail(each) for c, each in zip(columns, found)})
    return made
