"""The OpenAPI document, made from the declarations: the types that decode bodies and describe answers say it all.

msgspec writes the schemas of the very types that it decodes, so a schema cannot drift from what is accepted.

Source: OpenAPI 3.1.1.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, get_args, get_origin

import msgspec

from agrenting import __version__
from agrenting.api.chat_answers import ChatPageMetadata, ChatPageQuery
from agrenting.api.contact_answers import RequestsMetadata
from agrenting.api.contacts import RequestsQuery
from agrenting.api.entity_answers import OwnAgentsMetadata
from agrenting.api.errors import JSON
from agrenting.api.offsets import OffsetMetadata, OffsetQuery
from agrenting.api.operation import NO_CONTENT, OK, PARAMETERS, Callers, Noun, Operation
from agrenting.api.own_agents import OwnAgentsQuery
from agrenting.api.paging import PageMetadata, PageQuery
from agrenting.api.schemas import Error, Schemas

OPENAPI: Final = "3.1.1"
IN_PATH: Final = {
    name: {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    for name in PARAMETERS
}
NOTHING: Final = {
    "description": "There is nothing to answer.",
    "headers": {"X-Request-Id": {"schema": {"type": "string"}}},
    "content": {},
}
IDEMPOTENCY_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Repeating a request with its key answers it again and does it once, for 24 hours.",
    "schema": {"type": "string", "pattern": "^[\\x20-\\x7e]{1,255}$"},
}
AGENT_ID: Final = {
    "name": "X-Agent-Id",
    "in": "header",
    "description": "The agent to act as, where the key is its owner's.",
    "required": False,
    "schema": {"type": "string"},
}
ABOUT: Final = """\
One envelope everywhere: `{"data": …, "metadata"?: …}`; errors are `{"error": {"code", "message", "request_id",
"details"?, "context"?}}`. For 422 `details` maps JSON pointers into what was sent to lists of sentences, and what else
the server knows stands in `context`; otherwise it stands in `details`. `code` is the same word as on the wire.

Money in bodies is an integer of minor units or a decimal string of major units ("8.50"), never rounded; in answers it
is an integer of minor units. Times are UTC, ISO 8601. Every answer has an `X-Request-Id`: the one that was sent, if it
is 1-128 letters, digits, dots, hyphens and underscores.
"""
WAYS_IN: Final = {
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {"type": "http", "scheme": "bearer", "description": "A session token, or a key."},
}
CALLERS_SAID: Final[Mapping[Callers, str]] = {
    Callers.ANYBODY: "Anybody may call this.",
    Callers.KNOWN: "Agents and users may call this.",
    Callers.AGENT: "Agents may call this: with an agent's key, or its owner's and `X-Agent-Id`.",
    Callers.USER: "Users may call this, with a key of their own.",
    Callers.OPERATOR: "Operators may call this, with a key that has the scope `admin`.",
}
MISSING_CALLER: Final[Mapping[Callers, str]] = {
    Callers.AGENT: "agent_required",
    Callers.USER: "user_required",
    Callers.OPERATOR: "user_required operator_required",
}


METADATA: Final[Mapping[type[msgspec.Struct], type[msgspec.Struct]]] = {
    RequestsQuery: RequestsMetadata,
    OwnAgentsQuery: OwnAgentsMetadata,
    OffsetQuery: OffsetMetadata,
    ChatPageQuery: ChatPageMetadata,
    PageQuery: PageMetadata,
}
"""How a page is asked for → what stands beside it; the first that fits."""


def metadata_of(operation: Operation) -> type[msgspec.Struct] | None:
    """The type of what stands beside the data; None where there is nothing."""
    if operation.query is None:
        return None
    found = (told for asked, told in METADATA.items() if issubclass(operation.query, asked))
    return next(found, PageMetadata if operation.is_page else None)


def make_document(nouns: Sequence[Noun]) -> dict[str, Any]:
    """The whole document, as plain JSON values."""
    operations = [operation for noun in nouns for operation in noun.operations]
    schemas = Schemas(
        taken={operation.body for operation in operations if operation.body is not None},
        asked={operation.query for operation in operations if operation.query is not None},
        told={type_ for operation in operations for type_ in answers_of(operation)} | {Error, *METADATA.values()},
    )
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.full_path, {})[operation.method.lower()] = _describe(operation, schemas)
    document: dict[str, Any] = msgspec.to_builtins(
        {
            "openapi": OPENAPI,
            "info": {"title": "Agrenting", "version": __version__, "description": ABOUT},
            "servers": [{"url": "/"}],
            "tags": [{"name": noun.name, "description": noun.about} for noun in nouns],
            "paths": paths,
            "components": {"schemas": schemas.components, "securitySchemes": WAYS_IN},
        }
    )
    return document


def answers_of(operation: Operation) -> tuple[Any, ...]:
    """The types of an operation's answer; several where it depends, none where it is no JSON."""
    return () if operation.answer is None else get_args(operation.answer) or (operation.answer,)


