#!/usr/bin/env python
"""What a network costs, stage by stage: parameters, multiply-adds, activations, images a second.

Neither data nor weights are needed.
"""

from __future__ import annotations

import argparse

from mlcls.apis.cli import add_config_options, run_command


def make_parser() -> argparse.ArgumentParser:
    """The flags of this command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file, e.g. configs/resnet50_ml.py')
    parser.add_argument(
        '--shape',
        nargs='+',
        type=int,
        metavar='PIXELS',
        help="height and width of the images, or one number for both (default: those of the config's test pipeline)",
    )
    parser.add_argument(
        '--batch-size', type=int, default=8, help='images at a time for the speed (default: %(default)s)'
    )
    parser.add_argument(
        '--repeats', type=int, default=5, help='passes whose median time is taken (default: %(default)s)'
    )
    parser.add_argument('--no-speed', action='store_true', help='count only, measure no time')
    parser.add_argument('--out', metavar='FILE', help='write the figures there too, as JSON')
    add_config_options(parser, 'model.backbone.depth=18')
    return parser


def main() -> None:
    """Parse the flags and measure."""
    args = make_parser().parse_args()
    from mlcls.apis import ComplexityFlags, measure_complexity

    flags = ComplexityFlags(args.shape, args.batch_size, not args.no_speed, args.repeats, args.out)
    measure_complexity(args.config, flags, args.cfg_options)


if __name__ == '__main__':
    run_command(main)
