"""PROTOCOL.md is true: its tables are compared with the code, both ways, and nothing is missing from them.

What is told stands in test_protocol_told.py, which state follows from which in test_protocol_states.py.
"""

import json
import re
from datetime import datetime
from types import ModuleType, NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import msgspec
import pytest

from agrenting import open_socket
from agrenting.api import paging
from agrenting.api.bodies import NewAgentBody
from agrenting.api.document import errors_of
from agrenting.api.errors import status_before_upgrade, status_of
from agrenting.api.operation import Callers, Operation
from agrenting.api.rest import OPERATIONS
from agrenting.config import Settings
from agrenting.hub import AGENT_RATE_FACTOR
from agrenting.sockets import AGENT_PATHS, DACP_PATHS, USER_PATHS
from channels import discovery
from channels.agents import AgentStatus
from channels.errors import Conflict, Invalid, Refusal
from channels.fields import NAME_CHARS_MAX
from channels.handlers import Handler
from channels.identity import AGENT_SCOPES, SCOPES
from channels.limits import Limits
from channels.routes import OURS
from channels.strictness import LEVELS_MAX
from channels.wire import PART_BYTES_MAX, Frame, Vsn, decode_frame
from tests.channels.protocol_text import TEXT, Row, chapter, code, codes, refusals, section, table, tables, titles
from tests.channels.raised import reasons_of, sites

OF_EVERY_EVENT = {"agent_required"}
"""Who has joined one of our topics is an agent, so no event is refused for that any more."""

NOT_REACHED = {"open_task": {"public_key_required"}}
"""Asked by a function that this event tells not to ask it."""

ONCE_STORED = {"open_negotiation": ["mailbox_full"], "open_task": ["insufficient_balance", "mailbox_full"]}
"""Refused by the ledger or the mailbox, in the transaction that stores the decision."""

BY_REST_ALONE = {"POST /api/v1/messages"}
"""What changes a topic and is no event of it."""

OF_THE_SESSION = {"too many channels joined"}
"""Phoenix's own words, which stand in session.py as constants."""

OF_EVERY_REQUEST = {"internal_error", "method_not_allowed", "not_found", "malformed"}
"""Answers of the REST door that no operation has to declare."""

UPGRADES = {"agrenting/sockets.py", "agrenting/auth.py", "agrenting/rates.py", "agrenting/private_members.py"}
TRANSPORTS_CODES = {1002, 1007, 1009}
"""Close codes of the WebSocket layer below us."""

CHECKSUMS_REASONS = {"checksum_mismatch", "size_mismatch"}
"""Reasons of crypto that an event refuses with, as Invalid."""

NONCES_REASONS = {"nonce_gap", "nonce_replayed"}
"""Reasons of crypto that an event refuses with, as Conflict."""

SEEN_BY_CLIENTS = r"^(?!commit_).*(_max|_ttl_s|_idle_s|_timeout_s|drain_s)$(?<!busy_timeout_s)"
"""Settings of which a client notices something; the others are the operator's alone."""

JSON_TYPES = {"id", "digest", "signature", "public key", "cursor"}
"""What the document tells apart, and what is a string in the code."""

TOPICS = {module.TOPIC: module for module in OURS}
PAIRS = [(module, event) for module in OURS for event in ("phx_join", *module.HANDLERS)]
EVENTS = [pytest.param(module, event, id=f"{module.TOPIC} {event}") for module, event in PAIRS]
SITES = sites()
REASONS = {code(row["reason"]): row for row in table("reason", chapter("Refusal reasons"))}
CHAPTERS = {re.sub(r"\{\w+\}", "*", title.strip("`")): chapter(title) for title in titles(2) if title.startswith("`")}
"""Pattern of a topic → its chapter."""


def handler_of(module: ModuleType, event: str) -> Handler:
    found: Handler = module.JOIN if event == "phx_join" else module.HANDLERS[event]
    return found