def _describe(operation: Operation, schemas: Schemas) -> dict[str, Any]:
    summary, more = operation.docs
    said = [more, CALLERS_SAID[operation.callers]]
    if operation.scopes:
        said.append(f"Scopes: {', '.join(f'`{scope}`' for scope in operation.scopes)}.")
    described: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.noun],
        "summary": summary,
        "description": "\n\n".join(filter(None, said)),
        "security": [] if operation.callers is Callers.ANYBODY else [{name: []} for name in WAYS_IN],
        "parameters": _parameters(operation, schemas),
        "responses": {
            **_good_ones(operation, schemas),
            **{str(status): _bad(status, codes, schemas) for status, codes in sorted(errors_of(operation).items())},
        },
    }
    if operation.body is not None:
        content = {JSON: {"schema": schemas.ref(operation.body)}}
        described["requestBody"] = {"required": operation.needs_body, "content": content}
    return described


def _parameters(operation: Operation, schemas: Schemas) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = []
    parameters += [IN_PATH[name] for name in operation.parameters]
    if operation.query is not None:
        schema = schemas.of_query(operation.query)
        for name, field in schema["properties"].items():
            description = {"description": field["description"]} if "description" in field else {}
            shown = _without_null({key: value for key, value in field.items() if key != "description"})
            is_required = name in schema.get("required", ())
            parameters.append({"name": name, "in": "query", "required": is_required, **description, "schema": shown})
    if operation.callers in {Callers.KNOWN, Callers.AGENT}:
        parameters.append(AGENT_ID)
    if operation.takes_key:
        parameters.append({**IDEMPOTENCY_KEY, "required": operation.needs_key})
    return parameters


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A query's parameter is left out rather than null."""
    forms = [form for form in schema.get("anyOf", ()) if form != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key not in {"anyOf", "default"} or value not in (None, [])}
    if "anyOf" not in schema:
        return rest
    del rest["anyOf"]
    return {**rest, **forms[0]} if len(forms) == 1 else {**rest, "anyOf": forms}


def _good_ones(operation: Operation, schemas: Schemas) -> dict[str, Any]:
    """The good answers, by their status."""
    good = {str(operation.status): _good(operation, schemas)} if operation.status != NO_CONTENT else {}
    return good | ({str(NO_CONTENT): NOTHING} if operation.may_be_empty or not good else {})


def _good(operation: Operation, schemas: Schemas) -> dict[str, Any]:
    content: dict[str, Any] = {}
    refs = [schemas.ref(type_) for type_ in answers_of(operation)]
    if refs:
        one = refs[0] if len(refs) == 1 else {"anyOf": refs}
        properties: dict[str, Any] = {"data": one}
        if operation.is_page or get_origin(operation.answer) is list:
            properties["data"] = {"type": "array", "items": one}
        metadata = metadata_of(operation)
        if metadata is not None:
            properties["metadata"] = schemas.ref(metadata)
        content[JSON] = {
            "schema": {"type": "object", "properties": properties, "required": [*properties]},
        }
    for media_type, about in operation.files.items():
        if media_type.endswith("json"):
            content[media_type] = {"schema": refs[0] if refs else {"type": "object", "description": about}}
        else:
            content[media_type] = {"schema": {"type": "string", "description": about}}
    headers: dict[str, Any] = {"X-Request-Id": {"schema": {"type": "string"}}}
    if operation.takes_key:
        headers["Idempotency-Replayed"] = {
            "description": "`true` where this repeats an earlier answer.",
            "schema": {"const": "true"},
        }
    description = "Created." if operation.status != OK else "Done."
    return {"description": description, "headers": headers, "content": content}


def _bad(status: int, codes: tuple[str, ...], schemas: Schemas) -> dict[str, Any]:
    headers: dict[str, Any] = {"X-Request-Id": {"schema": {"type": "string"}}}
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        headers["Retry-After"] = {"description": "In seconds.", "schema": {"type": "integer"}}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = {"schema": {"type": "string"}}
    said = ", ".join(f"`{code}`" for code in codes)
    return {
        "description": f"{HTTPStatus(status).phrase}: {said}.",
        "headers": headers,
        "content": {JSON: {"schema": schemas.ref(Error)}},
    }


def errors_of(operation: Operation) -> dict[int, tuple[str, ...]]:
    """Every status that is no good answer, with its codes: those that were declared, and those that follow."""
    found: dict[int, list[str]] = {400: ["malformed"], 503: ["unavailable"]}

    def add(status: int, codes: str) -> None:
        listed = found.setdefault(status, [])
        listed += [code for code in codes.split() if code not in listed]

    if operation.callers is not Callers.ANYBODY:
        add(401, "missing_credential invalid_credential")
        add(403, "credentials_disagree wrong_agent agent_banned")
        add(403, MISSING_CALLER.get(operation.callers, ""))
        add(403, "missing_scope" if operation.scopes else "")
        add(429, "rate_limited")
    if operation.method != "GET":
        add(409, "conflict")
    if operation.body is not None:
        add(413, "body_too_large")
        add(415, "unsupported_media_type")
        add(422, "invalid_payload")
    if operation.query is not None:
        add(422, "invalid_payload")
    if operation.query is not None and operation.is_page and "cursor" in operation.query.__struct_fields__:
        add(422, "invalid_cursor")
    if operation.takes_key:
        add(409, "idempotency_pending")
        add(422, "idempotency_mismatch invalid_idempotency_key")
    if operation.needs_key:
        add(400, "idempotency_key_required")
    for status, codes in operation.errors.items():
        add(status, codes)
    return {status: tuple(codes) for status, codes in found.items()}
