#!/usr/bin/env python
"""Choose a threshold for each class on the validation data, and keep them with the checkpoint.

They are stored in the checkpoint and in a JSON file beside it, and used by tools/test.py from then on. Printed are the
thresholds with their intervals, and what they gain over 0.5: honestly, on folds that they were not chosen on.
"""

from __future__ import annotations

import argparse

from mlcls.apis.cli import add_checkpoint_paths, add_shared_flags, run_command, split_paths


def make_parser() -> argparse.ArgumentParser:
    """The flags of this command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_checkpoint_paths(parser)
    parser.add_argument(
        '--objective',
        default='f1',
        help="f1 (any f-beta: f0.5, f2) of each class, CF1, OF1, 'precision>=0.9', 'recall>=0.9', labels=N an image, "
        'cost=FN:FP, alarms=N (default: %(default)s)',
    )
    parser.add_argument(
        '--calibration',
        choices=('temperature', 'platt', 'isotonic'),
        help='calibrate the scores first; kept with the thresholds',
    )
    parser.add_argument(
        '--no-shrink',
        action='store_true',
        help='let also rare classes have the threshold that their few images suggest',
    )
    parser.add_argument('--folds', type=int, default=5, help='for the honest figures (default: %(default)s)')
    parser.add_argument(
        '--bootstrap', type=int, default=200, metavar='N', help='resamplings for the intervals (default: %(default)s)'
    )
    parser.add_argument('--seed', type=int, default=0, help='of folds and resamplings (default: %(default)s)')
    parser.add_argument(
        '--data', choices=('val', 'test'), default='val', help='what to choose on (default: %(default)s)'
    )
    parser.add_argument('--allow-fit-on-test', action='store_true', help='needed for --data test')
    parser.add_argument('--tta', action='store_true', help='choose for scores with test-time augmentation')
    parser.add_argument(
        '--out', metavar='FILE', help='JSON file to write instead of the checkpoint; needed for several checkpoints'
    )
    add_shared_flags(parser)
    return parser


def main() -> None:
    """Parse the flags, choose, and print."""
    parser = make_parser()
    args = parser.parse_intermixed_args()
    config, checkpoints = split_paths(parser, args.paths)
    from mlcls.apis import FitFlags, fit_thresholds
    from mlcls.apis.thresholds import describe
    from mlcls.evaluation import FitSettings

    settings = FitSettings(
        objective=args.objective,
        calibration=args.calibration,
        shrink=not args.no_shrink,
        folds=args.folds,
        bootstrap=args.bootstrap,
        seed=args.seed,
    )
    flags = FitFlags(settings, args.data, args.allow_fit_on_test, args.tta, args.out, args.launcher)
    fitted = fit_thresholds(checkpoints, config, args.cfg_options, flags)
    if fitted.files:  # empty on all processes but the first
        print(describe(fitted))


if __name__ == '__main__':
    run_command(main)
