"""The client's wheel, and fresh virtual environments with it, as an agent's author has them."""

import os
import subprocess
import sys
import venv
from pathlib import Path

from tests.system.harness import ROOT

CLIENT = ROOT / "agrenting/client"
LOCKS = ROOT / "tests/system/locks"
INSTALL_TIMEOUT_S = 300.0


def build_client(folder: Path) -> Path:
    """Build the client's wheel of this checkout."""
    command = [sys.executable, "-P", "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=CLIENT, check=True, capture_output=True, timeout=INSTALL_TIMEOUT_S)
    (wheel,) = folder.glob("*.whl")
    return wheel


class Environment:
    """A virtual environment of its own, in which nothing of this checkout is found.

    Args:
        folder: Where it is made.
        lock: What is installed in it first, by hash.
        wheel: What is installed then, with nothing more from anywhere: what it needs has to be there.
    """

    def __init__(self, folder: Path, *, lock: str, wheel: Path) -> None:
        self.folder = folder
        venv.create(folder, with_pip=True)
        self.bin = folder / ("Scripts" if os.name == "nt" else "bin")
        self.python = str(self.bin / "python")
        uv = [sys.executable, "-m", "uv", "--quiet", "pip", "install", "--python", self.python]
        self.run(*uv, "--require-hashes", "-r", str(LOCKS / lock))
        self.pip("install", "--no-index", str(wheel))

    def pip(self, *arguments: str) -> str:
        """Run pip; what it says."""
        return self.run(self.python, "-m", "pip", "--disable-pip-version-check", *arguments)

    def run(self, *command: str, given: str | None = None) -> str:
        """Run a command; its standard output. It has to succeed."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=bare_environment(self.bin),
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=INSTALL_TIMEOUT_S,
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def script(self, text: str, *arguments: str) -> str:
        """Run a script, with warnings as errors."""
        return self.run(self.python, "-W", "error", "-", *arguments, given=text)


def bare_environment(bin_folder: Path) -> dict[str, str]:
    """The process's environment without anything of ours or of Python's, and with the commands of that folder first."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AGRENTING_", "PYTHON", "COV"))}
    return {**kept, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
