"""The OpenAPI document: whole, sound, and true; and the page that loads nothing."""

import base64
import hashlib
import inspect
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from litestar.routes import HTTPRoute

from agrenting.api import reading
from agrenting.api.bodies import NewKeyBody
from agrenting.api.document import errors_of
from agrenting.api.errors import STATUSES, STATUSES_OF_REASONS
from agrenting.api.operation import Callers, Operation
from agrenting.api.page import CONTENT_SECURITY_POLICY, STYLE, make_page
from agrenting.api.rest import NOUNS, OPERATIONS
from agrenting.api.schemas import Schemas
from channels import discovery, mail_sending, messages, negotiation, task
from channels.handlers import Handler
from tests.agrenting.api.market import Marketplace

DOCUMENT = reading.document()
DESCRIBED = [
    (f"{method.upper()} {path}", described)
    for path, methods in DOCUMENT["paths"].items()
    for method, described in methods.items()
]
TWINS: dict[str, Handler] = {
    "POST /api/v1/negotiations": discovery.HANDLERS["open_negotiation"],
    "POST /api/v1/tasks": discovery.HANDLERS["open_task"],
    "POST /api/v1/messages": mail_sending.SEND,
    **{f"POST /api/v1/messages/{{id}}/{event}": handler for event, handler in messages.HANDLERS.items()},
    **{f"POST /api/v1/negotiations/{{id}}/{event}": handler for event, handler in negotiation.HANDLERS.items()},
    **{f"POST /api/v1/tasks/{{id}}/{event}": handler for event, handler in task.HANDLERS.items()},
}
KINDS = {
    "Invalid": "invalid",
    "Forbidden": "forbidden",
    "NotFound": "not_found",
    "Conflict": "conflict",
    "Expired": "expired",
    "TooLarge": "too_large",
}


def references(node: Any) -> list[str]:
    if isinstance(node, list):
        return [found for item in node for found in references(item)]
    if not isinstance(node, dict):
        return []
    own = [node["$ref"]] if "$ref" in node else []
    return own + [found for value in node.values() for found in references(value)]


def test_every_route_is_in_the_document(market: Marketplace) -> None:
    routed = {
        f"{method} {route.path_format}"
        for route in market.app.routes
        if isinstance(route, HTTPRoute)
        for method in route.methods
        if method != "OPTIONS"
    }

    assert {name for name, _ in DESCRIBED} == routed


def test_the_document_is_of_3_1_and_names_everything_once() -> None:
    ids = [described["operationId"] for _, described in DESCRIBED]

    assert DOCUMENT["openapi"].startswith("3.1")
    assert len(ids) == len(set(ids)) == len(OPERATIONS)
    assert {tag["name"] for tag in DOCUMENT["tags"]} == {noun.name for noun in NOUNS}


def test_every_reference_leads_somewhere_and_every_schema_is_used() -> None:
    named = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}

    assert set(references(DOCUMENT)) == named


@pytest.mark.parametrize("name", sorted(DOCUMENT["components"]["schemas"]))
def test_every_schema_is_a_schema(name: str) -> None:
    schema = DOCUMENT["components"]["schemas"][name]

    Draft202012Validator.check_schema(schema)
    assert schema["description"]


@pytest.mark.parametrize(("name", "described"), DESCRIBED, ids=[name for name, _ in DESCRIBED])
def test_every_operation_says_what_it_takes_and_answers(name: str, described: dict[str, Any]) -> None:
    """What OpenAPI 3.1 demands of an operation, and what this house demands besides."""
    assert described["summary"]
    assert not described["summary"].endswith(".")
    assert {parameter["in"] for parameter in described["parameters"]} <= {"path", "query", "header"}
    assert all(parameter.get("required") for parameter in described["parameters"] if parameter["in"] == "path")
    in_path = [f"{{{parameter['name']}}}" for parameter in described["parameters"] if parameter["in"] == "path"]
    assert in_path == re.findall(r"\{[^}]*\}", name)
    names = [(parameter["in"], parameter["name"].lower()) for parameter in described["parameters"]]
    assert len(names) == len(set(names))
    assert {status[0] for status in described["responses"]} <= {"2", "4", "5"}
    assert "500" not in described["responses"]
    for status, answer in described["responses"].items():
        assert answer["description"]
        assert bool(answer["content"]) is (status != "204")


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.full_path)
def test_what_follows_from_the_declaration_is_named(operation: Operation) -> None:
    errors = errors_of(operation)

    assert set(errors) <= {*STATUSES.values(), *STATUSES_OF_REASONS.values()}
    assert (401 in errors) is (operation.callers is not Callers.ANYBODY)
    assert (415 in errors) is (operation.body is not None)
    assert ("idempotency_mismatch" in errors.get(422, ())) is operation.takes_key
    assert 503 in errors


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_names_every_refusal_of_its_handler_and_demands_its_scope(name: str) -> None:
    """What a handler's docstring raises stands in the document under the status of its kind."""
    operation = next(one for one in OPERATIONS if f"{one.method} {one.full_path}" == name)
    twin = TWINS[name]
    refusals = raised(twin)

    assert refusals
    for kind, reasons in refusals.items():
        for reason in reasons:
            status = STATUSES_OF_REASONS.get(reason, STATUSES[KINDS[kind]])
            assert reason in errors_of(operation).get(status, ()), f"{name}: {status} {reason}"
    assert operation.scopes == (twin.scope,)
    assert operation.rate == twin.rate


