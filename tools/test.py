#!/usr/bin/env python
"""Test a checkpoint, or the mean of several: CP, CR, CF1, OP, OR, OF1, mAP and one line a class."""

from __future__ import annotations

import argparse

from mlcls.apis.cli import add_checkpoint_paths, add_shared_flags, run_command, split_paths


def make_parser() -> argparse.ArgumentParser:
    """The flags of this command."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_checkpoint_paths(parser)
    parser.add_argument(
        '--thresholds',
        metavar='FILE|fitted|config|NUMBER',
        help="those of a JSON file; those kept with the checkpoint; the config's; one for all classes (default: those "
        'kept with the checkpoint, for metrics that name none, else 0.5)',
    )
    parser.add_argument(
        '--allow-fit-on-test', action='store_true', help='use thresholds chosen on these very data, which flatters'
    )
    parser.add_argument(
        '--tta',
        action='store_true',
        help='test-time augmentation: test_cfg.tta of the config, else mirroring',
    )
    parser.add_argument('--report', metavar='DIR', help='write a report: report.html, plots, TensorBoard events')
    parser.add_argument(
        '--cam',
        nargs='?',
        const='auto',
        metavar='METHOD',
        help='show in the report where the network saw the labels (after the checkpoints): gradcam, gradcam++, '
        "layercam, attention (the head's own maps), or auto: attention if the head has it, else gradcam (default of "
        'METHOD: auto)',
    )
    parser.add_argument(
        '--out', metavar='FILE', help='results file, JSON (default: results.json beside the checkpoint)'
    )
    parser.add_argument(
        '--predictions',
        nargs='+',
        default=[],
        choices=('csv', 'jsonl', 'npz'),
        help='forms in which the scores of every image are written, besides npz',
    )
    parser.add_argument(
        '--order',
        choices=('support', 'worst', 'data'),
        default='support',
        help='of the classes in the table: most images first, worst first, as in the data (default: %(default)s)',
    )
    parser.add_argument(
        '--bootstrap',
        type=int,
        metavar='N',
        help='resamplings for the 95 %% intervals, 0 for none (default: 1000, fewer for very large data)',
    )
    add_shared_flags(parser)
    return parser


def main() -> None:
    """Parse the flags and test."""
    parser = make_parser()
    args = parser.parse_intermixed_args()
    config, checkpoints = split_paths(parser, args.paths)
    from mlcls.apis import TestFlags, test

    flags = TestFlags(
        thresholds=args.thresholds,
        allow_fit_on_test=args.allow_fit_on_test,
        tta=args.tta,
        report=args.report,
        out=args.out,
        predictions=args.predictions,
        order=args.order,
        bootstrap=args.bootstrap,
        cam=args.cam,
        launcher=args.launcher,
    )
    test(checkpoints, config, args.cfg_options, flags)


if __name__ == '__main__':
    run_command(main)
