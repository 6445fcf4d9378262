#!/usr/bin/env python
"""Convert annotations of any known format to native JSON; image paths become relative to the new file's folder."""

from __future__ import annotations

import argparse
import os

from mlcls.apis.cli import add_annotation_flags, run_command
from mlcls.errors import ConfigError


def make_parser() -> argparse.ArgumentParser:
    """The flags of this command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('src', help='annotation file, or folder of a format that is one')
    parser.add_argument('dst', help='JSON file to write')
    add_annotation_flags(parser)
    parser.add_argument(
        '--class-map',
        nargs='+',
        metavar='FILE|OLD=NEW',
        help='new names of classes: a YAML or JSON file, or old=new pairs; old= drops a class',
    )
    parser.add_argument(
        '--corrections', metavar='FILE', help='CSV of labels to change: image,class,label with label 1, 0 or -1'
    )
    parser.add_argument('--force', action='store_true', help='replace DST if it exists')
    return parser


def parse_class_map(items: list[str] | None) -> dict[str, str | None] | str | None:
    """The path of a file, or the pairs old=new; nothing behind the sign drops the class.

    Raises:
        ConfigError: If several items are no pairs, or two have the same old name.
    """
    if items is None:
        return None
    if len(items) == 1 and ('=' not in items[0] or os.path.exists(items[0])):
        return items[0]
    names: dict[str, str | None] = {}
    for item in items:
        old, sign, new = item.partition('=')
        if not sign or old in names:
            problem = f"gives '{old}' twice" if sign else f"takes one file or old=new pairs, got '{item}'"
            raise ConfigError(f'--class-map {problem}')
        names[old] = new or None
    return names


def main() -> None:
    """Parse the flags and convert."""
    args = make_parser().parse_args()
    from mlcls.apis.prepare import describe, prepare_data

    options = dict(args.options or {})
    if args.split is not None:
        options['split'] = args.split
    class_map = parse_class_map(args.class_map)
    annotations = prepare_data(
        args.src, args.dst, args.format, args.classes, class_map, options, args.images, args.force, args.corrections
    )
    print(f'{args.src}: {describe(annotations)}')
    print(f'{args.dst}: written, and reads back equal')


if __name__ == '__main__':
    run_command(main)
