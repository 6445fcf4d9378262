"""What git knows of a folder, and never an error."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

#: Bytes of a patch that are kept.
PATCH_LIMIT = 1 << 20
#: Seconds that git may take for an answer.
GIT_SECONDS = 10.0
#: A repository may name a program to be started by this setting.
_GIT = ('git', '-c', 'core.fsmonitor=false', '--no-pager')


def git_state(folder: Path, needs: str | None = None) -> tuple[dict[str, Any], bytes]:
    """What git knows of a folder. It never fails: what is missing is said in ``note``.

    Args:
        folder: Inside the repository.
        needs: A file in the folder that must be under version control; otherwise the repository is somebody else's.

    Returns:
        ``root``, ``commit``, ``dirty`` (a file under version control was changed), ``untracked`` (number of other
        files), ``patch_cut``, or ``note``; and the difference to the commit, at most `PATCH_LIMIT` bytes.
    """
    state: dict[str, Any] = {}
    patch = b''
    try:
        if needs is not None and _ask_git(folder, 'ls-files', '--', needs)[0].strip() == b'':
            return {'note': 'not under version control'}, b''
        state['root'] = os.fsdecode(_ask_git(folder, 'rev-parse', '--show-toplevel')[0].rstrip(b'\n'))
        root = Path(state['root'])
        listed = _ask_git(root, 'status', '--porcelain')[0].splitlines()
        state['dirty'] = any(not line.startswith(b'??') for line in listed)
        state['untracked'] = sum(line.startswith(b'??') for line in listed)
        state['commit'] = _ask_git(root, 'rev-parse', '--verify', 'HEAD')[0].decode().strip()
        if state['dirty']:
            patch, was_cut = _ask_git(root, 'diff', 'HEAD', '--no-ext-diff', '--no-textconv', '--no-color', '--binary')
            state['patch_cut'] = was_cut
            patch = _whole_files(patch) if was_cut else patch
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        state['note'] = str(error).strip() or type(error).__name__
    return state, patch


def _ask_git(folder: Path, *arguments: str) -> tuple[bytes, bool]:
    """Output of a git command, at most `PATCH_LIMIT` bytes of it, and whether there was more.

    Raises:
        OSError: There is no git.
        ValueError: It refuses, with its reason.
        subprocess.TimeoutExpired: It takes too long.
    """
    # A hook of git that starts a training tells git, by these, of a repository that need not be the one asked about.
    environment = {name: value for name, value in os.environ.items() if not name.startswith('GIT_')}
    environment |= {'GIT_OPTIONAL_LOCKS': '0', 'GIT_TERMINAL_PROMPT': '0', 'LC_ALL': 'C'}
    command = [*_GIT, '-C', str(folder), *arguments]
    late = threading.Event()

    def give_up(process: subprocess.Popen[bytes]) -> None:
        late.set()
        process.kill()

    with (
        tempfile.TemporaryFile() as complaints,  # a pipe that nobody reads meanwhile would fill
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints, env=environment
        ) as process,
    ):
        timer = threading.Timer(GIT_SECONDS, give_up, (process,))
        timer.daemon = True
        timer.start()
        output = b'' if process.stdout is None else process.stdout.read(PATCH_LIMIT + 1)
        was_cut = len(output) > PATCH_LIMIT
        if was_cut:
            process.kill()
        code = process.wait()
        timer.cancel()
        complaints.seek(0)
        reason = complaints.read(4096).decode(errors='replace').strip().partition('\n')[0]
    if late.is_set():
        raise subprocess.TimeoutExpired(f'git {arguments[0]}', GIT_SECONDS)
    if code and not was_cut:
        raise ValueError(reason or f'git {arguments[0]} failed')
    return output[:PATCH_LIMIT], was_cut


def _whole_files(patch: bytes) -> bytes:
    """A patch that was cut, without the file that the cut went through, so that the rest can be applied."""
    end = patch.rfind(b'\ndiff --git ')
    return patch[: end + 1] if end >= 0 else patch
