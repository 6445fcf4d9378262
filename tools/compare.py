#!/usr/bin/env python
"""Compare two results files: the differences B - A, and whether they could be chance."""

from __future__ import annotations

import argparse

from mlcls.apis.cli import run_command


def make_parser() -> argparse.ArgumentParser:
    """The flags of this command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('first', metavar='A.json', help='results file of tools/test.py')
    parser.add_argument('second', metavar='B.json', help='another, measured under the same protocol')
    parser.add_argument(
        '--any-protocol', action='store_true', help='compare although they were measured under different protocols'
    )
    parser.add_argument(
        '--draws', type=int, default=1000, help='resamplings for the intervals; 0: no intervals (default: %(default)s)'
    )
    parser.add_argument('--seed', type=int, default=0, help='of the resampling (default: %(default)s)')
    parser.add_argument('--out', metavar='FILE', help='write the comparison as JSON')
    return parser


def main() -> None:
    """Parse the flags and compare."""
    args = make_parser().parse_args()
    from mlcls.apis.comparing import CompareFlags, compare, format_comparison

    flags = CompareFlags(args.any_protocol, args.draws, args.seed, args.out)
    print(format_comparison(compare(args.first, args.second, flags)))


if __name__ == '__main__':
    run_command(main)
