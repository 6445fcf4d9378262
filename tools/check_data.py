#!/usr/bin/env python
"""Check data before training: image files, copies, leaks between splits, and labels."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mlcls.apis.cli import ParseOptions, add_annotation_flags, run_command


def make_parser() -> argparse.ArgumentParser:
    """The flags of this command."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Exit code: 0 nothing worse than a note, 1 warnings, 2 errors in the data (or the command cannot run).',
    )
    parser.add_argument(
        'source', metavar='CONFIG|SRC', help='config file (.py), annotation file, or folder of annotations'
    )
    parser.add_argument('--html', metavar='FILE', help='write a page with pictures')
    parser.add_argument('--json', metavar='FILE', help='write the report as JSON')
    parser.add_argument('--workers', type=int, metavar='N', help='processes that open images (default: all processors)')
    add_annotation_flags(parser)
    parser.add_argument(
        '--no-images', action='store_true', help='open no image: check annotations and file names alone'
    )
    parser.add_argument(
        '--fail-on',
        choices=('error', 'warning', 'never'),
        default='warning',
        help='mildest finding that makes the exit code other than 0 (default: %(default)s)',
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=ParseOptions, metavar='KEY=VALUE', help='override settings of the config'
    )
    return parser


def main() -> None:
    """Parse the flags, check, print the report and exit."""
    args = make_parser().parse_args()
    from mlcls.apis.checking import CheckFlags, check_data, exit_code, write_report
    from mlcls.datasets.checking import to_text

    flags = CheckFlags(
        format=args.format,
        split=args.split,
        classes=args.classes,
        options=args.options,
        image_folder=args.images or '',
        images=not args.no_images,
        workers=args.workers,
    )
    with counter() as progress:
        report = check_data(args.source, flags, args.cfg_options, progress)
    print(to_text(report))
    for path in write_report(report, args.html, args.json):
        print(f'\nwritten: {path}')
    sys.stdout.flush()
    sys.exit(exit_code(report, args.fail_on))


@contextmanager
def counter() -> Iterator[Callable[[int], object] | None]:
    """Shows how many images have been opened, on a terminal only."""
    if not sys.stderr.isatty():
        yield None
        return
    done = 0

    def show(more: int) -> None:
        nonlocal done
        done += more
        print(f'\r{done:,} images opened', end='', file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        print('\r\033[K', end='', file=sys.stderr, flush=True)


if __name__ == '__main__':
    run_command(main)