def section_of(module: ModuleType, event: str) -> str:
    return section("Join" if event == "phx_join" else f"`{event}`", CHAPTERS[module.TOPIC])


def test_there_is_a_chapter_for_every_topic_and_no_other() -> None:
    assert list(CHAPTERS) == [module.TOPIC for module in OURS]


@pytest.mark.parametrize("module", OURS, ids=lambda module: module.TOPIC)
def test_a_chapter_has_a_section_and_a_row_for_every_event(module: ModuleType) -> None:
    sections = [title.strip("`") for title in titles(3, CHAPTERS[module.TOPIC]) if title.startswith("`")]
    rows = [code(row["event"]) for row in table("event", CHAPTERS[module.TOPIC])]

    assert sections == list(module.HANDLERS)
    assert rows == ["phx_join", *module.HANDLERS]


@pytest.mark.parametrize(("module", "event"), EVENTS)
def test_an_event_needs_the_scope_and_costs_the_rate_that_its_row_says(module: ModuleType, event: str) -> None:
    (row,) = [row for row in table("event", CHAPTERS[module.TOPIC]) if code(row["event"]) == event]
    handler = handler_of(module, event)

    assert code(row["scope"]) == handler.scope
    assert code(row["rate"]) == ("joins" if event == "phx_join" else handler.rate)


@pytest.mark.parametrize(("module", "event"), EVENTS)
def test_the_twin_of_an_event_exists_and_needs_the_same_scope(module: ModuleType, event: str) -> None:
    (row,) = [row for row in table("event", CHAPTERS[module.TOPIC]) if code(row["event"]) == event]
    twin = code(row["REST"])
    scopes = {called(operation): operation.scopes for operation in OPERATIONS}

    assert not twin or scopes[twin] == (handler_of(module, event).scope,)


def test_every_operation_that_changes_a_topic_is_named_as_a_twin() -> None:
    twins = {code(row["REST"]) for text in CHAPTERS.values() for row in table("event", text)}
    nouns = {"negotiations", "tasks", "payments", "messages"}
    posts = {called(operation) for operation in OPERATIONS if operation.noun in nouns and operation.method == "POST"}

    assert posts - BY_REST_ALONE <= twins


# What an event takes.


def type_named(type_: Any) -> str:
    """A field's type, in the document's words."""
    options = [option for option in get_args(type_) if option is not NoneType]
    if get_origin(type_) in {Union, UnionType}:
        return f"{'money' if options == [int, str] else type_named(options[0])} or null"
    if hasattr(type_, "__metadata__"):
        (meta,) = type_.__metadata__
        most = "2^53−1" if meta.le == 2**53 - 1 else meta.le
        return "time" if meta.tz else f"{type_named(options[0])}, {meta.ge} to {most}"
    if get_origin(type_) is tuple:
        return "list of strings" if options[0] is str else "list of objects"
    if get_origin(type_) is Literal or hasattr(type_, "__members__"):
        return "string"
    names = {Any: "any JSON", str: "string", int: "integer", float: "number", bool: "boolean", datetime: "time"}
    return names.get(type_, "object")


def plain(type_: str) -> str:
    """A type of the document without what is no matter of JSON."""
    word, null, _ = type_.partition(" or null")
    return ("string" if word in JSON_TYPES else word) + null


def default_of(field: Any) -> Any:
    if field.required:
        return "required"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return json.loads(msgspec.json.encode(value))


def taken(struct: Any, prefix: str = "") -> list[tuple[str, str, Any]]:
    """A request's fields, those of an object in it after it: name, type, default."""
    found: list[tuple[str, str, Any]] = []
    for field in msgspec.structs.fields(struct):
        name = prefix + field.encode_name
        found.append((name, type_named(field.type), default_of(field)))
        for option in get_args(field.type):
            if isinstance(option, type) and issubclass(option, msgspec.Struct) and option.__name__ == "Filters":
                found += taken(option, f"{name}.")
    return found


