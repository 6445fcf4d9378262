#!/usr/bin/env python
"""See what the model sees: a contact sheet of a config's images, augmented, with their labels.

Unknown labels are marked with '?', soft ones have their value.
"""

from __future__ import annotations

import argparse

from mlcls.apis.cli import ParseOptions, run_command


def make_parser() -> argparse.ArgumentParser:
    """The flags of this command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file, e.g. configs/resnet50_ml.py')
    parser.add_argument('--split', default='train', help='train, val or test (default: train)')
    parser.add_argument('--number', type=int, default=32, help='how many images (default: 32)')
    parser.add_argument('--epoch', type=int, default=0, help='the epoch whose draws to show, from 0 (default: 0)')
    parser.add_argument(
        '--out', metavar='FILE', help='.png or .html (default: work_dirs/<config name>/browse_<split>.png)'
    )
    parser.add_argument('--original', action='store_true', help='show each image as it was loaded, too')
    parser.add_argument(
        '--balance',
        nargs='*',
        metavar='T',
        help='print what thresholds of ClassBalancedDataset do to the classes, e.g. 0.01 0.05 auto (without any: auto)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ParseOptions,
        metavar='KEY=VALUE',
        help='override settings of the config, e.g. train_dataloader.batch_size=8 randomness.seed=1',
    )
    return parser


def main() -> None:
    """Parse the flags and draw the sheet."""
    args = make_parser().parse_args()
    from mlcls.apis.browsing import BrowseFlags, browse

    flags = BrowseFlags(args.split, args.number, args.epoch, args.out, args.original, args.balance)
    browse(args.config, flags, args.cfg_options)


if __name__ == '__main__':
    run_command(main)
