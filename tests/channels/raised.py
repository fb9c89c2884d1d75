"""What the code refuses with: read from its syntax trees, for comparison with PROTOCOL.md."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple

import agrenting
import channels
import crypto
from agrenting.api import errors as http
from channels import errors
from channels.errors import Refusal
from channels.identity import Identity

PACKAGES = (channels, agrenting, crypto)
NOT_SERVERS = {"client", "demo"}
"""Parts of the server's package that hear refusals, and raise none of the protocol's."""

KINDS: dict[str, type[Refusal]] = {
    name: value
    for module in (errors, http)
    for name, value in vars(module).items()
    if isinstance(value, type) and issubclass(value, Refusal)
}
"""The classes of refusals, by the names that they are raised by."""

METHODS: dict[str, Callable[..., Any]] = {
    name: getattr(Identity, name) for name in ("require_agent", "require_cap", "require_scope")
}
"""Methods that refuse, by the names that they are called by."""


class Site(NamedTuple):
    """A place where a reason is given.

    Args:
        kind: The class of the refusal; None where the reason is put into a reply, or stands as an attribute.
        fields: Of the context that is named there.
        is_open: Whether more fields may come that are not named there.
        file: Where.
    """

    reason: str
    kind: type[Refusal] | None
    fields: frozenset[str]
    is_open: bool
    file: str


def sites() -> list[Site]:
    """Every place of the server's code that gives a reason."""
    found: list[Site] = []
    for package in PACKAGES:
        folder = Path(package.__path__[0])
        for path in sorted(folder.rglob("*.py")):
            if not NOT_SERVERS & {*path.relative_to(folder).parts}:
                tree = ast.parse(path.read_text("utf-8"))
                found += [site for node in ast.walk(tree) for site in _sites(node, f"{folder.name}/{path.name}")]
    return found


def _sites(node: ast.AST, file: str) -> Iterator[Site]:
    match node:
        case ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=str(reason)), *_]) if name in KINDS:
            named = [keyword.arg for keyword in node.keywords]
            yield Site(reason, KINDS[name], frozenset(arg for arg in named if arg), None in named, file)
        case ast.Dict():
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "reason" and isinstance(value, ast.Constant):
                    yield Site(str(value.value), None, frozenset(), is_open=True, file=file)
        case ast.Assign(targets=[ast.Name(id="reason")], value=ast.Constant(value=str(reason))):
            yield Site(reason, None, frozenset(), is_open=True, file=file)
        case _:
            pass


def reasons_of(*functions: Callable[..., Any]) -> list[str]:
    """The reasons that functions of `channels` refuse with, in the order in which their code comes to them.

    Calls of other functions of `channels` are followed. Where the code branches, one branch comes after the other.
    """
    found: list[str] = []
    for function in functions:
        found += _Order(function, ()).reasons()
    return list(dict.fromkeys(found))


class _Order:
    """Walks a function in the order in which it is run."""

    def __init__(self, function: Callable[..., Any], callers: tuple[Callable[..., Any], ...]) -> None:
        plain = inspect.unwrap(function)
        assert isinstance(plain, FunctionType)
        self._globals: dict[str, Any] = plain.__globals__
        self._tree = ast.parse(textwrap.dedent(inspect.getsource(plain)))
        self._callers = (*callers, function)
        self._caught: list[Any] = []

    def reasons(self) -> list[str]:
        return list(self._walk(self._tree))

    def _walk(self, node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.ExceptHandler) and node.type is not None:
            names = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            self._caught = [self._globals.get(name.id) for name in names if isinstance(name, ast.Name)]
        for child in ast.iter_child_nodes(node):
            yield from self._walk(child)
        if isinstance(node, ast.Call):
            yield from self._called(node)

    def _called(self, call: ast.Call) -> Iterator[str]:
        match call.func:
            case ast.Attribute(attr=name) if name in METHODS:
                yield from self._follow(METHODS[name])
            case ast.Name(id=name):
                target = self._globals.get(name)
                if isinstance(target, type) and issubclass(target, Refusal):
                    yield from self._given(call.args[0])
                elif isinstance(target, FunctionType) and target.__module__.startswith("channels."):
                    yield from self._follow(target)
            case _:
                pass

    def _follow(self, target: Callable[..., Any]) -> Iterator[str]:
        if target not in self._callers:
            yield from _Order(target, self._callers).reasons()

    def _given(self, reason: ast.expr) -> Iterator[str]:
        if isinstance(reason, ast.Constant):
            yield str(reason.value)
        elif isinstance(reason, ast.Attribute) and reason.attr == "reason":  # `error.reason`, of what was caught.
            yield from (caught.reason for caught in self._caught)