def documented(rows: list[Row], heading: str) -> list[tuple[str, str, Any]]:
    """The same of a table."""
    return [
        (
            code(row[heading]),
            plain(row["type"]),
            "required" if row["default"] == "required" else json.loads(code(row["default"])),
        )
        for row in rows
    ]


@pytest.mark.parametrize(("module", "event"), EVENTS)
def test_the_payload_has_the_fields_that_are_listed(module: ModuleType, event: str) -> None:
    text = section_of(module, event)
    rows = [row for found in tables("payload field", text) for row in found]

    assert documented(rows, "payload field") == taken(handler_of(module, event).request)
    assert bool(rows) is not ("The payload has no fields." in text)


def test_an_agent_is_registered_with_the_fields_that_are_listed() -> None:
    rows = table("agent field", section("Registering an agent", chapter("REST")))

    assert documented(rows, "agent field") == taken(NewAgentBody)


@pytest.mark.parametrize(("module", "event"), EVENTS)
def test_the_values_of_a_choice_are_all_named(module: ModuleType, event: str) -> None:
    rows = {
        code(row["payload field"]): row for found in tables("payload field", section_of(module, event)) for row in found
    }
    for field in msgspec.structs.fields(handler_of(module, event).request):
        if get_origin(field.type) is Literal:
            assert codes(rows[field.encode_name]["meaning"])[: len(get_args(field.type))] == [*get_args(field.type)]


# What is refused.


@pytest.mark.parametrize(("module", "event"), EVENTS)
def test_refusals_are_listed_in_the_order_in_which_they_win(module: ModuleType, event: str) -> None:
    handler = handler_of(module, event)
    if event == "phx_join":
        raised = reasons_of(module.ACCESS, handler.decide)
    else:
        never = OF_EVERY_EVENT | NOT_REACHED.get(event, set())
        raised = [reason for reason in reasons_of(handler.decide) if reason not in never]

    assert refusals(section_of(module, event)) == raised + ONCE_STORED.get(event, [])


@pytest.mark.parametrize(("module", "event"), EVENTS)
def test_a_repetition_is_told_where_the_handler_answers_one(module: ModuleType, event: str) -> None:
    is_told = "Here a repetition is answered" in section_of(module, event)

    assert is_told is (event in {
        "offer", "accept", "reject", "input_stream", "input_complete", "output_stream", "output_complete", "complete",
        "checkpoint", "release", "error", "cancel", "acknowledge", "propose_transfer", "acknowledge_transfer",
        "reject_transfer", "close", "close_request", "dispute",
    })  # fmt: skip


def test_every_reason_is_in_the_table_and_no_other() -> None:
    given = {site.reason for site in SITES} | OF_THE_SESSION

    assert {*REASONS} - given == set(), "listed, and given nowhere"
    assert given - {*REASONS} == set(), "given, and not listed"
    assert list(REASONS) == sorted(REASONS)


@pytest.mark.parametrize("reason", REASONS)
def test_the_status_of_a_reason_is_that_of_its_class(reason: str) -> None:
    kinds = {site.kind for site in SITES if site.reason == reason and site.kind is not None}
    kinds |= {Invalid} if reason in CHECKSUMS_REASONS else set()
    kinds |= {Conflict} if reason in NONCES_REASONS else set()
    statuses = {"500" if kind is Refusal else str(status_of(kind(reason, ""))) for kind in kinds}
    is_told_by_http = bool({"REST", "upgrade", "command line"} & {*REASONS[reason]["where"].split(", ")})

    assert {REASONS[reason]["status"]} == (statuses if is_told_by_http and statuses else {"–"})


@pytest.mark.parametrize("reason", REASONS)
def test_the_fields_of_a_reason_are_those_that_the_code_names(reason: str) -> None:
    own = [site for site in SITES if site.reason == reason]
    named = {field for site in own for field in site.fields}
    listed = {*codes(REASONS[reason]["fields"])}

    if any(site.is_open for site in own):
        assert named <= listed
    else:
        assert named == listed


