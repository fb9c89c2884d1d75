"""PROTOCOL.md against the code, both ways: what one says and the other does not is a failure."""

import ast
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agrenting.config import Settings
from channels import task
from channels.agents import Agent
from channels.contacts import Party
from channels.discovery import Hit, hit_payload
from channels.handlers import Handler, Limits, Market
from channels.negotiation import NegotiationSession
from channels.negotiation import snapshot as negotiation_snapshot
from channels.routes import OURS

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "channels/PROTOCOL.md").read_text("utf-8")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
MARKET = Market(signing_domain="market.test")
REFUSALS = {
    "Refusal", "Invalid", "Unauthorized", "Forbidden", "NotFound", "Conflict", "Expired", "TooLarge", "RateLimited",
    "Malformed", "UnsupportedMediaType", "MethodNotAllowed",
}  # fmt: skip
TOLD_BY_CONSTANTS = {"too many channels joined"}
"""Reasons that stand in a constant of session.py."""


def section(title: str, level: int, text: str = TEXT) -> str:
    """What stands below a heading, up to the next one of its level or above."""
    found = re.search(
        rf"^{'#' * level} {re.escape(title)}$(.*?)(?=^#{{1,{level}}} |\Z)", text, re.MULTILINE | re.DOTALL
    )
    assert found is not None, f"PROTOCOL.md has no section {title!r}"
    return found[1]


def topic_section(pattern: str) -> str:
    heading = next(
        line.removeprefix("## ")
        for line in TEXT.splitlines()
        if line.startswith("## ") and line.removeprefix("## ").startswith(pattern.removesuffix("*"))
    )
    return section(heading, 2)


