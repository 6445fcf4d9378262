"""Where a network sees each label: class activation maps of a checkpoint, over pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mlcls.apis.cam_sheets import MapRow, Tile, write_sheets, write_singles
from mlcls.apis.results import thresholds_in_use
from mlcls.apis.scoring import Member, Request, opened
from mlcls.apis.thresholds import Choice, choose
from mlcls.datasets import innermost
from mlcls.engine.checkpoint import unwrap
from mlcls.errors import ConfigError, DataError, did_you_mean
from mlcls.models.cam import METHODS, Seen, activation_maps, look, method_for, to_unit
from mlcls.structures import PRESENT, UNKNOWN, Batch


@dataclass(frozen=True)
class CamFlags:
    """What to show.

    Args:
        images: Image files, or names as in the annotations; None takes ``number`` images of the test data.
        number: How many images, evenly spread over the test data; at least 1.
        method: One of ``mlcls.models.cam.METHODS``.
        top: Decided labels shown of an image, those of highest score, and as many of the missed ones; at least 1.
        thresholds: See `mlcls.apis.thresholds.choose`.
        out: Folder; ``cam`` beside the checkpoint if None.
        singles: Write each map as a picture of its own, too.

    Raises:
        ConfigError: A value outside these.
    """

    images: Sequence[str] | None = None
    number: int = 16
    method: str = 'auto'
    top: int = 5
    thresholds: str | None = None
    out: str | Path | None = None
    singles: bool = False

    def __post_init__(self) -> None:
        for name, value in (('num', self.number), ('top', self.top)):
            if value < 1:
                raise ConfigError(f'--{name} must be at least 1, got {value}')
        if self.method not in METHODS:
            raise ConfigError(f"--method: there is no '{self.method}'{did_you_mean(self.method, METHODS)}")
        if self.out is not None and Path(self.out).is_file():
            raise ConfigError(f'--out: {self.out} is a file; name a folder')


def visualize_cam(
    checkpoint: str | Path,
    config: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    flags: CamFlags = CamFlags(),
) -> list[Path]:
    """Draw, for each label that a checkpoint decides in a picture, where it sees it; print where the sheets are.

    Shown are the decided labels (score at or above the threshold), highest first, then those missed; where there are
    none, the label of highest score.

    Args:
        checkpoint: A checkpoint file or a work folder (its best checkpoint).
        config: Config file; None takes the resolved config in the checkpoint, as data: no Python file is executed.
        options: Overrides of single settings, dotted keys to values.
        flags: What to show.

    Returns:
        The sheets.

    Raises:
        UserError: The checkpoint, the config, the data, the thresholds or an image cannot be used.
    """
    with opened(Request([checkpoint], config, options)) as members:
        member = members[0]
        viewer = Viewer(member, flags.method)
        choice = choose(flags.thresholds, members)
        rows = [_row_of(viewer, member, choice, image, flags.top) for image in _find_images(member, flags)]
    folder = Path(flags.out) if flags.out is not None else member.path.parent / 'cam'
    about = f'{viewer.words}, over what the network gets; {_threshold_words(choice)}'
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sheets = write_sheets(folder, f'{member.path.parent.name}: {len(rows)} images', about, rows)
        if flags.singles:
            singles = folder / 'singles'
            singles.mkdir(exist_ok=True)
            write_singles(singles, rows)
    except OSError as error:
        raise ConfigError(f'--out: {error.filename or folder} cannot be written ({error.strerror})') from error
    print(f'{viewer.words}: {sum(len(row.tiles) for row in rows)} maps of {len(rows)} images')
    for sheet in sheets:
        print(f'sheet: {sheet}')
    if flags.singles:
        print(f'single pictures: {singles}')
    return sheets


@dataclass(frozen=True, eq=False)
class _Image:
    name: str
    pixels: torch.Tensor
    targets: np.ndarray | None


class Viewer:
    """Makes maps of single images.

    Args:
        member: The checkpoint.
        method: One of ``mlcls.models.cam.METHODS``.

    Raises:
        ConfigError: The network has no maps of this kind, or its preprocessor cannot give pictures back.
    """

    def __init__(self, member: Member, method: str = 'auto') -> None:
        self.model: Any = unwrap(member.runner.model).eval()
        self.method = method_for(self.model, method)
        self._preprocessor: Any = self.model.data_preprocessor
        if not hasattr(self._preprocessor, 'restore'):
            raise ConfigError(
                f'{type(self._preprocessor).__name__} has no restore(images), by which to get back from the network '
                'to pictures'
            )

    @property
    def words(self) -> str:
        """The method, as it is written."""
        names = {'gradcam': 'Grad-CAM', 'gradcam++': 'Grad-CAM++', 'layercam': 'LayerCAM'}
        return names.get(self.method, f'maps of {type(self.model.head).__name__}')

    def look(self, pixels: torch.Tensor) -> tuple[Seen, np.ndarray]:
        """Run the network on one image, uint8 (3, H, W).

        Returns:
            What it makes of it, and what it gets as a picture: uint8 RGB (H, W, 3).
        """
        nothing = torch.zeros(1, 1, dtype=torch.int8), torch.zeros(1, dtype=torch.int64)
        batch = self._preprocessor(Batch(inputs=pixels[None], targets=nothing[0], index=nothing[1]))
        picture = self._preprocessor.restore(batch['inputs'])[0].permute(1, 2, 0)
        return look(self.model, batch['inputs']), np.ascontiguousarray(picture.cpu().numpy())

    def maps(self, seen: Seen, labels: Sequence[int]) -> np.ndarray:
        """Maps of labels in one image, float32 (labels, h, w) in [0, 1]."""
        found = activation_maps(self.model, seen, [0] * len(labels), labels, self.method)
        return to_unit(found, own_zero=self.method != 'attention').cpu().numpy()


def _row_of(viewer: Viewer, member: Member, choice: Choice, image: _Image, top: int) -> MapRow:
    seen, picture = viewer.look(image.pixels)
    scores = viewer.model.head.scores(seen.logits).float().cpu()
    for points in dict.fromkeys((choice.members[0], choice.points)):
        if points is not None:
            scores = points.calibrate(scores)
    values = scores[0].numpy()
    limits = thresholds_in_use(choice, member.loop.evaluator, len(values))
    verdicts = _verdicts(values, np.asarray(limits, np.float64).astype(np.float32), image.targets, top)
    maps = viewer.maps(seen, list(verdicts))
    tiles = [
        Tile(member.classes[c], float(values[c]), float(limits[c]), verdict, each)
        for (c, verdict), each in zip(verdicts.items(), maps)
    ]
    truth = None
    if image.targets is not None:
        truth = [member.classes[c] for c in np.flatnonzero(image.targets > 0)]
    return MapRow(image.name, picture, truth, tiles)


def _verdicts(values: np.ndarray, limits: np.ndarray, targets: np.ndarray | None, top: int) -> dict[int, str]:
    """The labels to show, in order, each with what became of it."""
    order = [int(c) for c in np.argsort(-values, kind='stable')]
    decided = [c for c in order if values[c] >= limits[c]]
    verdicts = dict.fromkeys(decided[:top] or order[:1], 'decided' if decided else 'highest, not decided')
    if targets is None:
        return verdicts
    for c in decided[:top]:
        if targets[c] != UNKNOWN:
            verdicts[c] = 'true positive' if targets[c] == PRESENT else 'false positive'
    missed = [c for c in order if targets[c] == PRESENT and c not in decided]
    return {**verdicts, **dict.fromkeys(missed[:top], 'missed')}


def _threshold_words(choice: Choice) -> str:
    return "thresholds: the config's, or 0.5" if choice.points is None else f'thresholds: {choice.points.source}'


# Images --------------------------------------------------------------------------------------------------------------


def _find_images(member: Member, flags: CamFlags) -> Iterator[_Image]:
    dataset: Any = member.loop.dataloader.dataset
    if flags.images is None:
        # Neighbours (of a video) are alike: images far from each other show more.
        rows = np.unique(np.linspace(0, len(dataset) - 1, min(flags.number, len(dataset))).round().astype(int))
        found = [each for each in (_from_data(member, int(row)) for row in rows) if each is not None]
        if not found:
            raise DataError('none of the images chosen from the test data can be used')
        yield from found
        return
    places = _places(member)
    wanted = [(name, _place_of(name, places, member)) for name in flags.images]  # all are checked before any is shown
    for name, place in wanted:
        image = _from_file(dataset, name) if place is None else _from_data(member, place)
        if image is None:
            raise DataError(f'{name}: this image of the test data cannot be used')
        yield image


def _places(member: Member) -> dict[str, int]:
    """Rows of the test data, by the names in the annotations and by real paths."""
    inner = innermost(member.loop.dataloader.dataset)
    places = {str(name): row for row, name in enumerate(member.image_names)}
    if hasattr(inner, 'img_path') and len(inner) == len(member.image_names):
        places |= {str(Path(inner.img_path(row)).resolve()): row for row in range(len(inner))}
    return places


def _place_of(name: str, places: Mapping[str, int], member: Member) -> int | None:
    place = places.get(name, places.get(str(Path(name).resolve())))
    if place is None and not Path(name).is_file():
        raise DataError(
            f"--images: there is no file '{name}', and no image of this name in the test data"
            f'{did_you_mean(name, map(str, member.image_names))}'
        )
    return place


def _from_data(member: Member, row: int) -> _Image | None:
    sample = member.loop.dataloader.dataset[row]
    if sample is None:
        return None
    return _Image(str(member.image_names[row]), pixels_of(sample), np.asarray(sample['targets']))


def _from_file(dataset: Any, name: str) -> _Image:
    """An image that is not of the test data, prepared like those."""
    inner = innermost(dataset)
    if not hasattr(inner, 'pipeline'):
        raise ConfigError(f'--images: {type(inner).__name__} has no pipeline by which to load {name}')
    targets = np.zeros(len(dataset.metainfo['classes']), np.int8)
    try:
        sample = inner.pipeline({'img_path': name, 'targets': targets, 'index': 0}, np.random.default_rng(0))
    except DataError as error:
        raise error if name in str(error) else DataError(f'{name}: {error}') from error
    return _Image(name, pixels_of(sample), None)


def pixels_of(sample: Mapping[str, Any]) -> torch.Tensor:
    """The image of a sample, uint8 (3, H, W)."""
    pixels = sample['inputs']
    return torch.from_numpy(pixels).permute(2, 0, 1) if isinstance(pixels, np.ndarray) else pixels