def test_where_a_reason_is_told_is_said() -> None:
    on_the_wire = {reason for module, event in PAIRS for reason in refusals(section_of(module, event))}
    order = section("What wins when several things are wrong", chapter("Session rules"))
    on_the_wire |= {*codes(order)} & {*REASONS} | {"channel_crash", "relay_void"}
    by_rest = {code for operation in OPERATIONS for listed in errors_of(operation).values() for code in listed}
    upgrading = {
        code(row["code"])
        for row in table("code", section("Refusals before the upgrade", chapter("Opening a socket")))
        if row["code"].startswith("`")
    }

    for reason, row in REASONS.items():
        where = {*row["where"].split(", ")}
        assert ("wire" in where) is (reason in on_the_wire), reason
        assert ("REST" in where) is (reason in by_rest | OF_EVERY_REQUEST), reason
        assert ("upgrade" in where) is (reason in upgrading | {"malformed"}), reason
        assert where <= {"wire", "REST", "upgrade", "command line", "format"}


# Before the upgrade, and after it.


def test_the_refusals_before_the_upgrade_are_those_of_the_door() -> None:
    rows = table("code", section("Refusals before the upgrade", chapter("Opening a socket")))
    given = {
        (
            site.reason,
            str(400 if site.reason == "upgrade_required" else status_before_upgrade(site.kind(site.reason, ""))),
        )
        for site in SITES
        if site.file in UPGRADES and site.kind is not None
    }

    assert {(code(row["code"]), row["status"]) for row in rows} == given


def test_the_paths_are_those_of_the_sockets() -> None:
    paths = [code(row["path"]) for row in table("path", chapter("Opening a socket"))]

    assert sorted(paths) == sorted((*AGENT_PATHS, *USER_PATHS, *DACP_PATHS))


def test_the_close_codes_are_those_of_the_code() -> None:
    ours = {value for name, value in vars(open_socket).items() if name.startswith("CLOSE_")}
    listed = {int(row["code"]) for row in table("code", section("Close codes", chapter("Session rules")))}

    assert listed == ours | TRANSPORTS_CODES


@pytest.mark.parametrize("vsn", [Vsn.V2, Vsn.V1])
def test_the_frames_of_the_examples_are_frames(vsn: Vsn) -> None:
    examples = re.findall(r"```json\n(.*?)\n```", chapter("Frames"), re.DOTALL)
    frame = decode_frame(vsn, examples[0 if vsn is Vsn.V2 else 1])

    assert (frame.topic.partition(":")[0], frame.event) == {
        Vsn.V2: ("negotiation", "offer"),
        Vsn.V1: ("agents", "phx_join"),
    }[vsn]


def test_the_bytes_of_the_binary_example_are_that_push() -> None:
    (text,) = re.findall(r"```hex\n(.*?)\n```", chapter("Frames"), re.DOTALL)

    assert decode_frame(Vsn.V2, bytes.fromhex(text)) == Frame("1", "2", "room:1", "echo", b"hi", binary=True)


# Limits, scopes, operations.


def test_the_limits_of_the_rules_are_those_of_the_code() -> None:
    rows = table("limit", section("Of the rules", chapter("Limits")))

    assert {code(row["limit"]): int(row["default"]) for row in rows} == msgspec.structs.asdict(Limits())


def test_the_limits_of_sockets_are_the_settings_defaults() -> None:
    rows = table("setting", section("Of a socket and of REST", chapter("Limits")))
    settings = msgspec.structs.asdict(Settings())
    of_sockets = {name: settings[name] for name in settings if re.search(SEEN_BY_CLIENTS, name)}

    assert {code(row["setting"]): float(row["default"]) for row in rows} == of_sockets