def raised(handler: Handler) -> dict[str, list[str]]:
    """The refusals that a handler's docstring lists, or that of the handler which it refers to."""
    text = inspect.getdoc(handler.decide) or ""
    section = text.partition("Raises:\n")[2].partition("\n\n")[0]
    referred = re.search(r"as `(\w+)`", section)
    if referred is not None:
        return raised(task.HANDLERS[referred[1]])
    found: dict[str, list[str]] = {}
    for part in re.split(r"\n(?=    \w)", "\n" + section):
        kind, _, sentence = part.strip().partition(":")
        if kind:
            said = re.sub(r"`: [^;.]*", "` ", sentence)
            found[kind] = [
                reason for reason in re.findall(r"`([a-z_]+)`", said) if "_" in reason or reason == "expired"
            ]
    return found


def test_a_body_that_must_be_there_says_so() -> None:
    bodies = {name: described["requestBody"]["required"] for name, described in DESCRIBED if "requestBody" in described}

    assert bodies["POST /api/v1/tasks"] is True
    assert bodies["POST /api/v1/tasks/{id}/cancel"] is False


def test_a_field_is_described_by_its_docstring() -> None:
    schema = DOCUMENT["components"]["schemas"]["TaskBody"]

    assert schema["properties"]["max_price"]["description"].startswith("A ceiling")
    assert "Args" not in schema["description"]
    assert schema["required"] == ["provider_agent_id", "capability"]


def test_answers_have_all_their_fields_and_bodies_need_few() -> None:
    schemas = DOCUMENT["components"]["schemas"]

    assert {*schemas["NegotiationAnswer"]["properties"]} - {*schemas["NegotiationAnswer"]["required"]} == {"duplicate"}
    assert schemas["AgentPatchBody"]["required"] == []


def test_money_has_both_forms_in_bodies() -> None:
    forms = DOCUMENT["components"]["schemas"]["MovementBody"]["properties"]["amount"]["anyOf"]

    assert [form["type"] for form in forms] == ["integer", "string"]
    accepts = Draft202012Validator({"anyOf": forms}).is_valid
    assert [accepts(amount) for amount in (1, "8.50", 8.5, -1, "1e3", "8.", None)] == [True, True, *[False] * 5]


def test_parameters_are_those_of_the_query() -> None:
    described = dict(DESCRIBED)["GET /api/v1/tasks/{id}/chunks"]
    parameters = {parameter["name"]: parameter for parameter in described["parameters"]}

    assert parameters["direction"]["required"] is True
    assert parameters["from"]["schema"] == {"type": "integer", "minimum": 0, "maximum": 2**53 - 1, "default": 0}
    assert parameters["limit"]["schema"]["maximum"] == 100


def test_a_struct_that_comes_in_and_goes_out_is_described_as_it_comes_in() -> None:
    both = Schemas(taken=[NewKeyBody], asked=[], told=[NewKeyBody])

    assert both.components["NewKeyBody"]["required"] == ["name"]


async def test_the_document_is_served(market: Marketplace) -> None:
    answer = await market.http.get("/schema/openapi.json")

    assert answer.json() == DOCUMENT
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"].startswith("public")


async def test_the_page_shows_every_operation_and_loads_nothing(market: Marketplace) -> None:
    answer = await market.http.get("/schema")
    page = answer.text

    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert all(f'<details id="{described["operationId"]}">' in page for _, described in DESCRIBED)
    assert not re.findall(r"<(?:script|img|iframe|object|embed)\b|\bon\w+=|\bstyle=|@import|url\(", page)
    assert set(re.findall(r'(?:href|src)="([^#][^"]*)"', page)) == {"/schema/openapi.json", "data:,"}
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(re.findall(r'id="([^"]+)"', page))


def test_the_policy_lets_only_the_pages_own_style_through() -> None:
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

    assert f"style-src 'sha256-{digest}'" in CONTENT_SECURITY_POLICY
    assert "default-src 'none'" in CONTENT_SECURITY_POLICY
    assert STYLE in make_page(DOCUMENT)


def test_the_page_shows_markup_as_text() -> None:
    hostile = {**DOCUMENT, "info": {**DOCUMENT["info"], "title": "<script>alert(1)</script>"}}

    assert "<script>" not in make_page(hostile)
