"""Small pictures inside the page, as many as there is room for."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np

from mlcls.evaluation.operating_points.points import short
from mlcls.evaluation.result import EvaluationResult

from .source import ReportSource

#: Long side of a thumbnail in pixels, and quality of its JPEG.
SIDE, QUALITY = 112, 72
#: Labels shown with an image.
MAX_LABELS = 12
#: If an image has more unknown labels, only those among the labels shown are listed.
MAX_UNKNOWN = 60
#: Pictures in a report, whatever the room: each is read and decoded.
MAX_PICTURES = 2000


def thumbnail(image: np.ndarray, side: int = SIDE) -> str:
    """A small JPEG of uint8 RGB (H, W, 3) as a data URI; an image that is smaller keeps its size."""
    from PIL import Image

    small = Image.fromarray(image)
    small.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
    buffer = io.BytesIO()
    small.save(buffer, 'JPEG', quality=QUALITY)
    return 'data:image/jpeg;base64,' + base64.b64encode(buffer.getvalue()).decode('ascii')


class Album:
    """The images of a payload; each is in it once, whoever asks for it.

    Args:
        result: The evaluation.
        source: Names and pictures.
        room: Bytes that the images may take as JSON.
    """

    def __init__(self, result: EvaluationResult, source: ReportSource, room: int) -> None:
        self.images: list[dict[str, Any]] = []
        #: Row of each of these.
        self.rows: list[int] = []
        #: Bytes that are left.
        self.room = room
        #: Images without a picture, because theirs cannot be read.
        self.unreadable = 0
        #: Whether an image did not fit any more; from then on none is added.
        self.full = False
        self._result, self._source = result, source
        self._places: dict[int, int] = {}
        self._home = np.asarray(source.thresholds, np.float64).astype(np.float32)

    def place(self, row: int) -> int | None:
        """Number of the image of a row among `images`, into which it is put if need be; None if there is no room."""
        if row in self._places:
            return self._places[row]
        if self.full or len(self.images) >= MAX_PICTURES:
            self.full = True
            return None
        entry = self._entry(row)
        size = len(json.dumps(entry, separators=(',', ':'))) + 1
        if size > self.room:
            self.full = True
            return None
        self.room -= size
        self.unreadable += entry['thumb'] is None
        self._places[row] = len(self.images)
        self.images.append(entry)
        self.rows.append(row)
        return self._places[row]

    def find(self, row: int) -> int | None:
        """Number of the image of a row, if it is among `images`."""
        return self._places.get(row)

    def _entry(self, row: int) -> dict[str, Any]:
        image = self._source.picture(row)
        labels = self._result.targets[row].numpy()
        scores = self._result.scores[row].float().numpy()
        shown = shown_labels(scores, labels, self._home)
        unknown = np.flatnonzero(labels == -1)
        few = unknown if len(unknown) <= MAX_UNKNOWN else np.intersect1d(unknown, shown)
        return {
            'name': str(self._source.names[row]),
            'thumb': None if image is None else thumbnail(image),
            'width': None if image is None else image.shape[1],
            'height': None if image is None else image.shape[0],
            'present': np.flatnonzero(labels == 1).tolist(),
            'unknown': few.tolist(),
            'scores': [[c, short(scores[c])] for c in shown.tolist()],
            'unknown_count': len(unknown),
        }


def shown_labels(scores: np.ndarray, labels: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Numbers of the classes to show with an image, highest score first, at most `MAX_LABELS`.

    Those present come first into the choice, then those decided, then the highest others.

    Args:
        scores: float32 (C,).
        labels: int8 (C,) of 1, 0 and -1.
        thresholds: float32 (C,).
    """
    standing = np.where(labels == 1, 2, np.where(scores >= thresholds, 1, 0))
    chosen = np.lexsort((-scores, -standing))[:MAX_LABELS]
    return chosen[np.argsort(-scores[chosen], kind='stable')]
