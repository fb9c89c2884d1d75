"""Running a command of the command line, as scripts do."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from agrenting.demo.children import environment
from agrenting.demo.desk import DemoFailed

TIMEOUT_S: Final = 60.0


def run_command(folder: Path, *arguments: str) -> Any:
    """What a command answers as JSON about a data folder.

    Raises:
        DemoFailed: It answers nothing, or not in time.
    """
    command = ["-m", "agrenting", *arguments, "--json", "--data-dir", str(folder)]
    try:
        done = subprocess.run(  # noqa: S603 - our own command
            [sys.executable, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            env=environment(),
            timeout=TIMEOUT_S,
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        raise DemoFailed(f"agrenting {arguments[0]} took more than {TIMEOUT_S:.0f} s") from None
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise DemoFailed(f"agrenting {arguments[0]} failed: {done.stderr.strip()}") from None
