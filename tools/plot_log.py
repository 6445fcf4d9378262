#!/usr/bin/env python
"""Draw the curves of one or more runs: losses, learning rate, metrics."""

from __future__ import annotations

import argparse

from mlcls.apis.cli import run_command


def make_parser() -> argparse.ArgumentParser:
    """The flags of this command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'paths',
        nargs='+',
        metavar='RUN',
        help='work folder (the logs of a resumed run are joined), or a file of JSON lines',
    )
    parser.add_argument(
        '--keys',
        nargs='+',
        metavar='KEY',
        help='what to draw, a panel each, e.g. loss mAP grad_norm (default: loss, lr and the main metric)',
    )
    parser.add_argument('--out', metavar='FILE', help='picture: .png, .pdf or .svg (default: curves.png)')
    parser.add_argument('--csv', metavar='FILE', help='write the numbers too; without --out, instead of the picture')
    parser.add_argument(
        '--smooth', type=int, default=1, metavar='N', help='mean over N log lines of training (default: %(default)s)'
    )
    parser.add_argument(
        '--x',
        choices=('iter', 'epoch', 'time'),
        default='iter',
        help='the axis; time is that of training, without validations (default: %(default)s)',
    )
    return parser


def main() -> None:
    """Parse the flags and draw."""
    args = make_parser().parse_args()
    from mlcls.apis.log_curves import CurveFlags, draw_runs

    flags = CurveFlags(args.keys, args.out, args.csv, args.smooth, args.x)
    print('\n'.join(draw_runs(args.paths, flags)))


if __name__ == '__main__':
    run_command(main)
