#!/usr/bin/env python
"""Split a data set into parts, or folds, in each of which every class has its share.

Writes one native annotation file a part, with image paths relative to its folder; the images stay where they are.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from mlcls.apis.cli import add_annotation_flags, annotation_arguments, run_command


class ParseParts(argparse.Action):
    """``--parts train=0.8 val=0.2``: names and shares."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        parts: dict[str, float] = {}
        for item in values:
            name, _, share = item.partition('=')
            if name in parts:
                parser.error(f"--parts names '{name}' twice")
            try:
                parts[name] = float(share)
            except ValueError:
                parser.error(f"--parts takes name=share such as val=0.1, got '{item}'")
        setattr(namespace, self.dest, parts)


def make_parser() -> argparse.ArgumentParser:
    """The flags of this command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', metavar='SRC', help='annotations of any format')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder of the files to write')
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        '--parts',
        nargs='+',
        action=ParseParts,
        metavar='NAME=SHARE',
        help='parts and their shares (default: train=0.8 val=0.1 test=0.1)',
    )
    how.add_argument('--folds', type=int, metavar='K', help='make K folds: fold0_train.json, fold0_val.json, ...')
    groups = parser.add_mutually_exclusive_group()
    groups.add_argument('--group-column', metavar='NAME', help='column of a CSV source: equal cells stay together')
    groups.add_argument(
        '--group-regex', metavar='RE', help='equal matches in image paths (of the first group in the pattern) do'
    )
    groups.add_argument('--group-file', metavar='FILE', help="CSV file of image paths and a column 'group'")
    parser.add_argument(
        '--keep-duplicates-together', action='store_true', help='near-identical images stay together; decodes all'
    )
    parser.add_argument('--workers', type=int, default=0, metavar='N', help='processes that look for duplicates')
    parser.add_argument('--seed', type=int, default=0, help='of the split (default: 0)')
    add_annotation_flags(parser)
    parser.add_argument('--force', action='store_true', help='replace files that are there')
    return parser


def main() -> None:
    """Parse the flags and split."""
    args = make_parser().parse_args()
    from mlcls.apis.splitting import DEFAULT_PARTS, Grouping, SplitFlags, describe_split, split_data

    flags = SplitFlags(
        args.parts or DEFAULT_PARTS,
        args.folds,
        Grouping(args.group_column, args.group_regex, args.group_file, args.keep_duplicates_together, args.workers),
        annotation_arguments(args),
        args.seed,
        args.force,
        shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    )
    print(describe_split(split_data(args.source, args.out, flags)))


if __name__ == '__main__':
    run_command(main)
