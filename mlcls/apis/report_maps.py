"""Where a checkpoint saw the labels of the images that a report shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlcls.apis.cam_sheets import overlay
from mlcls.apis.cams import Viewer, pixels_of
from mlcls.apis.scoring import Member
from mlcls.datasets import innermost
from mlcls.errors import ConfigError, DataError, did_you_mean
from mlcls.evaluation.report.thumbnails import SIDE
from mlcls.models.cam import METHODS


def check_flags(method: str | None, report: str | Path | None) -> None:
    """Refuse what ``--cam`` cannot do, before anything is read.

    Raises:
        ConfigError: No such method, or no report to show its maps.
    """
    if method is None:
        return
    if method not in METHODS:
        raise ConfigError(f"--cam: there is no '{method}'{did_you_mean(method, METHODS)}")
    if report is None:
        raise ConfigError('--cam shows its maps in the report; add --report DIR')


class ReportMaps:
    """Pictures of what the network gets, under the colours of the maps of labels.

    Of several checkpoints the first one's are shown: maps of other networks are no mean of each other.

    Args:
        members: The checkpoints.
        method: One of ``mlcls.models.cam.METHODS``.

    Raises:
        ConfigError: The network has no maps of this kind, its preprocessor cannot give pictures back, or the dataset
            has no image of a number.
    """

    def __init__(self, members: Sequence[Member], method: str) -> None:
        self._member, self._number = members[0], len(members)
        self._dataset: Any = self._member.loop.dataloader.dataset
        inner = innermost(self._dataset)
        if not hasattr(inner, 'load'):
            raise ConfigError(f'--cam: {type(inner).__name__} does not give its images by number; leave --cam out')
        try:
            self._viewer = Viewer(self._member, method)
            self._try()
        except ConfigError as error:
            raise ConfigError(f'--cam: {error}') from error

    @property
    def words(self) -> str:
        """How the maps were made."""
        whose = f' of {self._member.path}, the first of {self._number} checkpoints' if self._number > 1 else ''
        plain = '' if self._member.loop.tta_words == 'none' else ', without test-time augmentation'
        return (
            f'{self._viewer.words}{whose}{plain}: over what the network gets, bright where it sees the label that the '
            'picture is shown under. All dark: nothing in the picture speaks for it.'
        )

    def pictures(self, row: int, labels: Sequence[int]) -> list[np.ndarray] | None:
        """One for each label, uint8 RGB, `SIDE` pixels on the long side.

        Args:
            row: Position in the dataset.
            labels: Numbers of classes.

        Returns:
            None where the image cannot be used.
        """
        from PIL import Image

        try:
            sample = self._dataset[row]
        except DataError:
            return None
        if sample is None:
            return None
        seen, picture = self._viewer.look(pixels_of(sample))
        image = Image.fromarray(picture)
        share = SIDE / max(image.size)
        small = image.resize((max(1, round(image.width * share)), max(1, round(image.height * share))))
        return [overlay(np.asarray(small), values) for values in self._viewer.maps(seen, labels)]

    def _try(self) -> None:
        """Make a map of the first image: what cannot be shown must not come out after all is scored."""
        if len(self._dataset):
            self.pictures(0, [0])
