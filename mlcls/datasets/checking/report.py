"""What a check finds: findings, statistics, and the report that holds them, as JSON and as text for a terminal."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

#: From bad to mild. An error stops a run or makes its numbers wrong, a warning costs quality, a note is worth knowing.
SEVERITIES = ('error', 'warning', 'note')
#: Version of the JSON form; it grows when a key changes its meaning or goes away.
JSON_VERSION = 1
#: Items that a finding keeps.
MAX_ITEMS = 10
#: Every code, and what it says. Codes are kept from one version to the next.
CODES = {
    'split-unreadable': 'annotations that cannot be read; nothing else is known of the split',
    'split-packed': 'images in a pack, which are not looked into',
    'same-split': 'a split of exactly the images of another one',
    'reader-remark': 'what a reader of annotations mended or left out',
    'classes-differ': 'splits with other classes, or in another order',
    'image-missing': 'files that do not exist',
    'image-unreadable': 'files that cannot be opened',
    'image-empty': 'files of 0 bytes',
    'image-not-an-image': 'files that are no images',
    'image-damaged': 'images that are truncated or damaged',
    'image-flat': 'images of nearly one colour',
    'image-tiny': 'images with a very short side',
    'image-aspect': 'images that are very long',
    'image-huge': 'images of very many pixels',
    'image-turned': 'images that EXIF marks as turned',
    'image-mode': 'images stored with a palette, alpha, 16 bits, CMYK or otherwise unusually',
    'image-grey': 'grey images among coloured ones',
    'file-in-two-splits': 'files that two splits list (if no image is opened)',
    'identical-across-splits': 'images with the same pixels in two splits',
    'near-identical-across-splits': 'images that look the same in two splits',
    'identical-within-split': 'images with the same pixels in one split',
    'near-identical-within-split': 'images that look the same in one split',
    'identical-conflict': 'images with the same pixels and conflicting labels',
    'images-without-labels': 'images that show no class',
    'labels-unknown': 'labels that are unknown',
    'class-absent': 'classes that no image shows',
    'class-not-in-train': 'classes that no training image shows',
    'class-rare-in-train': 'classes that few training images show',
    'class-not-in-split': 'classes that no image of a split shows',
    'class-rare-in-split': 'classes that too few images of a split show to measure them',
    'class-always-present': 'classes that every image of a split shows',
    'class-constant': 'classes that every image shows',
    'class-never-absent': 'classes that no image of a split is known not to show',
    'class-implies-class': 'classes that never come without another one',
    'classes-identical': 'classes that always come together',
    'class-names-similar': 'class names that may mean one class',
    'frequencies-differ': 'classes whose share differs between splits by more than chance',
    'ids-off-by-one': 'class ids that seem to be counted from 1',
}
_SHOWN = 3
_WIDTH = 110
_INDENT = ' ' * 10


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Args:
        severity: One of `SEVERITIES`.
        code: One of `CODES`; programs may rely on it.
        message: A sentence for a person.
        split: The split it is about, ``'val, train'`` if about two, empty if about all.
        items: The first few paths or classes concerned (at most `MAX_ITEMS`).
        count: How many images, classes or pairs are concerned in all.
        pairs: Paths of the first few pairs of images, if it is about pairs; the finding's own split comes first.
    """

    severity: str
    code: str
    message: str
    split: str = ''
    items: tuple[str, ...] = ()
    count: int = 0
    pairs: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise ValueError(f'severity must be one of {SEVERITIES}, got {self.severity!r}')


