"""A process that has loaded everything a run needs, and forks a child for each run that is asked of it.

Loading takes seconds, a fork milliseconds: a fault costs little more than its training. Requests and answers are lines
of JSON on the standard streams; see `serve`.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import sys
import threading
import time
import traceback
from runpy import run_path
from typing import Any

import torch
from PIL import Image

from tests.faults import places


def preload() -> None:
    """Import what a run would import late."""
    for name in (
        'mlcls.apis',
        'mlcls.engine',
        'mlcls.models',
        'mlcls.datasets',
        'mlcls.evaluation',
        'cv2',
        'torchvision',
        'safetensors.torch',
        'torch.utils.tensorboard',
        'torch._dynamo',
        'matplotlib.pyplot',
        'mmcv.transforms',
        'mlcls.evaluation.report',
        'mmengine.utils.dl_utils',
    ):
        importlib.import_module(name)
    Image.init()


def run(request: dict[str, Any]) -> None:
    """The child: one training, as the command line would do it; ends by SystemExit or by a fault."""
    output = os.open(request['output'], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.setpgid(0, 0)
    if 'command' in request:
        run_command_line(request)
    else:
        run_training(request)


def run_command_line(request: dict[str, Any]) -> None:
    """A Python file with arguments, in an environment of its own, with the hooks of tests of the engine."""
    os.environ.clear()
    os.environ.update(request['env'])
    importlib.import_module('tests.engine.ranks')
    sys.argv = request['command']
    run_path(sys.argv[0], run_name='__main__')


def run_training(request: dict[str, Any]) -> None:
    """A training with faults."""
    from mlcls.apis import TrainFlags, train
    from mlcls.apis.cli import run_command

    os.environ.update(request.get('env', {}))
    sys.argv = ['tools/train.py', request['config']]
    places.install(request.get('faults', []), request['ledger'])
    if os.environ.get('MLCLS_FAULTS_IMPORTS'):  # what `preload` forgot
        known, began = set(sys.modules), time.monotonic()
        try:
            train(request['config'], TrainFlags(**request['flags']), request['options'])
        finally:
            print(time.monotonic() - began, sorted(set(sys.modules) - known))
        return
    run_command(lambda: train(request['config'], TrainFlags(**request['flags']), request['options']))


def serve() -> None:
    """Answer requests until the input ends.

    ``{"do": "start", ...}`` forks a child and answers ``{"pid": n}``; ``{"do": "wait", "pid": n, "seconds": s}``
    answers ``{"code": c}``: the exit code, minus the signal that ended it, or null if it still runs.
    """
    torch.set_num_threads(1)
    preload()
    gc.freeze()
    print(json.dumps({'ready': True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if request['do'] == 'wait':
            answer = {'code': wait(request['pid'], request['seconds'])}
        else:
            pid = os.fork()
            if pid == 0:
                run_and_leave(request)
            answer = {'pid': pid}
        print(json.dumps(answer), flush=True)


def run_and_leave(request: dict[str, Any]) -> None:
    """A run in this process, which ends with it: as any process of Python does, but for the seconds in which that would
    take all modules apart."""
    code: Any = 0
    try:
        run(request)
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


def wait(pid: int, seconds: float) -> int | None:
    """Exit code of a child; None if it still runs."""
    end = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            return None
        time.sleep(0.005)


if __name__ == '__main__':
    serve()
