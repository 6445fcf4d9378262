#!/usr/bin/env python
"""Train a model from a config file."""

from __future__ import annotations

import argparse

from mlcls.apis.cli import add_shared_flags, run_command


def make_parser() -> argparse.ArgumentParser:
    """The flags of this command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file, e.g. configs/resnet50_ml.py')
    parser.add_argument('--work-dir', help='folder of logs and checkpoints (default: work_dirs/<config name>)')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='PATH',
        help='go on from PATH or, without it, from the newest checkpoint in the work folder',
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision: float16 on a GPU, bfloat16 on a CPU')
    parser.add_argument('--no-validate', action='store_true', help='do not validate during training')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by the real batch size over auto_scale_lr.base_batch_size',
    )
    parser.add_argument('--no-pin-memory', action='store_true', help='turn pinned memory of the loaders off')
    parser.add_argument(
        '--no-persistent-workers', action='store_true', help="start the loaders' workers anew each epoch"
    )
    parser.add_argument('--seed', type=int, help='seed of everything random (default: randomness.seed of the config)')
    parser.add_argument('--load-from', metavar='PATH', help='start a new run from the weights of PATH')
    look = parser.add_mutually_exclusive_group()
    look.add_argument(
        '--profile',
        action='store_true',
        help='record some steps with the profiler, write WORK_DIR/profile/, and say what the run waits for',
    )
    look.add_argument(
        '--dry-run',
        action='store_true',
        help='run a batch of each phase, print shapes, memory, expected time and disk space, and write nothing',
    )
    add_shared_flags(parser)
    return parser


def main() -> None:
    """Parse the flags and train."""
    args = make_parser().parse_args()
    from mlcls.apis import TrainFlags, train

    flags = TrainFlags(
        work_dir=args.work_dir,
        resume=True if args.resume == 'auto' else args.resume or False,
        amp=args.amp,
        validate=not args.no_validate,
        auto_scale_lr=args.auto_scale_lr,
        pin_memory=not args.no_pin_memory,
        persistent_workers=not args.no_persistent_workers,
        seed=args.seed,
        load_from=args.load_from,
        profile=args.profile,
        launcher=args.launcher,
    )
    if args.dry_run:
        from mlcls.apis.dry_run import dry_run

        print(dry_run(args.config, flags, args.cfg_options))
        return
    train(args.config, flags, args.cfg_options)


if __name__ == '__main__':
    run_command(main, 'interrupted; to go on later, run the same command with --resume')
