"""What all command lines share: shared flags, and errors as one message."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable
from typing import Any

from mlcls.errors import RunStopped, UserError
from mlcls.startup import import_late

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')
#: Start of a line that names an error of ours in the traceback that a loader's worker process sends.
_RAISED = re.compile(r'^mlcls\.errors\.\w+: ', re.MULTILINE)


class ParseOptions(argparse.Action):
    """``--cfg-options a.b=1 c=[2,3] d=text``: Python literals where they are, text otherwise."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        options = dict(getattr(namespace, self.dest) or {})
        for item in values:
            key, separator, value = item.partition('=')
            if not separator or not key:
                parser.error(f"{option_string} takes key=value, got '{item}'")
            options[key] = parse_value(value)
        setattr(namespace, self.dest, options)


def parse_value(text: str) -> Any:
    """Read the value of an option: a Python literal, ``true``/``false``/``null`` too, or else the text itself."""
    import ast

    words = {'true': True, 'false': False, 'none': None, 'null': None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        pass
    if ',' in text and not any(mark in text for mark in '()[]{}'):
        return [parse_value(part) for part in text.split(',')]
    return text


def add_config_options(
    parser: argparse.ArgumentParser, example: str = 'train_dataloader.batch_size=32 randomness.seed=1'
) -> None:
    """The flag by which single settings of the config are overridden."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ParseOptions,
        metavar='KEY=VALUE',
        help=f'override settings of the config, e.g. {example}',
    )


def add_shared_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that training and testing have in common."""
    add_config_options(parser)
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='what started the processes')
    parser.add_argument(
        '--local-rank',
        '--local_rank',
        type=int,
        default=0,
        help='set by old launchers; the environment variable LOCAL_RANK counts',
    )


def add_checkpoint_paths(parser: argparse.ArgumentParser) -> None:
    """The arguments ``[CONFIG] CHECKPOINT [CHECKPOINT ...]``; see `split_paths`."""
    parser.usage = '%(prog)s [CONFIG] CHECKPOINT [CHECKPOINT ...] [options]'
    parser.add_argument(
        'paths',
        nargs='+',
        metavar='[CONFIG] CHECKPOINT',
        help='checkpoint file, or a work folder (its best checkpoint); of several, the mean score is taken; before '
        'them, a config file to use instead of the config in the checkpoints',
    )


def split_paths(parser: argparse.ArgumentParser, paths: list[str]) -> tuple[str | None, list[str]]:
    """Tell ``[CONFIG] CHECKPOINT [CHECKPOINT ...]`` apart: a config ends in ``.py`` and comes first.

    Returns:
        The config or None, and at least one checkpoint; otherwise the parser ends the command with a message.
    """
    configs = [path for path in paths if path.endswith('.py')]
    if len(configs) > 1 or (configs and paths[0] != configs[0]):
        parser.error(f'at most one config, before the checkpoints, got {" ".join(paths)}')
    if len(paths) == len(configs):
        parser.error(f'{paths[0]} is a config; name a checkpoint (or a work folder) after it')
    return (configs[0] if configs else None), paths[len(configs) :]


def parse_classes(text: str) -> list[str] | str:
    """Names if there are commas and no such file, else the path of a file."""
    if ',' not in text or os.path.exists(text):
        return text
    return [name for name in text.split(',') if name]


def add_annotation_flags(parser: argparse.ArgumentParser) -> None:
    """The flags by which commands are told how to read annotations; see `annotation_arguments`."""
    parser.add_argument('--format', default='auto', help='format of the annotations (default: recognised)')
    parser.add_argument('--split', help='of annotations that hold several parts: the one to take')
    parser.add_argument(
        '--classes',
        metavar='FILE|A,B,C',
        type=parse_classes,
        help='class names: a file with one a line, or with commas',
    )
    parser.add_argument('--images', metavar='FOLDER', help='folder of the images (default: that of the annotations)')
    parser.add_argument(
        '--options',
        nargs='+',
        action=ParseOptions,
        metavar='KEY=VALUE',
        help="further arguments of the format's reader",
    )


def annotation_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """Arguments of ``MultiLabelDataset`` that the flags of `add_annotation_flags` set."""
    given = {
        'format': None if args.format == 'auto' else args.format,
        'split': args.split,
        'classes': args.classes,
        'data_prefix': args.images,
        'format_options': args.options,
    }
    return {name: value for name, value in given.items() if value is not None}


def message_of(error: UserError) -> str:
    """The message a person needs; of an error from a loader's worker process, without that process's traceback."""
    text = str(error)
    raised = list(_RAISED.finditer(text))
    return text[raised[-1].end() :].strip() if raised and 'Original Traceback' in text else text


def run_command(main: Callable[[], object], interrupted: str = 'interrupted') -> None:
    """Run a command line: an error of the user's is one message and exit code 2, Ctrl-C is 130, a closed pipe 141, a
    training that was asked to stop and has saved 75.

    Args:
        main: The command.
        interrupted: What to say after Ctrl-C.
    """
    import_late()
    try:
        code = _exit_code(main, interrupted)
    finally:
        distributed = sys.modules.get('mlcls.engine.distributed')
        if distributed is not None:  # nothing is to be closed otherwise
            distributed.close_distributed()
    if code:
        sys.exit(code)


def _exit_code(main: Callable[[], object], interrupted: str) -> int:
    # A function of its own: when it returns, nothing of the run (an error's frames hold it) is alive any more.
    try:
        main()
        sys.stdout.flush()
    except UserError as error:
        rank = os.environ.get('RANK', '0')
        print(f'{"" if rank == "0" else f"[rank {rank}] "}error: {message_of(error)}', file=sys.stderr)
        return 2
    except RunStopped as stopped:
        print(stopped, file=sys.stderr)
        return stopped.exit_code
    except BrokenPipeError:  # the reader of a pipe (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nor must the last flush complain
        return 141
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return 130
    return 0
