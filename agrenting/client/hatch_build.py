"""Builds the client's wheel: what stands here becomes `agrenting_client`, with a copy of `crypto` inside it.

In the repository the client imports the package `crypto` through one seam, `_crypto.py`. In the wheel the seam imports
the copy, so that nothing called `crypto`, `channels` or `agrenting` is installed: other distributions have such names.
"""

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE: Final = "agrenting_client"
SEAM: Final = "_crypto.py"
IN_THE_REPOSITORY: Final = "from crypto import ("
IN_THE_WHEEL: Final = "from .crypto import ("
NOT_OF_THE_PACKAGE: Final = ("__pycache__", "LICENSE", "README.md", "dist", "hatch_build.py", "pyproject.toml")

_OURS_ABSOLUTE: Final = re.compile(r"^\s*(?:from|import)\s+(?:agrenting|channels|crypto|migrations)\b", re.MULTILINE)


class CannotBuild(Exception):
    """The sources are not such that a wheel of them would work."""


class ClientBuildHook(BuildHookInterface[Any]):
    """Puts the package together in a folder that is gone after the build."""

    _staging: "tempfile.TemporaryDirectory[str] | None" = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Before the build.

        Raises:
            CannotBuild: The seam has another form, or there is a second one.
        """
        if version != "standard":
            raise CannotBuild("the client is installed from its wheel; in the repository it is agrenting.client")
        self._staging = tempfile.TemporaryDirectory()
        package = Path(self._staging.name) / PACKAGE
        stage(Path(self.root), package)
        build_data["force_include"][str(package)] = PACKAGE

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002 - hatchling's shape.
        """After the build."""
        if self._staging is not None:
            self._staging.cleanup()


def stage(client: Path, package: Path) -> None:
    """Put the package together.

    Args:
        client: The folder of the client's sources, in the repository.
        package: The folder that becomes the package; it is made.

    Raises:
        CannotBuild: The seam has another form, or there is a second one.
    """
    crypto = client.parents[1] / "crypto"
    shutil.copytree(client, package, ignore=lambda _folder, names: {*names} & {*NOT_OF_THE_PACKAGE})
    shutil.copytree(crypto, package / "crypto", ignore=shutil.ignore_patterns("__pycache__"))
    _turn(package / SEAM)
    for source in sorted(package.rglob("*.py")):
        if found := _OURS_ABSOLUTE.search(source.read_text("utf-8")):
            raise CannotBuild(f"{source.relative_to(package)}: `{found[0].strip()}` is not in the wheel")


def _turn(seam: Path) -> None:
    text = seam.read_text("utf-8")
    times = text.count(IN_THE_REPOSITORY)
    if times != 1:
        raise CannotBuild(f"{SEAM} has to say `{IN_THE_REPOSITORY}` once, and says it {times} times")
    seam.write_text(text.replace(IN_THE_REPOSITORY, IN_THE_WHEEL), "utf-8")
