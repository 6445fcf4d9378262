"""Many trainings side by side: each a process of one thread, kept when done; used by the comparisons."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
#: What one training and its test found.
Record = dict[str, Any]


@dataclass(frozen=True)
class Experiment:
    """One row of a table.

    Args:
        name: Unique name.
        config: Config file, relative to the project.
        options: Overrides of single settings.
    """

    name: str
    config: str
    options: dict[str, Any] = field(default_factory=dict)


def run_in_process(script: str, experiment: Experiment, seed: int, work: Path) -> Record:
    """One run, ``script --run NAME --seeds SEED --to FILE``, in a process of its own; or what an earlier one left."""
    target = work / f'{experiment.name}_{seed}.json'
    if not target.is_file():
        command = [sys.executable, script, '--run', experiment.name, '--seeds', str(seed), '--to', str(target)]
        log = work / f'{experiment.name}_{seed}.log'
        with log.open('w') as file:
            done = subprocess.run(
                command, stdout=file, stderr=file, env={**os.environ, 'OMP_NUM_THREADS': '1'}, cwd=ROOT, check=False
            )
        if done.returncode:
            raise SystemExit(f'{experiment.name}, seed {seed} failed; its log: {log}')
    return json.loads(target.read_text())


def run_all(
    script: str,
    experiments: Sequence[Experiment],
    seeds: Sequence[int],
    jobs: int,
    work: Path,
    shown: Callable[[Record], str],
) -> dict[str, list[Record]]:
    """Run every experiment with every seed, ``jobs`` at a time, in the order given.

    Args:
        script: Whose ``--run`` trains and tests one experiment.
        experiments: What to run; the longest first, so that no single one is waited for at the end.
        seeds: Each experiment runs with all.
        jobs: Processes at a time.
        work: Folder of logs and records; what is there is not run again.
        shown: What the console says of a record.

    Returns:
        The records by experiment, in the order of the seeds.
    """
    work.mkdir(parents=True, exist_ok=True)

    def run(experiment: Experiment, seed: int) -> Record:
        record = run_in_process(script, experiment, seed, work)
        print(f'{experiment.name} seed {seed}: {shown(record)}', flush=True)
        return record

    with ThreadPoolExecutor(jobs) as pool:
        futures = {(e.name, seed): pool.submit(run, e, seed) for seed in seeds for e in experiments}
    return {e.name: [futures[e.name, seed].result() for seed in seeds] for e in experiments}
