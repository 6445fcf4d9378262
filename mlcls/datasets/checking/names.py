"""Class names that may mean the same class."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence

#: Names this short are not compared letter by letter: 'cat' and 'cot' are two things.
_MIN_LENGTH = 6


def similar_names(classes: Sequence[str]) -> Iterator[tuple[bool, str, tuple[str, str]]]:
    """Pairs of names that differ in case, punctuation, spaces or a plural s; or, if long, in one letter.

    Args:
        classes: The names.

    Yields:
        Whether all but the spelling is the same (else one letter differs); a sentence; the two names.
    """
    plain: dict[str, str] = {}
    for name in classes:
        key = plain_name(name)
        if not key:
            continue
        if key in plain:
            yield (
                True,
                f"are '{plain[key]}' and '{name}' one class? Their names differ in spelling alone",
                (
                    plain[key],
                    name,
                ),
            )
        else:
            plain[key] = name
    for a, b in _one_letter_apart([key for key in plain if len(key) >= _MIN_LENGTH]):
        pair = (plain[a], plain[b])
        yield False, f"are '{pair[0]}' and '{pair[1]}' one class? Their names differ in one letter", pair


def plain_name(name: str) -> str:
    """A name without case, accents, punctuation and a plural ending."""
    letters = unicodedata.normalize('NFKD', name).casefold()
    words = re.findall(r'\w+', ''.join(each for each in letters if not unicodedata.combining(each)).replace('_', ' '))
    return ''.join(_singular(word) for word in words)


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith('ies'):
        return word[:-3] + 'y'
    if len(word) > 4 and re.search('(s|x|z|ch|sh)es$', word):
        return word[:-2]
    return word[:-1] if len(word) > 2 and word.endswith('s') and not word.endswith(('ss', 'us', 'is')) else word


def _one_letter_apart(words: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs at an edit distance of 1; those that differ in a digit are numbered on purpose.

    Two words are at most one edit apart only if they are equal after one letter (or none) is taken from each.
    """
    buckets: dict[str, list[str]] = defaultdict(list)
    for word in words:
        for shorter in {word, *(word[:i] + word[i + 1 :] for i in range(len(word)))}:
            buckets[shorter].append(word)
    pairs = {
        (a, b) if words.index(a) < words.index(b) else (b, a)
        for bucket in buckets.values()
        for number, a in enumerate(bucket)
        for b in bucket[:number]
    }
    return sorted(pair for pair in pairs if _is_one_edit(*pair))


def _is_one_edit(a: str, b: str) -> bool:
    start = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    rest_a, rest_b = a[start:], b[start:]
    if any(rest[:1].isdigit() for rest in (rest_a, rest_b)):
        return False
    return rest_a[1:] in (rest_b, rest_b[1:]) or rest_a == rest_b[1:]
