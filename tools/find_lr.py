#!/usr/bin/env python
"""Search a learning rate: the rate rises from step to step, and the loss tells which ones train.

Nothing is written but the picture. Schedules are off; the rates of single parts keep their ratios.
"""

from __future__ import annotations

import argparse

from mlcls.apis.cli import add_config_options, run_command


def make_parser() -> argparse.ArgumentParser:
    """The flags of this command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file, e.g. configs/resnet50_ml.py')
    parser.add_argument('--start', type=float, default=1e-6, help='first rate (default: %(default)g)')
    parser.add_argument('--end', type=float, default=1.0, help='last rate (default: %(default)g)')
    parser.add_argument('--steps', type=int, default=100, help='optimiser steps (default: %(default)s)')
    parser.add_argument('--out', metavar='FILE', default='lr.png', help='picture of the curve (default: %(default)s)')
    add_config_options(parser, 'train_dataloader.batch_size=32 optim_wrapper.type=AmpOptimWrapper')
    return parser


def main() -> None:
    """Parse the flags and search."""
    args = make_parser().parse_args()
    from mlcls.apis import FindLrFlags, find_lr

    find_lr(args.config, FindLrFlags(args.start, args.end, args.steps, args.out), args.cfg_options)


if __name__ == '__main__':
    run_command(main)
