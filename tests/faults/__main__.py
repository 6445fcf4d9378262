"""All faults: ``python -m tests.faults``. The last line is ``{"survived": n, "tried": n}``; arguments go to pytest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> int:
    """Run all tests of this folder; 0 if all faults were survived."""
    with tempfile.TemporaryDirectory() as folder:
        tally = Path(folder) / 'tally'
        tally.touch()
        environment = {**os.environ, 'MLCLS_FAULTS': 'full', 'MLCLS_FAULTS_TALLY': str(tally)}
        command = [sys.executable, '-m', 'pytest', '-q', str(Path(__file__).parent), *sys.argv[1:]]
        code = subprocess.run(command, env=environment).returncode
        kinds = [line.split()[0] for line in tally.read_text().splitlines()]
    survived, tried = kinds.count('survived'), kinds.count('tried')
    print(json.dumps({'survived': survived, 'tried': tried}), flush=True)
    return code or int(survived != tried)


if __name__ == '__main__':
    sys.exit(main())
