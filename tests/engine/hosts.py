"""Several hosts on one machine: network namespaces that a switch, in one more, connects."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .ranks import ROOT, environment

INTERFACE = 'eth0'


def ip(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(['ip', *words], capture_output=True, text=True, check=True)


def why_not() -> str | None:
    """Why hosts cannot be made here; None where they can."""
    if shutil.which('ip') is None:
        return 'there is no ip command (iproute2)'
    name = f'mlcls-try-{os.getpid()}'
    try:
        ip('netns', 'add', name)
    except subprocess.CalledProcessError as error:
        return f'no network namespaces for this user: {error.stderr.strip()}'
    try:
        ip('-n', name, 'link', 'add', 'try0', 'type', 'veth', 'peer', 'name', 'try1')
        ip('-n', name, 'link', 'add', 'try2', 'type', 'bridge')
    except subprocess.CalledProcessError as error:
        return f'no virtual links or bridges: {error.stderr.strip()}'
    finally:
        subprocess.run(['ip', 'netns', 'del', name], capture_output=True)
    return None


class Hosts:
    """Hosts 10.213.0.1, 10.213.0.2 and so on.

    Args:
        count: How many, up to 9.
        folder: For their outputs.
    """

    def __init__(self, count: int, folder: Path) -> None:
        self._prefix, self._folder = f'mlcls-{os.getpid()}', folder
        self.switch = f'{self._prefix}-switch'
        self.names = [f'{self._prefix}-{number}' for number in range(count)]
        self.processes: list[subprocess.Popen[bytes]] = []

    def open(self) -> None:
        ip('netns', 'add', self.switch)
        ip('-n', self.switch, 'link', 'add', 'bridge0', 'type', 'bridge')
        ip('-n', self.switch, 'link', 'set', 'bridge0', 'up')
        for number, name in enumerate(self.names):
            port = f'port{number}'
            ip('netns', 'add', name)
            ip('-n', name, 'link', 'set', 'lo', 'up')
            ip('-n', self.switch, 'link', 'add', port, 'type', 'veth', 'peer', 'name', INTERFACE, 'netns', name)
            ip('-n', self.switch, 'link', 'set', port, 'master', 'bridge0', 'up')
            ip('-n', name, 'address', 'add', f'{self.address(number)}/24', 'dev', INTERFACE)
            ip('-n', name, 'link', 'set', INTERFACE, 'up')

    def close(self) -> None:
        for number in range(len(self.names)):
            self.kill(number)
        for process in self.processes:
            process.wait()
        for name in (*self.names, self.switch):
            subprocess.run(['ip', 'netns', 'del', name], capture_output=True)

    def address(self, number: int) -> str:
        return f'10.213.0.{number + 1}'

    def start(self, number: int, *command: str) -> None:
        with open(self.output(number), 'wb') as file:
            process = subprocess.Popen(
                ['ip', 'netns', 'exec', self.names[number], *command],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment(GLOO_SOCKET_IFNAME=INTERFACE),
                cwd=ROOT,
            )
        self.processes.append(process)

    def torchrun(self, number: int, least: int, *arguments: str) -> None:
        """Start a host's launcher of one process; the first host is where all meet."""
        meeting = f'is_host={int(number == 0)},last_call_timeout=3,keep_alive_interval=1,keep_alive_max_attempt=3'
        self.start(
            number,
            *(sys.executable, '-m', 'torch.distributed.run', f'--nnodes={least}:{len(self.names)}'),
            *('--nproc_per_node=1', '--max-restarts=3', '--rdzv_backend=c10d', '--rdzv_id=hosts'),
            *(f'--rdzv_endpoint={self.address(0)}:29400', f'--local_addr={self.address(number)}'),
            *(f'--rdzv_conf={meeting}', '-m', 'tests.engine.ranks', *arguments),
        )

    def output(self, number: int) -> Path:
        return self._folder / f'host{number}.txt'

    def kill(self, number: int) -> None:
        """End all that runs on a host, at once and without a word."""
        found = subprocess.run(['ip', 'netns', 'pids', self.names[number]], capture_output=True, text=True)
        for process in found.stdout.split():
            try:
                os.kill(int(process), signal.SIGKILL)
            except ProcessLookupError:
                continue

    def cut(self, number: int) -> None:
        """Pull a host's plug from the switch."""
        ip('-n', self.switch, 'link', 'set', f'port{number}', 'down')

    def wait(self, number: int, seconds: float) -> int:
        """The exit code of what was started on a host.

        Raises:
            subprocess.TimeoutExpired: It did not end in time.
        """
        return self.processes[number].wait(seconds)

    def wait_for(self, path: Path, seconds: float) -> None:
        """Until a file is there."""
        end = time.monotonic() + seconds
        while not path.exists():
            assert time.monotonic() < end, f'{path} was not written:\n{self.output(0).read_text()}'
            assert all(process.poll() is None for process in self.processes), self.output(0).read_text()
            time.sleep(0.05)


@contextmanager
def hosts(count: int, folder: Path) -> Iterator[Hosts]:
    """So many hosts, taken down again with all that runs on them."""
    made = Hosts(count, folder)
    try:
        made.open()
        yield made
    finally:
        made.close()
