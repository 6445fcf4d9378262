"""Files about labels that heads are given: a vector for each label, or a graph between labels.

Neither kind of file is unpickled or executed.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from mlcls.errors import ConfigError, did_you_mean

Names = tuple[str, ...]
_SUFFIXES = ('.npz', '.json', '.txt', '.csv')


class LabelGraphFile(NamedTuple):
    """What a file says of the relations of C labels.

    Args:
        names: The labels, in the order of the rows; None if the file does not name them.
        matrix: (C, C) float32, at least 0: weights of edges (row i holds what label i takes from each label) or counts
            (images with both labels; on the diagonal, with label i).
        counts: Whether these are counts.
    """

    names: Names | None
    matrix: torch.Tensor
    counts: bool


def read_label_vectors(
    path: str | os.PathLike[str], classes: Sequence[str] | None = None
) -> tuple[Names | None, torch.Tensor]:
    """Read a vector for each label.

    - ``.npz``: array ``vectors`` (C, D) and, if labels are named, ``names`` (C,) of strings.
    - ``.json``: ``{"names": [...], "vectors": [[...], ...]}``, names optional; or ``{"name": [...], ...}``.
    - ``.txt``: a line a label, name and numbers with spaces between, as word vectors are written; ``_`` in a name
      stands for a space. A first line of two numbers (count and length) is skipped.
    - ``.csv``: the same with commas, names as they are.

    Args:
        path: The file.
        classes: Take these labels, in this order, and let the others be. A text file of words may then lack a name of
            several words, all of which it has: their mean is taken; capitals are overlooked. None takes all of them
            as they come.

    Returns:
        Names (``classes`` if given, None if the file has none), and (C, D) float32.

    Raises:
        ConfigError: The file is missing, damaged or of another form; numbers are not finite; vectors are of several
            lengths; a name comes twice, or one of ``classes`` is not there.
    """
    path = _existing(path)
    names: Names | None
    if path.suffix in ('.txt', '.csv'):
        names, rows = _read_text(path, classes)
        vectors = _matrix(path, 'vectors', rows)
    else:
        content = _read_content(path)
        if path.suffix == '.json' and 'vectors' not in content:
            content = {'names': list(content), 'vectors': list(content.values())}
        names = _names(path, content.get('names'))
        vectors = _matrix(path, 'vectors', _entry(path, content, 'vectors'))
    _check_names(path, names, len(vectors))
    if classes is None:
        return names, vectors
    return tuple(classes), _chosen(path, names, vectors, classes)


def read_label_graph(path: str | os.PathLike[str], classes: Sequence[str] | None = None) -> LabelGraphFile:
    """Read the relations of labels.

    ``.npz`` or ``.json`` with ``names`` (C,), optional, and one of ``matrix`` (C, C), the weights of edges, and
    ``counts`` (C, C), in how many images two labels come together, on the diagonal in how many a label comes at all.

    Args:
        path: The file.
        classes: Take these labels, in this order; None takes all of them as they come.

    Raises:
        ConfigError: The file is missing, damaged or of another form; the matrix is not square, has numbers below 0 or
            not finite; counts that cannot be; a name comes twice, or one of ``classes`` is not there.
    """
    path = _existing(path)
    if path.suffix not in ('.npz', '.json'):
        raise ConfigError(f'{path}: a label graph must be a .npz or .json file')
    content = _read_content(path)
    found = [key for key in ('matrix', 'counts') if key in content]
    if len(found) != 1:
        has = ', '.join(sorted(content)) or 'nothing'
        raise ConfigError(f"{path}: must have one of 'matrix' and 'counts', has {has}")
    matrix = _matrix(path, found[0], content[found[0]])
    if matrix.shape[0] != matrix.shape[1]:
        raise ConfigError(f"{path}: '{found[0]}' must be square (labels, labels), got {tuple(matrix.shape)}")
    if (matrix < 0).any():
        raise ConfigError(f"{path}: '{found[0]}' must be at least 0 everywhere, has {matrix.min():g}")
    names = _names(path, content.get('names'))
    _check_names(path, names, len(matrix))
    if found[0] == 'counts':
        _check_counts(path, matrix, names)
    if classes is not None:
        order = _positions(path, names, classes)
        names, matrix = tuple(classes), matrix[order][:, order]
    return LabelGraphFile(names, matrix, found[0] == 'counts')


def _existing(path: str | os.PathLike[str]) -> Path:
    path = Path(path).expanduser()
    if path.suffix not in _SUFFIXES:
        raise ConfigError(f"{path}: cannot read a '{path.suffix}' file of labels{did_you_mean(path.suffix, _SUFFIXES)}")
    if not path.is_file():
        raise ConfigError(f'{path}: no such file of labels')
    return path


def _read_content(path: Path) -> Mapping[str, Any]:
    try:
        if path.suffix == '.npz':
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise ConfigError(f'{path}: cannot be read ({error})') from None
    if not isinstance(content, dict):
        raise ConfigError(f'{path}: must hold an object with names and numbers, holds a {type(content).__name__}')
    return content


def _entry(path: Path, content: Mapping[str, Any], key: str) -> Any:
    if key not in content:
        raise ConfigError(f"{path}: has no '{key}'{did_you_mean(key, content)}")
    return content[key]


def _names(path: Path, names: Any) -> Names | None:
    if names is None:
        return None
    listed = np.asarray(names).tolist() if isinstance(names, (list, np.ndarray)) else None
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise ConfigError(f"{path}: 'names' must be a list of strings")
    return tuple(listed)


def _matrix(path: Path, key: str, rows: Any) -> torch.Tensor:
    try:
        matrix = np.asarray(rows, np.float64)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: '{key}' must be rows of numbers, all of one length ({error})") from None
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ConfigError(f"{path}: '{key}' must be rows of numbers, all of one length, got shape {matrix.shape}")
    # In the type that is kept: 1e300 is finite as float64 alone.
    with np.errstate(over='ignore'):
        kept = matrix.astype(np.float32)
    wrong = np.argwhere(~np.isfinite(kept))
    if len(wrong):
        row, column = wrong[0]
        raise ConfigError(f"{path}: '{key}' holds {matrix[row, column]:g} in row {row}, column {column} (from 0)")
    return torch.from_numpy(kept)


def _check_names(path: Path, names: Names | None, rows: int) -> None:
    if names is None:
        return
    if len(names) != rows:
        raise ConfigError(f'{path}: has {len(names)} names for {rows} rows')
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ConfigError(f"{path}: '{twice[0]}' comes more than once")


def _check_counts(path: Path, counts: torch.Tensor, names: Names | None) -> None:
    images = counts.diagonal()
    wrong = ((counts > images[:, None]) | (counts > images[None])).nonzero()
    if len(wrong):
        row, column = wrong[0].tolist()
        one, other = (f"'{names[i]}'" if names else f'label {i}' for i in (row, column))
        raise ConfigError(
            f'{path}: {counts[row, column]:g} images with {one} and {other}, but {images[row]:g} with {one} and '
            f'{images[column]:g} with {other}; the diagonal of counts must hold the images with each label'
        )


def _lines(path: Path) -> Iterator[tuple[int, str, list[str]]]:
    """Number of the line, name and fields."""
    separator = ',' if path.suffix == '.csv' else None
    try:
        with path.open(encoding='utf-8') as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                name, *fields = (field.strip() for field in line.strip().split(separator))
                if number == 1 and len(fields) == 1 and name.isdigit() and fields[0].isdigit():
                    continue  # count and length, as word2vec writes them
                yield number, name if separator else name.replace('_', ' '), fields
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f'{path}: cannot be read ({error})') from None


def _read_text(path: Path, classes: Sequence[str] | None) -> tuple[Names, list[np.ndarray]]:
    """Names and vectors of a text file; with ``classes``, of lines that they may need, since word files are long."""
    wanted = None if classes is None else {part for name in classes for part in _spellings(name)}
    names: list[str] = []
    rows: list[np.ndarray] = []
    for number, name, fields in _lines(path):
        if wanted is not None and name.lower() not in wanted:
            continue
        try:
            row = np.array([float(field) for field in fields])
        except ValueError:
            raise ConfigError(f'{path}:{number}: must be a name and numbers') from None
        if not len(row) or (rows and len(row) != len(rows[0])):
            raise ConfigError(
                f'{path}:{number}: {len(row)} numbers behind the name'
                + (f', {len(rows[0])} in the lines before' if rows else '')
            )
        names.append(name)
        rows.append(row)
    if not rows:
        raise ConfigError(f'{path}: holds no vectors' + (' of the classes' if classes is not None else ''))
    return tuple(names), rows


def _spellings(name: str) -> list[str]:
    """A name in lower case, as it is and with spaces, and its words."""
    spaced = name.lower().replace('_', ' ')
    return [name.lower(), spaced, *spaced.replace('-', ' ').split()]


def _chosen(path: Path, names: Names | None, vectors: torch.Tensor, classes: Sequence[str]) -> torch.Tensor:
    if names is None or path.suffix not in ('.txt', '.csv'):
        return vectors[_positions(path, names, classes)]
    exact = {name: i for i, name in enumerate(names)}
    # The first of several that differ in capitals is the commoner word.
    lower = {name.lower(): i for i, name in reversed(list(enumerate(names)))}
    chosen = []
    for name in classes:
        whole, spaced, *words = _spellings(name)
        place = exact.get(name, lower.get(whole, lower.get(spaced)))
        if place is None and not (words and all(word in lower for word in words)):
            raise ConfigError(f"{path}: has no vector of '{name}'{did_you_mean(name, names)}")
        chosen.append(vectors[[lower[word] for word in words]].mean(0) if place is None else vectors[place])
    return torch.stack(chosen)


def _positions(path: Path, names: Names | None, classes: Sequence[str]) -> list[int]:
    if names is None:
        raise ConfigError(f"{path}: does not name its labels; add 'names', or leave classes out")
    places = {name: i for i, name in enumerate(names)}
    for name in classes:
        if name not in places:
            raise ConfigError(f"{path}: has no label '{name}'{did_you_mean(name, names)}")
    return [places[name] for name in classes]
