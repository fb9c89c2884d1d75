"""The repository keeps its own rules: nothing of one machine in it, one version, pinned dependencies, reasons given."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

import agrenting

ROOT = Path(__file__).resolve().parent.parent
FILE_BYTES_MAX = 400 * 1024
PYPROJECT = (ROOT / "pyproject.toml").read_text("utf-8")
PROJECT = tomllib.loads(PYPROJECT)["project"]

TOP_LEVEL = {
    *("agrenting", "channels", "crypto", "migrations", "tests"),
    *("benchmarks", "docs", "examples", ".ci"),
    *("CHANGELOG.md", "LICENSE", "Makefile", "README.md", "pyproject.toml"),
    *("requirements.lock", "requirements-dev.lock", "requirements-page.lock"),
    *(".editorconfig", ".gitignore", ".pre-commit-config.yaml"),
}
REGISTRY_HOST = re.compile(r"p[y]pi\.(?:org|io)|python[h]osted|npm[j]s\.|yarn[p]kg\.")  # It does not match itself.
MACHINE_PATH = re.compile(r"(?<![\w.~$/}*-])/(?:home|Users|root|work)/\w")
PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[\w+\])?==([^\s;\\]+)", re.MULTILINE)


@cache
def repository_files() -> tuple[Path, ...]:
    """Files that git tracks or would add: what ends up in a commit."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("This is no git checkout, so nothing lists the repository's files.")
    command = [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return tuple(path for name in listed.split("\0") if name and (path := ROOT / name).is_file())


def places(pattern: re.Pattern[str]) -> list[str]:
    """Every line in the repository that holds the pattern, as `file:line: match`."""
    return [
        f"{path.relative_to(ROOT)}:{number}: {match.group()}"
        for path in repository_files()
        for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), start=1)
        if (match := pattern.search(line))
    ]


def pins(lock: str) -> dict[str, str]:
    return dict(PIN.findall((ROOT / lock).read_text("utf-8")))


def test_no_file_names_a_package_registry() -> None:
    assert places(REGISTRY_HOST) == []


def test_no_file_holds_a_path_of_somebodys_machine() -> None:
    assert places(MACHINE_PATH) == []


def test_no_file_is_larger_than_a_source_file_should_be() -> None:
    sizes = {str(path.relative_to(ROOT)): path.stat().st_size for path in repository_files()}

    assert {name: size for name, size in sizes.items() if size > FILE_BYTES_MAX} == {}


def test_the_top_level_holds_only_what_has_a_reason_to_stand_there() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in repository_files()} - TOP_LEVEL == set()


def test_every_folder_of_tests_is_a_package() -> None:
    """Without `__init__.py`, `tests/channels` would be imported as `channels` and shadow the package."""
    folders = {path.parent for path in (ROOT / "tests").rglob("*.py") if "node_modules" not in path.parts}

    assert [str(folder.relative_to(ROOT)) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


@pytest.mark.parametrize(
    "lock",
    [
        *("requirements.lock", "requirements-dev.lock", "requirements-page.lock"),
        *("tests/system/locks/client.lock", "tests/system/locks/beside.lock"),
    ],
)
def test_a_python_lock_pins_every_package_by_hash_and_names_no_host(lock: str) -> None:
    text = (ROOT / lock).read_text("utf-8")
    requirements = [entry for entry in re.split(r"\n(?=\w)", text) if re.match(r"\w", entry)]

    assert requirements
    assert [entry for entry in requirements if not PIN.match(entry) or "--hash=sha256:" not in entry] == []
    assert "://" not in text


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-page.lock"])
def test_the_lock_of_the_tools_holds_every_pin_of_the_others(lock: str) -> None:
    assert pins(lock).items() - pins("requirements-dev.lock").items() == set()


def test_the_lock_of_the_server_pins_every_dependency_that_the_project_declares() -> None:
    declared = {re.split(r"[\[<>=;\s]", requirement)[0] for requirement in PROJECT["dependencies"]}

    assert declared - pins("requirements.lock").keys() == set()


@pytest.mark.parametrize("folder", ["agrenting/dashboard", "tests/system/js"])
def test_a_javascript_lock_pins_by_checksum_and_names_no_host(folder: str) -> None:
    packages = json.loads((ROOT / folder / "package-lock.json").read_text("utf-8"))["packages"]
    installed = [package for name, package in packages.items() if name]

    assert installed
    assert all("integrity" in package and "resolved" not in package for package in installed)


def test_every_ignored_lint_rule_has_a_reason_beside_it() -> None:
    start, end = PYPROJECT.index("\nignore = ["), PYPROJECT.index("[tool.ruff.lint.flake8-annotations]")
    ignoring = [line for line in PYPROJECT[start:end].splitlines() if re.search(r'"[A-Z]+\d*"', line)]

    assert ignoring
    assert [line for line in ignoring if not re.search(r"# \w.{10,}\.$", line)] == []


def test_the_package_and_the_project_have_one_version_and_the_changelog_tells_of_it() -> None:
    version = PROJECT["version"]

    assert agrenting.__version__ == version
    assert f"\n## [{version}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_continuous_integration_can_be_started() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


@pytest.mark.parametrize(
    "absence",
    ["def test_bob():\n    pytest.skip('Bob is away')", "pytest.skip('Bob is away', allow_module_level=True)"],
    ids=["one test", "a module"],
)
@pytest.mark.parametrize(("ci", "is_passing"), [("true", False), ("", True)])
def test_a_skip_fails_the_run_under_ci_alone_and_says_why(
    tmp_path: Path, absence: str, ci: str, *, is_passing: bool
) -> None:
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_bob.py").write_text(f"import pytest\n\n{absence}\n", "utf-8")
    (tmp_path / "test_alice.py").write_text(EXPECTED_FAILURE, "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "."]

    run = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (run.returncode == 0) is is_passing, run.stdout + run.stderr
    assert "Bob is away" in run.stdout
    assert "1 xfailed" in run.stdout or not is_passing


EXPECTED_FAILURE = """
import pytest

@pytest.mark.xfail(reason="Alice is known to fail here.")
def test_alice():
    raise AssertionError
"""