@dataclass(frozen=True)
class CheckReport:
    """All that was found in a data set.

    Args:
        source: The config or the annotations that were checked.
        findings: Worst first.
        statistics: ``classes`` (names), ``splits`` (by name, see `split_statistics`) and ``cooccurrence``:
            ``dict(classes=ids, counts=matrix)`` of the most frequent classes, most frequent first.
        advice: Sentences on what to do.
        root: Folder that the paths have in common; texts leave it out.
    """

    source: str
    findings: tuple[Finding, ...]
    statistics: dict[str, Any] = field(default_factory=dict)
    advice: tuple[str, ...] = ()
    root: str = ''

    def count(self, severity: str) -> int:
        """Number of findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)

    @property
    def worst(self) -> str:
        """The worst severity of all findings, or an empty string."""
        return next((severity for severity in SEVERITIES if self.count(severity)), '')

    def shorten(self, item: str) -> str:
        """An item without the folder that all have in common."""
        return item[len(self.root) + 1 :] if self.root and item.startswith(self.root + os.sep) else item


def sort_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Worst first; in the order found otherwise."""
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))


def to_json(report: CheckReport) -> dict[str, Any]:
    """The report as plain data.

    Keys: ``version`` (`JSON_VERSION`), ``source``, ``worst`` (a severity or ``''``), ``counts`` (by severity),
    ``findings`` (a list of the fields of `Finding`), ``advice``, ``root`` and ``statistics``.
    """
    return {
        'version': JSON_VERSION,
        'source': report.source,
        'worst': report.worst,
        'counts': {severity: report.count(severity) for severity in SEVERITIES},
        'findings': [asdict(finding) for finding in report.findings],
        'advice': list(report.advice),
        'root': report.root,
        'statistics': report.statistics,
    }


def to_text(report: CheckReport) -> str:
    """The report for a terminal: the splits, the findings (worst first, three items each), the advice."""
    lines = [f'data check: {report.source}', *_split_lines(report.statistics.get('splits', {})), '']
    lines.append(summary(report))
    for finding in report.findings:
        lines += ['', *_wrap(f'{finding.severity:<8}  ', headline(finding))]
        shown = [_pair(report.shorten(a), report.shorten(b)) for a, b in finding.pairs]
        shown = (shown or [report.shorten(item) for item in finding.items])[:_SHOWN]
        lines += [f'{_INDENT}{item}' for item in shown]
        rest = finding.count - len(shown)
        if shown and rest > 0:
            lines.append(f'{_INDENT}... and {rest:,} more')
    if report.advice:
        lines += ['', 'what to do']
        for sentence in report.advice:
            lines += _wrap('- ', sentence)
    return '\n'.join(lines)


def summary(report: CheckReport) -> str:
    """How many findings there are of each severity, in words."""
    counts = [_plural(report.count(severity), severity) for severity in SEVERITIES if report.count(severity)]
    return ', '.join(counts) if counts else 'nothing unusual'


def headline(finding: Finding) -> str:
    """The message, after the split it is about; one about two splits names them itself."""
    return f'{finding.split}: {finding.message}' if finding.split and ', ' not in finding.split else finding.message


def _pair(first: str, second: str) -> str:
    gap = '  ~  ' if len(first) + len(second) < _WIDTH - 20 else f'\n{_INDENT}  ~ '
    return first + gap + second


def _split_lines(splits: dict[str, dict[str, Any]]) -> list[str]:
    wide = max(map(len, splits), default=0)
    return [
        f'  {name:<{wide}}  {values["images"]:>7,} images, {values["classes_present"]} of {values["classes"]} classes, '
        f'{values["labels_per_image"]:.2f} labels an image'
        for name, values in splits.items()
    ]


def _wrap(first: str, text: str) -> list[str]:
    rest = ' ' * len(first)
    return textwrap.wrap(text, _WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False)


def _plural(number: int, what: str) -> str:
    return f'{number:,} {what}' if number == 1 else f'{number:,} {what}s'


def counted(number: int, what: str, many: str = '') -> str:
    """``'1 image'``, ``'2 images'``; ``many`` is the plural if it is irregular."""
    return f'{number:,} {many}' if many and number != 1 else _plural(number, what)


def listed(names: Sequence[str], limit: int = 5) -> str:
    """Names in quotes as part of a sentence, at most ``limit`` of them."""
    shown = ', '.join(f"'{name}'" for name in names[:limit])
    return f'{shown} and {len(names) - limit} more' if len(names) > limit else shown
