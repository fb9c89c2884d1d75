"""What the package may lean on, and what it shows."""

import ast
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import crypto
from crypto import CryptoError, errors

PACKAGE = Path(crypto.__file__).parent
SOURCES = sorted(PACKAGE.glob("*.py"))
SIGNATURE_CALLS = {"crypto_sign", "crypto_sign_open"}
REFUSALS = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, CryptoError) and hasattr(value, "reason")
]


def imported_modules(tree: ast.Module) -> Iterator[str]:
    """Every absolute import; relative ones stay inside by nature."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_only_the_standard_library_nacl_and_the_package_itself_are_imported_by(source: Path) -> None:
    imported = {module.split(".")[0] for module in imported_modules(ast.parse(source.read_text("utf-8")))}

    assert imported - sys.stdlib_module_names <= {"nacl"}
    assert not imported & {"asyncio", "datetime", "io", "logging", "os", "pathlib", "random", "secrets", "time", "uuid"}


def test_signing_and_verifying_stand_in_one_file() -> None:
    calling = {
        source.name
        for source in SOURCES
        for node in ast.walk(ast.parse(source.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in SIGNATURE_CALLS
    }

    assert calling == {"signing.py"}


def test_every_public_name_is_there_once_and_documented() -> None:
    constants_first = sorted(set(crypto.__all__), key=lambda name: (not name.isupper(), name))

    assert constants_first == crypto.__all__
    assert [name for name in crypto.__all__ if not inspect.getdoc(getattr(crypto, name))] == []


def test_every_refusal_is_public_has_a_reason_of_its_own_and_stands_in_the_tree() -> None:
    assert {refusal.__name__ for refusal in REFUSALS} <= set(crypto.__all__)
    assert len({refusal.reason for refusal in REFUSALS}) == len(REFUSALS)
    for refusal in REFUSALS:
        assert f"── {refusal.__name__} " in str(errors.__doc__)
        assert refusal.reason in str(errors.__doc__)


def test_the_types_are_published() -> None:
    assert (PACKAGE / "py.typed").is_file()
