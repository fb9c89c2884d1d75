"""Schemas of the types that bodies are decoded to and that answers have.

msgspec writes them. What stands in a docstring's Args becomes the description of that field; a field of an answer is
required, for answers always have them all.

Source: JSON Schema 2020-12, as OpenAPI 3.1 uses it.
"""

import inspect
import re
from collections.abc import Iterable
from enum import Enum
from typing import Any, Final, cast, get_args

import msgspec
from msgspec import UnsetType

from agrenting.api import money

REF: Final = "#/components/schemas/{name}"
SECTION: Final = re.compile(r"^(Args|Raises|Returns|Source):", re.MULTILINE)
ARGUMENT: Final = re.compile(r"^ {4}(\w[\w, ]*?): ", re.MULTILINE)

Schema = dict[str, Any]


class ErrorDetail(msgspec.Struct, frozen=True, kw_only=True):
    """What was refused.

    Args:
        code: Stable, for programs.
        message: One sentence, for people.
        request_id: Names the request in the server's log.
        details: For 422, JSON pointer → sentences; otherwise what the server knows of it.
        context: For 422, what the server knows of it.
    """

    code: str
    message: str
    request_id: str
    details: dict[str, Any] | UnsetType = msgspec.UNSET
    context: dict[str, Any] | UnsetType = msgspec.UNSET


class Error(msgspec.Struct, frozen=True):
    """A refusal."""

    error: ErrorDetail


class Schemas:
    """The schemas of many types, each once, by name.

    Args:
        taken: What comes in as bodies.
        asked: What comes in as queries; these are described as parameters, and are no components.
        told: What goes out; what is in both is described as what comes in.
    """

    def __init__(self, *, taken: Iterable[Any], asked: Iterable[Any], told: Iterable[Any]) -> None:
        queries = {*asked}
        inputs = _named_in({*taken, *queries})
        types = sorted({*inputs, *_named_in(told)}, key=lambda type_: (type_.__name__, type_.__module__))
        refs, components = msgspec.json.schema_components(types, ref_template=REF)
        own_names = [_name_of(ref) for ref in refs]
        names = {name: _plain_name(name) for name in own_names}
        self._names = {type_: names[name] for type_, name in zip(types, own_names, strict=True)}
        self.components: dict[str, Schema] = {}
        self._queries: dict[Any, Schema] = {}
        for type_, name in zip(types, own_names, strict=True):
            schema = _described(type_, components[name])
            if type_ not in inputs:
                schema = _answered(type_, schema)
            if type_ in queries:
                self._queries[type_] = _patched(schema, names)
            else:
                self.components[names[name]] = _patched(schema, names)

    def ref(self, type_: Any) -> Schema:
        """A reference to a type's schema."""
        return {"$ref": REF.format(name=self._names[type_])}

    def of_query(self, type_: Any) -> Schema:
        """The schema of a query."""
        return self._queries[type_]


def _named_in(types: Iterable[Any]) -> set[Any]:
    """The structs and enums among types, and in their fields."""
    found: set[Any] = set()
    waiting = [*types]
    while waiting:
        type_ = waiting.pop()
        waiting += get_args(type_)
        if type_ in found or not isinstance(type_, type) or type_ is UnsetType:
            continue
        if issubclass(type_, msgspec.Struct):
            found.add(type_)
            waiting += [field.type for field in msgspec.structs.fields(type_)]
        elif issubclass(type_, Enum):
            found.add(type_)
    return found


def _name_of(ref: Schema) -> str:
    return str(ref["$ref"]).rpartition("/")[2]


def _plain_name(name: str) -> str:
    """Where two types have one name, msgspec puts the module before it: `channels.negotiation.Phase`."""
    *_, module, own = ("", *name.split("."))
    return "".join(part.capitalize() for part in module.split("_")) + own


def _described(type_: Any, schema: Schema) -> Schema:
    """A schema whose descriptions are those of the docstring, part by part."""
    text = inspect.cleandoc(type_.__doc__ or "")
    about, *sections = SECTION.split(text)
    schema = {**schema, "description": about.strip()}
    if "properties" not in schema or "Args" not in sections:
        return schema
    arguments = inspect.cleandoc("\n" + sections[sections.index("Args") + 1])
    _, *parts = ARGUMENT.split("\n".join(f"    {line}" for line in arguments.splitlines()))
    properties = dict(schema["properties"])
    for named, description in zip(parts[::2], parts[1::2], strict=True):
        for name in re.split(r", ?", named):
            if name in properties:
                properties[name] = {**properties[name], "description": " ".join(description.split())}
    return {**schema, "properties": properties}


def _answered(type_: Any, schema: Schema) -> Schema:
    """The schema of what is answered: every field is there, but for those that may be left out."""
    if "properties" not in schema:
        return schema
    fields = msgspec.structs.fields(type_)
    optional = {field.encode_name for field in fields if UnsetType in get_args(field.type)}
    properties = {
        name: {key: value for key, value in field.items() if key != "default"}
        for name, field in schema["properties"].items()
    }
    return {**schema, "properties": properties, "required": [name for name in properties if name not in optional]}


def _patched(node: Any, names: dict[str, str]) -> Any:
    """A schema with plain names in its references, and the forms of money where money is meant."""
    if isinstance(node, list | tuple):
        return [_patched(item, names) for item in cast("list[Any]", node)]
    if not isinstance(node, dict):
        return node
    schema = cast("Schema", node)
    if schema.get("format") == money.FORMAT:
        others = [form for form in schema["anyOf"] if form.get("type") not in {"integer", "string"}]
        schema = {**{key: value for key, value in schema.items() if key != "format"}, "anyOf": [*money.FORMS, *others]}
    if "$ref" in schema:
        return {**schema, "$ref": REF.format(name=names[_name_of(schema)])}
    return {key: _patched(value, names) for key, value in schema.items()}
