"""Operations: what is declared of each address: who may call it, with what, and what it answers.

The walk to the handler (door.py) and the OpenAPI document (document.py) both follow these declarations, so that the one
cannot say what the other does not do.
"""

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from typing import Any, Final, TypedDict, TypeVar, Unpack, get_type_hints

import msgspec

Run = Callable[..., Awaitable[Any]]
F = TypeVar("F", bound=Run)

ROOT: Final = "/api/v1"
OK, CREATED, NO_CONTENT = 200, 201, 204
PARAMETERS: Final = {
    "handle": ("{handle:path}", ".+"),
    **{name: (f"{{{name}:str}}", "[^/]+") for name in ("id", "participant", "message", "invitation")},
}
"""What may stand in braces in a path: as it is routed to, and as it is matched. A handle may have a slash."""


class Callers(Enum):
    """Who may call."""

    ANYBODY = "anybody"
    """Also without a credential."""
    KNOWN = "known"
    AGENT = "agent"
    USER = "user"
    OPERATOR = "operator"


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One address and method.

    Args:
        run: Takes the call, and as `body` and `query` what its own annotations name; answers the data.
        noun: The heading that it stands under in the document.
        method: GET, POST, PUT, PATCH or DELETE.
        path: Below the root, with `{id}` for an id, or `{handle}` at its end for a handle; behind an id, what is part
            of that in braces of its own.
        callers: Who may call.
        scopes: What the caller's key must have.
        body: The type of the body; None for none.
        query: The type of the query; None for none.
        answer: The type of the data, or of an item on a page; a union where it depends; None where it is no JSON.
        status: Of a good answer.
        may_be_empty: It may answer 204, with nothing.
        errors: Status → reasons, beside those that follow from all the rest.
        secrets: Fields of the answer that are shown once, and null in a replay; `a.b` is field b of what a holds.
        takes_key: Whether it takes an idempotency key.
        needs_key: Whether it is only served with one.
        rate: The class of its rate limit; `stream` and `chain` count bytes.
        files: Other forms of the answer, by media type.
        is_rooted: Its path is below the root, and not one of the server itself.
    """

    run: Run
    noun: str
    method: str
    path: str
    callers: Callers = Callers.KNOWN
    scopes: tuple[str, ...] = ()
    body: Any = None
    query: Any = None
    answer: Any = None
    status: int = OK
    may_be_empty: bool = False
    errors: Mapping[int, str] = {}
    secrets: tuple[str, ...] = ()
    takes_key: bool = False
    needs_key: bool = False
    rate: str = "control"
    files: Mapping[str, str] = {}
    is_rooted: bool = True

    @property
    def full_path(self) -> str:
        """The path from the server's root."""
        return ROOT + self.path if self.is_rooted else self.path

    @property
    def parameters(self) -> tuple[str, ...]:
        """What stands in braces in the path, in order."""
        return tuple(re.findall(r"{(\w+)}", self.path))

    @property
    def name(self) -> str:
        """Unique among operations: the handler's name, and for another address of the same handler that too."""
        return self.run.__name__

    @property
    def is_page(self) -> bool:
        """Whether it answers a page of a list: its query says how many items one holds."""
        return self.query is not None and "limit" in self.query.__struct_fields__

    @property
    def needs_body(self) -> bool:
        """Whether an empty body is no body: it has fields that must be sent."""
        return self.body is not None and any(field.required for field in msgspec.structs.fields(self.body))

    @property
    def docs(self) -> tuple[str, str]:
        """One line, and what more there is to say."""
        summary, _, more = (inspect.getdoc(self.run) or "").partition("\n")
        return summary.rstrip("."), more.strip()


def as_route(path: str) -> str:
    """A path as Litestar routes to it."""
    for name, (routed, _) in PARAMETERS.items():
        path = path.replace(f"{{{name}}}", routed)
    return path


def as_pattern(path: str) -> re.Pattern[str]:
    """What the paths of requests match that go to a path."""
    pattern = re.escape(path)
    for name, (_, matched) in PARAMETERS.items():
        pattern = pattern.replace(re.escape(f"{{{name}}}"), matched)
    return re.compile(pattern)


class Declared(TypedDict, total=False):
    """What a noun says of an operation beside its path; see Operation."""

    answer: Any
    callers: Callers
    scopes: tuple[str, ...]
    status: int
    may_be_empty: bool
    errors: Mapping[int, str]
    secrets: tuple[str, ...]
    needs_key: bool
    rate: str
    files: Mapping[str, str]


class Noun:
    """The operations of one noun, in the order in which they are declared.

    Args:
        name: As it stands in the document.
        about: One sentence.
        is_rooted: False for addresses of the server itself, beside the API's root.
    """

    def __init__(self, name: str, about: str, *, is_rooted: bool = True) -> None:
        self.name = name
        self.about = about
        self.operations: list[Operation] = []
        self._is_rooted = is_rooted

    def get(self, path: str, **declared: Unpack[Declared]) -> Callable[[F], F]:
        """Declare a question."""
        return self._declare("GET", path, declared)

    def post(self, path: str, **declared: Unpack[Declared]) -> Callable[[F], F]:
        """Declare what makes or does something; with a caller, it takes an idempotency key."""
        return self._declare("POST", path, declared)

    def put(self, path: str, **declared: Unpack[Declared]) -> Callable[[F], F]:
        """Declare what changes something that is always there."""
        return self._declare("PUT", path, declared)

    def patch(self, path: str, **declared: Unpack[Declared]) -> Callable[[F], F]:
        """Declare what changes something."""
        return self._declare("PATCH", path, declared)

    def delete(self, path: str, **declared: Unpack[Declared]) -> Callable[[F], F]:
        """Declare what ends something."""
        return self._declare("DELETE", path, declared)

    def _declare(self, method: str, path: str, declared: Declared) -> Callable[[F], F]:
        def declare(run: F) -> F:
            types = get_type_hints(run)
            query = types.get("query")
            takes_key = method == "POST" and declared.get("callers") is not Callers.ANYBODY
            operation = Operation(
                run=run,
                noun=self.name,
                method=method,
                path=path,
                body=types.get("body"),
                query=query,
                is_rooted=self._is_rooted,
                takes_key=takes_key,
                **declared,
            )
            self.operations.append(operation)
            return run

        return declare
