#!/usr/bin/env python
"""Test a checkpoint: CP, CR, CF1, OP, OR, OF1, mAP and one line a class."""

from __future__ import annotations

import argparse

from mlcls.apis.cli import add_shared_flags, run_command


def make_parser() -> argparse.ArgumentParser:
    """The flags of this command."""
    parser = argparse.ArgumentParser(description=__doc__, usage='%(prog)s [CONFIG] CHECKPOINT [options]')
    parser.add_argument(
        'paths',
        nargs='+',
        metavar='[CONFIG] CHECKPOINT',
        help='checkpoint file, or a work folder (its best checkpoint); before it, a config file to use '
        'instead of the config in the checkpoint',
    )
    parser.add_argument(
        '--out', metavar='FILE', help='results file, JSON (default: results.json beside the checkpoint)'
    )
    add_shared_flags(parser)
    return parser


def main() -> None:
    """Parse the flags and test."""
    parser = make_parser()
    args = parser.parse_intermixed_args()
    if len(args.paths) > 2:
        parser.error(f'at most a config and a checkpoint, got {" ".join(args.paths)}')
    if len(args.paths) == 1 and args.paths[0].endswith('.py'):
        parser.error(f'{args.paths[0]} is a config; name a checkpoint (or a work folder) after it')
    from mlcls.apis import test

    test(args.paths[-1], args.paths[0] if len(args.paths) == 2 else None, args.cfg_options, args.launcher, args.out)


if __name__ == '__main__':
    run_command(main)
