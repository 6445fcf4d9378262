"""The three formats of files of predictions, described in ``predictions.py``: writing and reading tables of arrays."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from mlcls.errors import DataError
from mlcls.fileio import write_atomic

FORMAT, VERSION = 'mlcls predictions', 1
#: Rows that are written or read at a time.
_BLOCK = 1024
#: Text of the labels 0, 1 and -1, the last from behind.
_LABELS = ('0', '1', '-1')
_IMAGE, _HASH, _LABEL, _DECISION = 'image', 'data_hash', 'label:', 'decision:'


class Table(NamedTuple):
    """What a file holds; see ``Predictions``, which checks it.

    Args:
        scores: float32 or float16 (N, C).
        targets: int8 (N, C).
        names: N image names.
        classes: C class names.
        thresholds: C numbers, or None.
        data_hash: Hexadecimal digits, or empty.
    """

    scores: np.ndarray
    targets: np.ndarray
    names: Sequence[str]
    classes: Sequence[str]
    thresholds: Sequence[float] | None
    data_hash: str


class Format(NamedTuple):
    """How a format is written and read; reading raises DataError with the path in it."""

    write: Callable[[Path, Table], None]
    read: Callable[[Path], Table]


# CSV


def write_csv(path: Path, table: Table) -> None:
    """Write a CSV file, row blocks at a time."""
    header = [_IMAGE, *table.classes, *(_LABEL + name for name in table.classes)]
    if table.thresholds is not None:
        header += [
            f'{_DECISION}{name}>={limit:.9g}' for name, limit in zip(table.classes, table.thresholds, strict=True)
        ]
    header += [_HASH] if table.data_hash else []
    end = f',{table.data_hash}\n' if table.data_hash else '\n'

    def write(file: IO[bytes]) -> None:
        file.write((','.join(map(quoted, header)) + '\n').encode('utf-8', 'surrogatepass'))
        for names, cells in _blocks(table, ',{}'):
            lines = [quoted(name) + ''.join(row) + end for name, *row in zip(names, *cells)]
            file.write(''.join(lines).encode('utf-8', 'surrogatepass'))

    write_atomic(path, write)


def _blocks(table: Table, form: str) -> Iterator[tuple[Sequence[str], list[list[str]]]]:
    """Blocks of rows: their names and the text of their scores, labels and (with thresholds) decisions."""
    classes = len(table.classes)
    scores_form = form.format(','.join(['%.9g'] * classes))
    limits = None if table.thresholds is None else np.asarray(table.thresholds, np.float32)
    for start in range(0, len(table.scores), _BLOCK):
        part = slice(start, start + _BLOCK)
        scores = table.scores[part].astype(np.float32)
        cells = [
            [scores_form % tuple(row) for row in scores.tolist()],
            [form.format(','.join([_LABELS[label] for label in row])) for row in table.targets[part].tolist()],
        ]
        if limits is not None:
            decided = (scores >= limits).view(np.int8).tolist()
            cells.append([form.format(','.join([_LABELS[mark] for mark in row])) for row in decided])
        yield table.names[start : start + _BLOCK], cells


def quoted(text: str) -> str:
    """A cell of a CSV file, in quotes where it needs them."""
    if text and not any(character in text for character in ',"\r\n') and text[0] not in ' \ufeff':
        return text
    return '"' + text.replace('"', '""') + '"'


def read_csv(path: Path) -> Table:
    """Read a CSV file.

    Raises:
        DataError: A header that is none of ours, a row of another length, a cell that is no number, or a file that
            ends within a row.
    """
    with open(path, 'rb') as raw:
        if not _ends_with_newline(raw):
            raise DataError(f'{path}: is empty or ends within a row: the file was cut short')
        with io.TextIOWrapper(raw, 'utf-8-sig', 'surrogatepass', newline='') as text:
            rows = csv.reader(text, strict=True)
            try:
                return _read_rows(path, rows)
            except UnicodeDecodeError as error:
                raise DataError(f'{path}: is not UTF-8 text ({error.reason} near row {rows.line_num + 1})') from None
            except csv.Error as error:
                raise DataError(f'{path}, line {rows.line_num}: is not valid CSV ({error})') from None


def _ends_with_newline(raw: IO[bytes]) -> bool:
    if not raw.seek(0, io.SEEK_END):
        return False
    raw.seek(-1, io.SEEK_END)
    last = raw.read(1)
    raw.seek(0)
    return last == b'\n'


def _read_rows(path: Path, rows: Iterator[list[str]]) -> Table:
    header = next(rows, [])
    classes, limits, hashed = _read_header(path, header)
    count = len(classes)
    names: list[str] = []
    scores: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    data_hash = ''
    block: list[list[str]] = []

    def take() -> None:
        try:
            scores.append(np.array([[float(cell) for cell in row[1 : count + 1]] for row in block], np.float32))
            labels = [[_NUMBERS[cell] for cell in row[count + 1 : 2 * count + 1]] for row in block]
        except (ValueError, KeyError):
            _name_bad_cell(path, header, block, len(names), count)
            raise  # not reached: one of the cells was bad
        targets.append(np.array(labels, np.int8))
        names.extend(row[0] for row in block)
        block.clear()

    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise DataError(f'{path}, row {number}: has {len(row)} cells, the header {len(header)}')
        if hashed:
            data_hash = data_hash or row[-1]
            if row[-1] != data_hash:
                raise DataError(
                    f"{path}, row {number}, column '{_HASH}': is '{row[-1]}', but '{data_hash}' in the rows before: "
                    'these are predictions of two data sets'
                )
        block.append(row)
        if len(block) == _BLOCK:
            take()
    if block:
        take()
    if not names:
        raise DataError(f'{path}: holds a header and no image')
    return Table(np.concatenate(scores), np.concatenate(targets), names, classes, limits, data_hash)


_NUMBERS = {'0': 0, '1': 1, '-1': -1}


def _name_bad_cell(path: Path, header: list[str], block: list[list[str]], before: int, count: int) -> None:
    """Raise DataError for the first cell that is no score or label."""
    for number, row in enumerate(block, start=before + 2):
        for column in range(1, 2 * count + 1):
            where = f"{path}, row {number}, column '{header[column]}': '{row[column]}' is no"
            if column > count and row[column] not in _NUMBERS:
                raise DataError(f'{where} label (1, 0 or -1)')
            try:
                float(row[column])
            except ValueError:
                raise DataError(f'{where} number') from None


def _read_header(path: Path, header: list[str]) -> tuple[list[str], list[float] | None, bool]:
    """Classes, thresholds, whether there is a data hash; told by place, since classes may be called anything."""
    hashed = header[-1:] == [_HASH]
    columns = header[1 : len(header) - hashed]
    for blocks in (2, 3):
        count, left = divmod(len(columns), blocks)
        classes = columns[:count]
        if not count or left or columns[count : 2 * count] != [_LABEL + name for name in classes]:
            continue
        if blocks == 2:
            return classes, None, hashed
        limits = [_limit(cell, name) for cell, name in zip(columns[2 * count :], classes)]
        if None not in limits:
            return classes, [limit for limit in limits if limit is not None], hashed
    raise DataError(
        f'{path}: the header is not that of a file of predictions (image, <class>..., label:<class>..., and perhaps '
        f'decision:<class>>=<threshold>... and {_HASH}); are classes in the same order in all blocks?'
    )


def _limit(cell: str, name: str) -> float | None:
    start = f'{_DECISION}{name}>='
    try:
        return float(cell[len(start) :]) if cell.startswith(start) else None
    except ValueError:
        return None


# JSON lines


def write_jsonl(path: Path, table: Table) -> None:
    """Write JSON lines, row blocks at a time."""
    head = {
        'format': FORMAT,
        'version': VERSION,
        'dtype': str(table.scores.dtype),
        'num_images': len(table.scores),
        'classes': list(table.classes),
        'thresholds': None if table.thresholds is None else [float(f'{limit:.9g}') for limit in table.thresholds],
        'data_hash': table.data_hash,
    }
    words = [json.dumps(name) for name in table.classes]
    limits = None if table.thresholds is None else np.asarray(table.thresholds, np.float32)

    def write(file: IO[bytes]) -> None:
        file.write((json.dumps(head) + '\n').encode())
        start = 0
        for names, cells in _blocks(table._replace(thresholds=None), '[{}]'):
            decided = [''] * len(names)
            if limits is not None:
                marks = table.scores[start : start + len(names)].astype(np.float32) >= limits
                decided = [f', "decided": [{", ".join(words[c] for c in np.flatnonzero(row))}]' for row in marks]
            start += len(names)
            lines = [
                f'{{"image": {json.dumps(name)}, "scores": {scores}, "labels": {labels}{more}}}\n'
                for name, scores, labels, more in zip(names, *cells, decided)
            ]
            file.write(''.join(lines).encode())

    write_atomic(path, write)


def read_jsonl(path: Path) -> Table:
    """Read JSON lines.

    Raises:
        DataError: The first line is none of ours, a line is no JSON or of other classes, or lines are missing.
    """
    with open(path, 'rb') as file:
        head = _json_line(path, 1, file.readline())
        if head.get('format') != FORMAT or not isinstance(head.get('classes'), list):
            raise DataError(f'{path}, line 1: is not the head of a file of predictions ("format": "{FORMAT}")')
        if head.get('version') != VERSION:
            raise DataError(f'{path}: has version {head.get("version")}, this mlcls reads version {VERSION}')
        count, classes = head.get('num_images'), head['classes']
        names: list[str] = []
        scores: list[np.ndarray] = []
        targets: list[np.ndarray] = []
        for number, line in enumerate(file, start=2):
            entry = _json_line(path, number, line)
            if not isinstance(entry.get('image'), str):
                raise DataError(f"{path}, line {number}: lacks the name of the image ('image')")
            names.append(entry['image'])
            scores.append(_vector(path, number, entry, 'scores', np.float32, len(classes)))
            targets.append(_vector(path, number, entry, 'labels', np.int8, len(classes)))
    if len(names) != count:
        raise DataError(f'{path}: holds {len(names)} images, but its first line says {count}: was it cut short?')
    if not names:
        raise DataError(f'{path}: holds no image')
    dtype = np.float16 if head.get('dtype') == 'float16' else np.float32
    limits = head.get('thresholds')
    if limits is not None and not (isinstance(limits, list) and all(_is_threshold(value) for value in limits)):
        raise DataError(f'{path}, line 1: thresholds must be null or a list of numbers in [0, 1]')
    return Table(
        np.stack(scores).astype(dtype), np.stack(targets), names, classes, limits, str(head.get('data_hash') or '')
    )


def _is_threshold(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1  # type: ignore[operator]


def _json_line(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise DataError(f'{path}, line {number}: is not valid JSON ({error})') from None
    if not isinstance(entry, dict):
        raise DataError(f'{path}, line {number}: is a {type(entry).__name__}, not an object')
    return entry


def _vector(path: Path, number: int, entry: dict[str, Any], key: str, dtype: type, count: int) -> np.ndarray:
    values = entry.get(key)
    if not isinstance(values, list) or len(values) != count:
        found = f'{len(values)} values' if isinstance(values, list) else 'none'
        raise DataError(f"{path}, line {number}, '{key}': {found} instead of one for each of the {count} classes")
    wanted = (int,) if dtype is np.int8 else (int, float)
    for position, value in enumerate(values):
        if type(value) not in wanted or (dtype is np.int8 and abs(value) > 1):
            what = 'label (1, 0 or -1)' if dtype is np.int8 else 'number'
            raise DataError(f"{path}, line {number}, '{key}', value {position + 1}: {value!r} is no {what}")
    try:
        return np.array(values, dtype)
    except OverflowError:
        raise DataError(f"{path}, line {number}, '{key}': holds a number out of all range") from None


# NumPy


def write_npz(path: Path, table: Table) -> None:
    """Write an npz file.

    Raises:
        DataError: A name ends in a NUL character, which NumPy would cut off.
    """
    for name in (*table.names, *table.classes):
        if name.endswith('\0'):
            raise DataError(f'{path}: the name {name!r} ends in a NUL character, which npz cannot hold; use .jsonl')
    arrays: dict[str, Any] = {
        'format': f'{FORMAT} {VERSION}',
        'scores': table.scores,
        'targets': table.targets,
        'names': np.array(list(table.names), np.str_),
        'classes': np.array(list(table.classes), np.str_),
        'data_hash': table.data_hash,
    }
    if table.thresholds is not None:
        arrays['thresholds'] = np.asarray(table.thresholds, np.float32)
    write_atomic(path, lambda file: np.savez(file, **arrays))


def read_npz(path: Path) -> Table:
    """Read an npz file, never unpickling.

    Raises:
        DataError: It is damaged, lacks an array, or holds arrays of other kinds.
    """
    if not zipfile.is_zipfile(path):
        raise DataError(f'{path}: is no npz file, or was cut short')
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (ValueError, OSError, EOFError, KeyError, RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:
        raise DataError(f'{path}: is damaged, or no file of predictions ({error})') from None
    needed = {'format': 'U', 'scores': 'f', 'targets': 'i', 'names': 'U', 'classes': 'U', 'data_hash': 'U'}
    for name, kind in {**needed, **({'thresholds': 'f'} if 'thresholds' in arrays else {})}.items():
        if name not in arrays or arrays[name].dtype.kind != kind:
            found = f'of type {arrays[name].dtype}' if name in arrays else 'missing'
            raise DataError(f"{path}: the array '{name}' is {found}; this is no file of predictions of mlcls")
    if str(arrays['format']) != f'{FORMAT} {VERSION}':
        raise DataError(f"{path}: has the format '{arrays['format']}', this mlcls reads '{FORMAT} {VERSION}'")
    limits = arrays['thresholds'].ravel().tolist() if 'thresholds' in arrays else None
    names, classes = arrays['names'].ravel().tolist(), arrays['classes'].ravel().tolist()
    return Table(arrays['scores'], arrays['targets'], names, classes, limits, str(arrays['data_hash']))


#: Ending -> format.
FORMATS = {
    '.csv': Format(write_csv, read_csv),
    '.jsonl': Format(write_jsonl, read_jsonl),
    '.npz': Format(write_npz, read_npz),
}
