#!/usr/bin/env python
"""From a folder and some labels to a config: read any format, check the data, split where needed, and train."""

from __future__ import annotations

import argparse

from mlcls.apis.cli import ParseOptions, parse_classes, run_command


def make_parser() -> argparse.ArgumentParser:
    """The flags of this command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('source', help='annotation file or folder, of any known format')
    parser.add_argument('name', help='name of the project: configs/NAME.py, data/NAME, work_dirs/NAME')
    parser.add_argument('--format', default='auto', help='format of the annotations (default: recognised)')
    parser.add_argument(
        '--classes', metavar='FILE|A,B,C', type=parse_classes, help='class names, for annotations that name none'
    )
    parser.add_argument('--images', default='', metavar='FOLDER', help='folder of the images (default: by the labels)')
    parser.add_argument(
        '--options', nargs='+', action=ParseOptions, metavar='KEY=VALUE', help="arguments of the format's reader"
    )
    parser.add_argument('--image-size', type=int, default=224, metavar='PIXELS', help='default: %(default)s')
    parser.add_argument(
        '--weights',
        default='torchvision://mobilenet_v2',
        metavar='FILE',
        help='pretrained weights of MobileNetV2 (default: %(default)s, which is downloaded)',
    )
    parser.add_argument(
        '--split-anew', action='store_true', help='mix the parts that the data bring, and split them again'
    )
    parser.add_argument('--seed', type=int, default=0, help='of the split (default: %(default)s)')
    parser.add_argument('--force', action='store_true', help='replace files that are there')
    parser.add_argument('--train', action='store_true', help='train and test at once')
    return parser


def main() -> None:
    """Parse the flags, make the project, and train it if asked to."""
    args = make_parser().parse_args()
    from mlcls.apis.projects import ProjectFlags, start_project
    from mlcls.datasets.checking import to_text

    flags = ProjectFlags(
        format=args.format,
        classes=args.classes,
        options=args.options,
        images=args.images,
        image_size=args.image_size,
        weights=args.weights,
        seed=args.seed,
        split_anew=args.split_anew,
        force=args.force,
    )
    project = start_project(args.source, args.name, flags)
    print(to_text(project.report))
    for note in project.notes:
        print(f'note: {note}')
    print(', '.join(f'{role} {count} images' for role, count in project.parts.items()))
    print(f'the data, with pictures: {project.page}')
    if not args.train:
        print(f'train: python tools/train.py {project.config}')
        return
    from mlcls.apis import TestFlags, test, train

    folder = train(project.config)
    test(folder, flags=TestFlags(report=folder / 'report'))


if __name__ == '__main__':
    run_command(main)
