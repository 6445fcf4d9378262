"""The result as plain text for a terminal or a log."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

from mlcls.errors import ConfigError

from .metrics.base import choose
from .result import EvaluationResult

_WIDTH = 100
_HEADLINE = ('CP', 'CR', 'CF1', 'OP', 'OR', 'OF1', 'macro_F1', 'mAP')
#: First part of the names of what a threshold of 0.5 gives, where other thresholds are in use.
AT_HALF = 'at_0.5'
ORDERS = ('support', 'worst', 'data')
#: Column title -> how the names of such values begin; the first metric that gives one is shown.
_COLUMNS = {'AP': ('AP',), 'precision': ('P', 'precision'), 'recall': ('R', 'recall'), 'F1': ('F1', 'f1-score')}
_NUMBER = 9
_NAME = _WIDTH - 6 * (_NUMBER + 2)
_HEADLINE_NUMBER = 11


def format_table(
    result: EvaluationResult,
    thresholds: Sequence[float] | None = None,
    intervals: Mapping[str, tuple[float, float]] | None = None,
    order: str = 'support',
    limit: int | None = None,
) -> str:
    """The headline measures, then one line per class, at most 100 columns wide.

    Args:
        result: Any result; what its metrics did not compute is left out.
        thresholds: Those in use, one a class in class order. None takes them from the protocol of the first metric that
            decides by thresholds.
        intervals: Name of a number -> lower and upper bound, shown below it.
        order: Of the classes: ``'support'``, most known positives first; ``'worst'``, lowest F1 first, then lowest AP,
            and those without a known positive last; ``'data'``, as in the data set. Equal ones stay as in the data set.
        limit: Number of classes to show; None shows all. A line says how many are not shown.

    Returns:
        Lines without colour or trailing spaces: measures (in use, their intervals, at 0.5, cross-fitted: as far as they
        are there), the rule they were decided by, the classes with AP, precision, recall, F1 (``-`` where not defined),
        threshold and support (number of images known to show it), and by name the classes that do not count as others.

    Raises:
        ConfigError: Another order, a limit below 1, or not one threshold a class.
    """
    choose(order, ORDERS, 'order of the classes')
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ConfigError(f'the number of classes to show must be an integer of at least 1, not {limit!r}')
    if thresholds is not None and len(thresholds) != len(result.classes):
        raise ConfigError(f'{len(thresholds)} thresholds are given for {len(result.classes)} classes')
    in_use = _thresholds(result) if thresholds is None else list(thresholds)
    lines = [*_headline(result, intervals or {}), '', *_classes(result, in_use, order, limit), *_notes(result)]
    return '\n'.join(line.rstrip() for line in lines)


def _headline(result: EvaluationResult, intervals: Mapping[str, tuple[float, float]]) -> Iterator[str]:
    """The classic measures, a row for each way to decide; all other numbers below, by name."""
    rows = _rows(result)
    names = next(iter(rows.values()), {})
    if names:
        between = {title: _interval(intervals[name]) for title, name in names.items() if name in intervals}
        cells = {
            label: {title: _number(result.metrics[name]) for title, name in row.items()} for label, row in rows.items()
        }
        label, *others = cells
        ordered = {
            label: cells[label],
            **({'interval': between} if between else {}),
            **{key: cells[key] for key in others},
        }
        ordered = ordered if len(ordered) > 1 else {'': cells[label]}
        titles = [title for title in _HEADLINE if any(title in row for row in ordered.values())]
        width = max(map(len, ordered))
        yield ' ' * width + ''.join(title.rjust(_HEADLINE_NUMBER) for title in titles)
        for label, row in ordered.items():
            yield label.ljust(width) + ''.join(row.get(title, '').rjust(_HEADLINE_NUMBER) for title in titles)
    shown = {name for row in rows.values() for name in row.values()}
    more = [
        f'{name} {_number(value)}' + (f' [{_interval(intervals[name])}]' if name in intervals else '')
        for name, value in result.metrics.items()
        if name not in shown
    ]
    yield from _wrapped(more, '   ')
    rules: dict[str, dict[str, None]] = {}
    for entry in result.protocol:
        if 'decision' in entry:
            rules.setdefault(str(entry['decision']), {})[str(entry['metric'])] = None
    for rule, metrics in rules.items():
        yield from _wrapped([*(f'{name},' for name in list(metrics)[:-1]), f'{list(metrics)[-1]}: {rule}'], ' ')
    yield f'{result.num_images} images, {len(result.classes)} classes; in percent, except counts'
    if result.left_out:
        yield f'{len(result.left_out)} images could not be used and are left out of these numbers'


def _rows(result: EvaluationResult) -> dict[str, dict[str, str]]:
    """Label of a row of headline measures -> title -> name of the number; the first metric that gives one counts."""
    rows: dict[str, dict[str, str]] = {'in use': {}, 'at 0.5': {}, 'cross-fitted': {}}
    for name in result.metrics:
        prefix, _, title = name.rpartition('/')
        label = 'at 0.5' if prefix == AT_HALF else 'cross-fitted' if title.endswith('_fitted') else 'in use'
        title = title.removesuffix('_fitted')
        if title in _HEADLINE:
            rows[label].setdefault(title, name)
    return {label: row for label, row in rows.items() if row}


def _classes(
    result: EvaluationResult, thresholds: Sequence[float] | None, order: str, limit: int | None
) -> Iterator[str]:
    values = {title: values for title, starts in _COLUMNS.items() if (values := _column(result, starts)) is not None}
    columns = {title: [_number(value) for value in column] for title, column in values.items()}
    if thresholds is not None:
        columns['threshold'] = [f'{value:.4f}' for value in thresholds]
    columns['support'] = [str(count) for count in result.positives]
    rows = _ordered(result, values, order)[:limit]
    names = {row: fit(result.classes[row], _NAME) for row in rows}
    width = max([5, *(text_width(name) for name in names.values())])
    yield 'class' + ' ' * (width - 5) + ''.join('  ' + title.rjust(_NUMBER) for title in columns)
    for row, name in names.items():
        cells = ''.join('  ' + column[row].rjust(_NUMBER) for column in columns.values())
        yield name + ' ' * (width - text_width(name)) + cells
    if len(rows) < len(result.classes):
        yield f'... and {len(result.classes) - len(rows)} more of the {len(result.classes)} classes'


def _ordered(result: EvaluationResult, values: Mapping[str, Sequence[float]], order: str) -> list[int]:
    """Numbers of the classes in the order wanted."""
    rows = range(len(result.classes))
    if order == 'data':
        return list(rows)
    if order == 'support':
        return sorted(rows, key=lambda row: -result.positives[row])
    keys = [values[title] for title in ('F1', 'AP') if title in values]

    def badness(row: int) -> list[float]:
        found = [key[row] for key in keys]
        return [float(not result.positives[row]), *(value if math.isfinite(value) else math.inf for value in found)]

    return sorted(rows, key=badness)


def _column(result: EvaluationResult, starts: Sequence[str]) -> list[float] | None:
    """The per-class values of one of these names, the names in this order; else of such a name with a suffix."""
    name = _column_name(result, starts)
    return None if name is None else result.per_class[name]


def _column_name(result: EvaluationResult, starts: Sequence[str]) -> str | None:
    # Backwards, so that of two metrics the first stays; what 0.5 would give is shown only where there is nothing else.
    listed = sorted(reversed(result.per_class), key=lambda name: not name.startswith(f'{AT_HALF}/'))
    names = {name.rsplit('/', 1)[-1].removesuffix('_classwise'): name for name in listed}
    for start in starts:
        if start in names:
            return names[start]
    suffixed = tuple(start + '_' for start in starts)
    return next((name for word, name in reversed(names.items()) if word.startswith(suffixed)), None)


def _thresholds(result: EvaluationResult) -> list[float] | None:
    """The thresholds behind the precision, recall or F1 shown, one a class, as its metric names them."""
    shown = (_column_name(result, _COLUMNS[title]) for title in ('precision', 'recall', 'F1'))
    name = next((name for name in shown if name is not None), None)
    if name is None:
        return None
    prefix, _, word = name.removesuffix('_classwise').rpartition('/')
    number = f'{prefix}/CP' if word in ('P', 'R', 'F1') else f'{prefix}/{word}'
    for entry in result.protocol:
        thr, numbers = entry.get('thr'), str(entry.get('numbers', '')).split(', ')
        if thr is not None and (number in numbers or f'{number}_micro' in numbers):
            return list(thr) if isinstance(thr, list) else [float(thr)] * len(result.classes)
    return None


def _notes(result: EvaluationResult) -> Iterator[str]:
    absent = [name for name in result.absent if name not in set(result.unlabelled)]
    if absent:
        treated = [str(entry[key]) for entry in result.protocol if (key := 'classes without a known positive') in entry]
        treated += ['count as 0 in CR'] if _has(result, 'CR') else []
        count = f'Classes without a known positive image: {len(absent)} of {len(result.classes)}'
        yield ''
        yield from _wrapped([count, *dict.fromkeys(treated)], '; ')
        yield from _wrapped([fit(name, _NAME) for name in absent], ', ')
    if result.unlabelled:
        count = f'Classes without a known label: {len(result.unlabelled)} of {len(result.classes)}'
        yield ''
        yield f'{count}; left out of every mean'
        yield from _wrapped([fit(name, _NAME) for name in result.unlabelled], ', ')


def _has(result: EvaluationResult, title: str) -> bool:
    return any(name.rsplit('/', 1)[-1].split('_top')[0] == title for name in result.metrics)


def _number(value: float) -> str:
    return f'{value:.2f}' if math.isfinite(value) else '-'


def _interval(bounds: tuple[float, float]) -> str:
    """Both bounds, to a tenth: at most 10 columns."""
    low, high = (f'{value:.1f}' if math.isfinite(value) else '-' for value in bounds)
    return low if low == high else f'{low}-{high}'


def _wrapped(words: Sequence[str], between: str) -> Iterator[str]:
    """Words joined into lines of at most 100 columns; a word is never broken, but one too long is cut."""
    line = ''
    for position, word in enumerate(words):
        word = fit(word + (between.rstrip() if position < len(words) - 1 else ''), _WIDTH)
        joined = line + (between[len(between.rstrip()) :] if line else '') + word
        if line and text_width(joined) > _WIDTH:
            yield line
            joined = word
        line = joined
    if line:
        yield line


def text_width(text: str) -> int:
    """Columns that a terminal uses for ``text``: two for wide (East Asian, emoji) characters, none for combining."""
    return sum(_character_width(character) for character in text)


def _character_width(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ('Mn', 'Me', 'Cf'):
        return 0
    return 2 if unicodedata.east_asian_width(character) in 'WF' else 1


def fit(text: str, width: int) -> str:
    """``text`` on one line of at most ``width`` columns.

    The middle is what goes, since names of many classes often differ in their ends alone.
    """
    text = ''.join(
        ' ' if unicodedata.category(character) in ('Cc', 'Cs', 'Zl', 'Zp') else character for character in text
    )
    if text_width(text) <= width:
        return text
    head, tail = (width - 1) * 2 // 3, (width - 1) // 3
    return _take(text, head) + '…' + _take(text[::-1], tail)[::-1]


def _take(text: str, width: int) -> str:
    used, taken = 0, []
    for character in text:
        used += _character_width(character)
        if used > width:
            break
        taken.append(character)
    return ''.join(taken)