def test_the_rates_are_the_settings_defaults() -> None:
    rows = {code(row["class"]): row for row in table("class", section("Rate limits", chapter("Limits")))}
    settings = msgspec.structs.asdict(Settings())
    buckets = {name.removesuffix("_burst").removesuffix("_bytes"): name for name in settings if name.endswith("_burst")}

    assert rows.keys() == buckets.keys()
    for name, burst in buckets.items():
        per_s = burst.removesuffix("_burst") + "_per_s"
        assert (float(rows[name]["per second"]), float(rows[name]["burst"])) == (settings[per_s], settings[burst])


def test_the_fixed_numbers_are_those_of_the_code() -> None:
    rows = table("constant", section("Of the rules", chapter("Limits")))

    assert {row["constant"]: int(row["value"]) for row in rows} == {
        "topic, event and ref": PART_BYTES_MAX,
        "levels of JSON": LEVELS_MAX,
        "agent's share": AGENT_RATE_FACTOR,
        "hits on a page": discovery.LIMIT_MAX,
        "items on a page": paging.LIMIT_MAX,
        "characters of a query": discovery.QUERY_CHARS_MAX,
        "characters of a name": NAME_CHARS_MAX,
    }
    assert {row["meaning"].rpartition("; ")[2] for row in rows if "unless asked" in row["meaning"]} == {
        f"{discovery.LIMIT_DEFAULT} unless asked", f"{paging.LIMIT_DEFAULT} unless asked"
    }  # fmt: skip


def test_the_scopes_are_those_that_a_key_can_have() -> None:
    assert [code(row["scope"]) for row in table("scope", section("Scopes", chapter("Limits")))] == [*SCOPES]


def called(operation: Operation) -> str:
    return f"{operation.method} {operation.full_path}"


def test_the_operations_are_those_that_are_served() -> None:
    rows = table("operation", chapter("REST"))

    assert [code(row["operation"]) for row in rows] == [called(operation) for operation in OPERATIONS]


@pytest.mark.parametrize("operation", OPERATIONS, ids=called)
def test_an_operation_is_for_the_callers_and_takes_the_fields_that_are_listed(operation: Operation) -> None:
    (row,) = [row for row in table("operation", chapter("REST")) if code(row["operation"]) == called(operation)]
    struct = operation.body or operation.query
    names = [f"{f.encode_name}{'' if f.required else '?'}" for f in msgspec.structs.fields(struct)] if struct else []
    scopes = [*AGENT_SCOPES] if row["scopes"] == "all but `admin`" else codes(row["scopes"])

    assert row["callers"] == operation.callers.value
    assert scopes == [*operation.scopes]
    assert codes(row["fields"]) == names
    assert row["answer"].startswith(f"{operation.status}: ")


def test_an_operation_that_needs_an_idempotency_key_says_so() -> None:
    needing = {called(operation) for operation in OPERATIONS if operation.needs_key}

    assert needing == {f"POST /api/v1/admin/{noun}" for noun in ("deposits", "payouts")}
    assert {operation.takes_key for operation in OPERATIONS if operation.method != "POST"} == {False}
    assert {o.takes_key for o in OPERATIONS if o.method == "POST" and o.callers is not Callers.ANYBODY} == {True}


def test_every_link_within_the_document_leads_somewhere() -> None:
    anchors = {re.sub(r"[^a-z0-9 _-]", "", t.lower()).replace(" ", "-") for level in (2, 3) for t in titles(level)}

    assert {*re.findall(r"\]\(#([^)]+)\)", TEXT)} <= anchors


def test_every_name_of_a_limit_in_the_text_is_one() -> None:
    named = {
        name
        for name in codes(TEXT)
        if re.fullmatch(r"[a-z_]+_(?:max|ttl_s|min_s|max_s|default_s|idle_s|timeout_s)", name)
    }
    told = {field for row in REASONS.values() for field in codes(row["fields"])}

    assert named - told <= {*Limits.__struct_fields__, *Settings.__struct_fields__} | {"base_max"}
    assert {status.value for status in AgentStatus} <= {*codes(chapter("Who sees whom"))}
