"""The client is a package of its own: what it imports, what its wheel is made of, what is pinned for its tests."""

import ast
import sys
import tomllib
from pathlib import Path

import pytest

from tests.test_house import ROOT, pins

CLIENT = ROOT / "agrenting/client"
SOURCES = sorted({*CLIENT.rglob("*.py")} - {CLIENT / "hatch_build.py"})
PROJECT = tomllib.loads((CLIENT / "pyproject.toml").read_text("utf-8"))["project"]
DEPENDENCIES = {requirement.partition(">")[0] for requirement in PROJECT["dependencies"]}
IMPORTED_AS = {"pynacl": "nacl"}


def absolute_imports(source: Path) -> set[str]:
    """The packages that a module names, whether at its top or later."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            assert node.module is not None
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(CLIENT)))
def test_a_module_imports_pythons_own_and_the_dependencies_and_the_seam_crypto(source: Path) -> None:
    allowed = {IMPORTED_AS.get(name, name) for name in DEPENDENCIES} | sys.stdlib_module_names
    if source.name == "_crypto.py":
        allowed |= {"crypto"}

    assert absolute_imports(source) - allowed == set()


def test_every_dependency_is_imported_by_the_client_or_by_crypto() -> None:
    sources = [*SOURCES, *(ROOT / "crypto").glob("*.py")]
    imported = set[str]().union(*(absolute_imports(source) for source in sources))

    assert {IMPORTED_AS.get(name, name) for name in DEPENDENCIES} - imported == set()


def test_the_import_of_crypto_is_one_statement_at_the_top_of_the_seam() -> None:
    tree = ast.parse((CLIENT / "_crypto.py").read_text("utf-8"))

    assert [
        ast.unparse(node).partition("(")[0].split()[:2] for node in tree.body if isinstance(node, ast.ImportFrom)
    ] == [["from", "crypto"]]


@pytest.mark.parametrize("lock", ["client.lock", "beside.lock"])
def test_the_locks_of_the_wheels_tests_hold_every_dependency_as_the_server_pins_it(lock: str) -> None:
    pinned = pins(f"tests/system/locks/{lock}")

    assert DEPENDENCIES - pinned.keys() == set()
    assert {name: pinned[name] for name in DEPENDENCIES}.items() <= pins("requirements.lock").items()
    assert lock == "client.lock" or {"channels", "django", "pycryptodome"} <= pinned.keys()