def rows(text: str) -> list[list[str]]:
    """The cells of every table row but heads and rules."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return [row for row in cells if row[0].startswith("`")]


def code_words(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))


EVENTS = [
    pytest.param(module, event, handler, id=f"{module.TOPIC} {event}")
    for module in OURS
    for event, handler in module.HANDLERS.items()
]


@pytest.mark.parametrize("module", OURS, ids=lambda module: module.TOPIC)
def test_each_topic_lists_just_its_events(module: Any) -> None:
    headings = re.findall(r"^### (.+)$", topic_section(module.TOPIC), re.MULTILINE)

    assert sorted(headings) == sorted(module.HANDLERS)


@pytest.mark.parametrize(("module", "event", "handler"), EVENTS)
def test_each_event_lists_just_its_fields(module: Any, event: str, handler: Handler) -> None:
    said = {row[0].strip("`"): row[2] for row in rows(section(event, 3, topic_section(module.TOPIC)))}

    fields = {field.encode_name: "yes" if field.required else "no" for field in msgspec.structs.fields(handler.request)}
    assert said == fields


@pytest.mark.parametrize(("module", "event", "handler"), EVENTS)
def test_the_scope_of_each_event_is_said(module: Any, event: str, handler: Handler) -> None:
    whole = topic_section(module.TOPIC)
    own = section(event, 3, whole)
    said = re.search(r"Scope `([a-z:]+)`", own) or re.search(r"scope `([a-z:]+)`", whole)

    assert said is not None
    assert said[1] == handler.scope


def reasons_in_code() -> set[str]:
    """Every reason that is raised or told, from the syntax trees of the three packages."""
    found: set[str] = set()
    for path in (p for name in ("channels", "agrenting", "crypto") for p in (ROOT / name).rglob("*.py")):
        if {"client", "demo"} & {*path.parts}:
            continue  # They hear refusals.
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            found |= _reasons(node)
    return found


def _reasons(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in REFUSALS and node.args:
        return _constants(node.args[0])
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "reason":
        return _constants(node.value)
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {
            reason
            for key, value in pairs
            if isinstance(key, ast.Constant) and key.value == "reason"
            for reason in _constants(value)
        }
    return set()


def _constants(node: ast.AST) -> set[str]:
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()


def test_every_reason_is_listed_and_every_listed_reason_is_told() -> None:
    listed = {row[0].strip("`") for row in rows(section("Reasons", 2))}
    told = reasons_in_code() | TOLD_BY_CONSTANTS

    assert listed - told == set(), "listed, but told nowhere"
    assert told - listed == set(), "told, but not listed"


def test_every_reason_that_an_event_names_is_in_the_table() -> None:
    listed = {row[0].strip("`") for row in rows(section("Reasons", 2))}
    named = {
        word
        for paragraph in re.findall(r"Refusals:(.*?)(?:\n\n|\Z)", TEXT, re.DOTALL)
        for word in re.findall(r"`([a-z_ ]+)`", re.sub(r"\([^)]*\)", "", paragraph))
    }

    assert named <= listed


@pytest.mark.parametrize("module", OURS, ids=lambda module: module.TOPIC)
def test_an_event_names_what_its_handler_says_that_it_raises(module: Any) -> None:
    listed = {row[0].strip("`") for row in rows(section("Reasons", 2))}
    whole = topic_section(module.TOPIC)
    for event, handler in module.HANDLERS.items():
        raised = code_words((handler.decide.__doc__ or "").partition("Raises:")[2]) & listed
        assert raised <= code_words(whole), event


def test_the_snapshot_of_a_negotiation_is_listed_whole() -> None:
    session = NegotiationSession(
        id="s", client_agent_id="a", provider_agent_id="b", client_public_key="k", provider_public_key="l",
        capability="c", base_max=1, max_offer=2, max_rounds=10, terms=None, session_digest="d",
        created_at=NOW, expires_at=NOW,
    )  # fmt: skip

    assert {*negotiation_snapshot(session, MARKET)} == joined_fields("negotiation:*", "Join reply, the reply of")


def test_the_snapshot_of_a_task_is_listed_whole() -> None:
    made = task.Task(
        id="t", client_agent_id="a", provider_agent_id="b", client_owner_id="o", is_countable=True, capability="c",
        price=1, fee=0, fee_bps=500, escrow_status=task.Escrow.HELD, created_at=NOW, deadline=NOW,
    )  # fmt: skip

    assert {*task.snapshot(made, MARKET)} == joined_fields("task:*", "Join reply, REST")


def joined_fields(pattern: str, beginning: str) -> set[str]:
    """The fields that a paragraph lists, without what stands in parentheses."""
    paragraph = next(p for p in topic_section(pattern).split("\n\n") if p.startswith(beginning))
    return code_words(re.sub(r"\([^)]*\)", "", paragraph.partition(": ")[2]))


def test_a_hit_of_discover_is_listed_whole() -> None:
    agent = Agent(id="a", owner_id="o", name="n", handle="h", description="d", created_at=NOW, updated_at=NOW)
    hit = hit_payload(Hit(agent=agent, status="online", price=None), Party(id="v", user_id="w"))

    own = section("discover", 3, topic_section("agents:discovery"))
    assert {*hit} == code_words(own.partition("Each hit:")[2].partition("Strangers")[0])


@pytest.mark.parametrize(
    ("sentence", "number"),
    [
        ("expired | the clock, {} s", Limits().negotiation_ttl_s),
        ("used once, within {} s", Limits().agreement_ttl_s),
        ("canonical JSON of at most {} bytes", Limits().terms_bytes_max),
        ("`too_many_open` ({} a pair).", Limits().negotiations_open_max),
        ("`too_many_open` ({} a pair),", Limits().tasks_open_max),
        ("`max_rounds_exceeded` ({} a side)", Limits().rounds_per_side_max),
        ("1 to {} bytes once decoded", Limits().chunk_bytes_max),
        ("`stream_too_large` ({} bytes)", Limits().stream_bytes_max),
        ("at most {} bytes; `status`", Limits().metadata_bytes_max),
        ("at most {} bytes, 64 levels", Limits().result_bytes_max),
        ("default {} days", Limits().deadline_default_s // 86_400),
        ("the fee ({} basis points", MARKET.fee_bps),
        ("nothing for {} s is", int(Settings().socket_idle_s)),
        ("At most {} topics a socket", Settings().topics_per_socket_max),
        ("not decided in {} s", int(Settings().join_timeout_s)),
    ],
)
def test_the_numbers_are_those_of_the_settings(sentence: str, number: int) -> None:
    assert sentence.format(number) in TEXT


def test_the_rate_limits_are_those_of_the_settings() -> None:
    settings = Settings()
    said = {row[0]: row[1:3] for row in plain_rows(section("Rate limits", 3))}
    names = {"stream": "stream_bytes", "bad credentials": "bad_credentials"}
    for name, numbers in said.items():
        field = names.get(name, name)
        assert [int(number) for number in numbers] == [
            int(getattr(settings, f"{field}_per_s")),
            int(getattr(settings, f"{field}_burst")),
        ]
    assert len(said) == 6


def plain_rows(text: str) -> list[list[str]]:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return cells[2:]
