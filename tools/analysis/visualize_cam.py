#!/usr/bin/env python
"""Where a network sees each label: contact sheets of class activation maps.

Of each image the labels that the checkpoint decides are shown, highest score first, then those that it misses.
"""

from __future__ import annotations

import argparse

from mlcls.apis.cli import add_checkpoint_paths, add_config_options, run_command, split_paths


def make_parser() -> argparse.ArgumentParser:
    """The flags of this command."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_checkpoint_paths(parser)
    parser.usage = '%(prog)s [CONFIG] CHECKPOINT [options]'
    parser.add_argument(
        '--images', nargs='+', metavar='FILE', help='image files, or names as in the annotations of the test data'
    )
    parser.add_argument(
        '--num',
        type=int,
        default=16,
        help='without --images: how many, evenly spread over the test data (default: %(default)s)',
    )
    parser.add_argument(
        '--method',
        default='auto',
        help="gradcam, gradcam++, layercam, attention (the head's own maps), or auto: attention if the head has it, "
        'else gradcam (default: %(default)s)',
    )
    parser.add_argument('--top', type=int, default=5, help='labels of an image, at most (default: %(default)s)')
    parser.add_argument(
        '--thresholds',
        metavar='FILE|fitted|config|NUMBER',
        help='as of tools/test.py (default: those kept with the checkpoint, else those of the config, else 0.5)',
    )
    parser.add_argument('--out', metavar='DIR', help='folder of the sheets (default: cam beside the checkpoint)')
    parser.add_argument('--singles', action='store_true', help='write each map as a picture of its own, too')
    add_config_options(parser, 'test_dataloader.dataset.data_root=data/mine')
    return parser


def main() -> None:
    """Parse the flags and draw the sheets."""
    parser = make_parser()
    args = parser.parse_intermixed_args()
    config, checkpoints = split_paths(parser, args.paths)
    if len(checkpoints) > 1:
        parser.error(f'one checkpoint at a time, got {" ".join(checkpoints)}')
    from mlcls.apis import CamFlags, visualize_cam

    flags = CamFlags(args.images, args.num, args.method, args.top, args.thresholds, args.out, args.singles)
    visualize_cam(checkpoints[0], config, args.cfg_options, flags)


if __name__ == '__main__':
    run_command(main)
