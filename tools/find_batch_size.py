#!/usr/bin/env python
"""Search a batch size: how large a training step fits into memory, and which size is large enough to be fast.

One real batch is repeated, so the speed of the loader plays no part. Nothing is written.
"""

from __future__ import annotations

import argparse

from mlcls.apis.cli import add_config_options, run_command


def make_parser() -> argparse.ArgumentParser:
    """The flags of this command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file, e.g. configs/resnet50_ml.py')
    parser.add_argument(
        '--max', type=int, metavar='N', help='largest size that is tried (default: 4096 on a GPU, 512 on a CPU)'
    )
    parser.add_argument(
        '--target-memory',
        type=float,
        default=0.9,
        metavar='SHARE',
        help='share of the available memory that may be used (default: %(default)s)',
    )
    add_config_options(parser, 'optim_wrapper.type=AmpOptimWrapper')
    return parser


def main() -> None:
    """Parse the flags and search."""
    args = make_parser().parse_args()
    from mlcls.apis import BatchSizeFlags, find_batch_size

    find_batch_size(args.config, BatchSizeFlags(args.max, args.target_memory), args.cfg_options)


if __name__ == '__main__':
    run_command(main)
