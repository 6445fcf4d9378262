"""The result as plain text for a terminal or a log."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Sequence

from .result import EvaluationResult

_WIDTH = 100
_HEADLINE = ('CP', 'CR', 'CF1', 'OP', 'OR', 'OF1', 'mAP')
#: Column title -> how the names of such values begin; the first metric that gives one is shown.
_COLUMNS = {'precision': ('P', 'precision'), 'recall': ('R', 'recall'), 'F1': ('F1', 'f1-score'), 'AP': ('AP',)}
_NUMBER = 10
_NAME = _WIDTH - 5 * (_NUMBER + 2)


def format_table(result: EvaluationResult) -> str:
    """The headline measures, then one line per class, at most 100 columns wide.

    Args:
        result: Any result; what its metrics did not compute is left out.

    Returns:
        Lines without colour or trailing spaces: measures, the rule they were decided by, the classes with number of
        known positive images, precision, recall, F1 and AP (``-`` where not defined), and the absent classes by name.
    """
    lines = [*_headline(result), '', *_classes(result), *_notes(result)]
    return '\n'.join(line.rstrip() for line in lines)


def _headline(result: EvaluationResult) -> Iterator[str]:
    """The classic measures in one row; all other numbers below, by name."""
    shown = {}
    for title in _HEADLINE:
        for name in result.metrics:
            if name.rsplit('/', 1)[-1] == title:
                shown[title] = name
                break
    if shown:
        yield ''.join(title.rjust(9) for title in shown)
        yield ''.join(_number(result.metrics[name]).rjust(9) for name in shown.values())
    others = [f'{name} {_number(value)}' for name, value in result.metrics.items() if name not in shown.values()]
    yield from _wrapped(others, '   ')
    rules = [f'{entry["metric"]}: {entry["decision"]}' for entry in result.protocol if 'decision' in entry]
    yield from (fit(rule, _WIDTH) for rule in dict.fromkeys(rules))
    yield f'{result.num_images} images, {len(result.classes)} classes; in percent, except counts'
    if result.left_out:
        yield f'{len(result.left_out)} images could not be used and are left out of these numbers'


def _classes(result: EvaluationResult) -> Iterator[str]:
    columns = {title: values for title, starts in _COLUMNS.items() if (values := _column(result, starts)) is not None}
    names = [fit(name, _NAME) for name in result.classes]
    width = max([5, *(text_width(name) for name in names)])
    yield 'class' + ' ' * (width - 5) + ''.join('  ' + title.rjust(_NUMBER) for title in ('images', *columns))
    for position, name in enumerate(names):
        row = [str(result.positives[position]), *(_number(column[position]) for column in columns.values())]
        yield name + ' ' * (width - text_width(name)) + ''.join('  ' + cell.rjust(_NUMBER) for cell in row)


def _column(result: EvaluationResult, starts: Sequence[str]) -> list[float] | None:
    """The per-class values of one of these names, the names in this order; else of such a name with a suffix."""
    words = {
        name.rsplit('/', 1)[-1].removesuffix('_classwise'): values
        for name, values in reversed(result.per_class.items())
    }
    for start in starts:
        if start in words:
            return words[start]
    return next(
        (values for word, values in reversed(words.items()) if word.startswith(tuple(s + '_' for s in starts))), None
    )


def _notes(result: EvaluationResult) -> Iterator[str]:
    if not result.absent:
        return
    treated = [str(entry[key]) for entry in result.protocol if (key := 'classes without a known positive') in entry]
    treated += ['count as 0 in CR'] if _has(result, 'CR') else []
    yield ''
    yield from _wrapped(
        [
            f'Classes without a known positive image: {len(result.absent)} of {len(result.classes)}',
            *dict.fromkeys(treated),
        ],
        '; ',
    )
    yield from _wrapped([fit(name, _NAME) for name in result.absent], ', ')


def _has(result: EvaluationResult, title: str) -> bool:
    return any(name.rsplit('/', 1)[-1].split('_top')[0] == title for name in result.metrics)


def _number(value: float) -> str:
    return f'{value:.2f}' if math.isfinite(value) else '-'


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
