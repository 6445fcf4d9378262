#!/usr/bin/env python
"""Pack a data set for training: images at the size that training needs and their annotations, in one file.

Name the pack in a config in the place of the annotations, ann_file='data/train.pack'; nothing else changes. A packing
that was stopped goes on when the same command is given again.
"""

from __future__ import annotations

import argparse
import re
import sys
from typing import TYPE_CHECKING

from mlcls.apis.cli import add_annotation_flags, annotation_arguments, run_command

if TYPE_CHECKING:
    from mlcls.datasets.shards import ShardSize

_UNITS = {'MB': 10**6, 'GB': 10**9}


def make_parser() -> argparse.ArgumentParser:
    """The flags of this command."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        usage='%(prog)s SOURCE TARGET [options]\n       %(prog)s TARGET --verify',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'paths',
        nargs='+',
        metavar='SOURCE TARGET',
        help='annotations of any format, or a config; the pack to write (or, with --shards, the folder)',
    )
    parser.add_argument(
        '--part', default='train', help="of a config: whose data, 'train', 'val' or 'test' (default: train)"
    )
    add_annotation_flags(parser)
    parser.add_argument(
        '--short-side',
        type=int,
        default=256,
        metavar='PIXELS',
        help='reduce larger images to this shorter side; 0 keeps all sizes (default: 256)',
    )
    parser.add_argument('--raw', action='store_true', help='store pixels: ten times larger, nothing to decode')
    parser.add_argument('--quality', type=int, default=90, help='of the JPEGs made here, 1 to 100 (default: 90)')
    parser.add_argument('--workers', type=int, default=0, metavar='N', help='processes that prepare images')
    parser.add_argument(
        '--on-error',
        choices=('raise', 'skip'),
        default='raise',
        help='stop at an image that cannot be used, or leave it out and list it at the end',
    )
    parser.add_argument('--shards', action='store_true', help='write tar shards into a folder, for ShardDataset')
    parser.add_argument(
        '--shard-size', default='1000', metavar='SIZE', help='images a shard, or its size such as 500MB (default: 1000)'
    )
    parser.add_argument('--verify', action='store_true', help='read back what was written and compare checksums')
    return parser


def main() -> None:
    """Parse the flags and pack, or verify."""
    parser = make_parser()
    args = parser.parse_intermixed_args()
    if len(args.paths) > 2 or (len(args.paths) == 1 and not args.verify):
        parser.error(f'name a source and a target, got {" ".join(args.paths)}')
    try:
        _run(args, parser)
    except KeyboardInterrupt:
        print('interrupted; to go on later, give the same command again', file=sys.stderr)
        sys.exit(130)


def _run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    from mlcls.apis.packing import PackFlags, ProgressLines, describe, pack_data, verify_packed
    from mlcls.datasets.packs import PackSettings

    target = args.paths[-1]
    if len(args.paths) == 2:
        flags = PackFlags(
            args.part,
            annotation_arguments(args),
            PackSettings(args.short_side, args.raw, args.quality),
            _shard_size(args.shard_size, parser) if args.shards else None,
            args.workers,
            args.on_error,
        )
        print(describe(target, pack_data(args.paths[0], target, flags, ProgressLines())))
    if args.verify:
        print(f'{target}: verified, {verify_packed(target, ProgressLines()):,} images as they were written')


def _shard_size(text: str, parser: argparse.ArgumentParser) -> ShardSize:
    from mlcls.datasets.shards import ShardSize

    found = re.fullmatch(r'(\d+)\s*(MB|GB)?', text.strip(), re.IGNORECASE)
    if not found or not int(found[1]):
        parser.error(f"--shard-size takes a number of images or a size such as 500MB or 1GB, got '{text}'")
    number = int(found[1])
    return ShardSize(images=0, size=number * _UNITS[found[2].upper()]) if found[2] else ShardSize(images=number)


if __name__ == '__main__':
    run_command(main)
