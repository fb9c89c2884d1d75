"""`agrenting contact …` and `agrenting user join|leave`, on a folder that nobody serves and beside a running server.

Alice's client asks, Bob's translator answers; both are strangers.
"""

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agrenting.cli import main
from agrenting.clock import system_clock
from agrenting.foreign import ForeignChanges
from tests.agrenting.api.friends import (
    DEPOSIT,
    REQUESTS,
    Ear,
    Strangers,
    agents_ear,
    contacts_of,
    require_sound,
    strangers,
    users_ear,
)
from tests.agrenting.api.market import Clock, marketplace
from tests.agrenting.test_cli import Shell

CLIENT, TRANSLATOR = "alice/client", "bob/translator"
PAIR = (CLIENT, TRANSLATOR)
REVERSED = (TRANSLATOR, CLIENT)
COMMANDS = ("request", "approve", "reject", "cancel", "revoke", "block", "unblock")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two strangers, and an organisation."""
    folder = tmp_path_factory.mktemp("template")
    for arguments in (
        ("org", "create", "Acme"),
        ("org", "create", "Umbrella"),
        ("user", "create", "alice"),
        ("user", "create", "bob"),
        ("agent", "create", "alice", "Client", "--description", "it hires"),
        ("agent", "create", "bob", "Translator", "--description", "it translates"),
    ):
        assert main([*arguments, "--data-dir", str(folder)]) == 0
    return folder


@pytest.fixture
def shell(tmp_path: Path, template: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(template, tmp_path / "var")
    return Shell(tmp_path / "var", capsys)


def befriend(shell: Shell, *options: str) -> None:
    shell.json("contact", "request", *PAIR)
    shell.json("contact", "approve", *REVERSED, *options)


def listed(shell: Shell, who: str) -> dict[str, list[Any]]:
    """What `contact list` says, but for the contact with the owner."""
    fields: dict[str, list[Any]] = shell.json("contact", "list", who)
    assert fields.keys() == {"contacts", "received", "sent", "blocks"}
    fields["contacts"] = [one for one in fields["contacts"] if one["origin"] != "owner"]
    return fields


# On a folder that nobody serves.


def test_a_request_is_made_listed_and_approved(shell: Shell) -> None:
    asked = shell.json("contact", "request", CLIENT, f"@{TRANSLATOR}", "--message", "Let us trade.")

    assert (asked.keys(), asked["status"]) == ({"id", "status"}, "pending")
    (received,), (sent,) = listed(shell, TRANSLATOR)["received"], listed(shell, CLIENT)["sent"]
    assert received.keys() == sent.keys() == {"id", "handle", "status", "message", "inserted_at", "expires_at"}
    assert (received["id"], received["handle"], received["message"]) == (asked["id"], CLIENT, "Let us trade.")
    assert (sent["handle"], sent["status"]) == (TRANSLATOR, "pending")

    assert shell.json("contact", "approve", f"@{TRANSLATOR}", CLIENT) == {"id": asked["id"], "status": "approved"}

    for who, other in (PAIR, REVERSED):
        (contact,) = listed(shell, who)["contacts"]
        assert contact.keys() == {"id", "handle", "type", "origin", "scope", "inserted_at"}
        assert (contact["handle"], contact["type"], contact["origin"], contact["scope"]) == (
            other, "Agent", "request", None,
        )  # fmt: skip
    assert shell.json("doctor")["ok"]


def test_an_approval_is_narrowed(shell: Shell) -> None:
    befriend(
        shell, "--kind", "task", "--kind", "negotiation", "--max-price", "8.50", "--max-open", "3",
        "--until", "2999-01-31T12:00:00Z",
    )  # fmt: skip

    (contact,) = listed(shell, CLIENT)["contacts"]
    assert contact["scope"] == {
        "kinds": ["task", "negotiation"], "max_price": 8_500_000, "max_open": 3, "expires_at": "2999-01-31T12:00:00Z",
    }  # fmt: skip


def test_a_price_is_minor_units_or_major_units_with_a_point(shell: Shell) -> None:
    befriend(shell, "--max-price", "850")

    (contact,) = listed(shell, CLIENT)["contacts"]
    assert contact["scope"]["max_price"] == 850


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--kind", "everything"),
        ("--max-price", "much"),
        ("--max-price", "-1"),
        ("--max-price", "0.0000001"),
        ("--max-open", "0"),
        ("--max-open", "10001"),
        ("--until", "tomorrow"),
        ("--until", "2999-01-31T12:00:00"),
        ("--until", "2001-01-31T12:00:00Z"),
    ],
)
def test_a_scope_that_is_none_is_refused_and_changes_nothing(shell: Shell, option: str, value: str) -> None:
    shell.json("contact", "request", *PAIR)

    shell.fails("contact", "approve", *REVERSED, f"{option}={value}")

    assert [one["status"] for one in listed(shell, CLIENT)["sent"]] == ["pending"]
    assert listed(shell, CLIENT)["contacts"] == []


@pytest.mark.parametrize(
    ("command", "pair", "status"), [("reject", REVERSED, "rejected"), ("cancel", PAIR, "cancelled")]
)
def test_a_request_is_rejected_or_cancelled(shell: Shell, command: str, pair: tuple[str, str], status: str) -> None:
    asked = shell.json("contact", "request", *PAIR)

    assert shell.json("contact", command, *pair) == {"id": asked["id"], "status": status}

    assert listed(shell, TRANSLATOR)["received"] == []
    assert [one["status"] for one in listed(shell, CLIENT)["sent"]] == [status]
    assert shell.fails("contact", command, *pair) == "not_found"


def test_a_contact_is_revoked_by_either_side(shell: Shell) -> None:
    for pair in (PAIR, REVERSED):
        befriend(shell)

        assert shell.json("contact", "revoke", *pair) == {"status": "removed"}

        assert (listed(shell, CLIENT)["contacts"], listed(shell, TRANSLATOR)["contacts"]) == ([], [])
    assert shell.fails("contact", "revoke", *PAIR) == "not_found"


def test_a_block_keeps_away_until_it_ends(shell: Shell) -> None:
    until = "2999-01-31T12:00:00Z"

    made = shell.json("contact", "block", *REVERSED, "--reason", "spam", "--until", until)

    assert (made["handle"], made["reason"], made["expires_at"], made["type"]) == (CLIENT, "spam", until, "Agent")
    assert listed(shell, TRANSLATOR)["blocks"] == [{"id": made["id"], "handle": CLIENT, "reason": "spam"}]
    assert listed(shell, CLIENT)["blocks"] == []
    assert shell.fails("contact", "request", *PAIR) == "not_found"
    assert shell.fails("contact", "request", *REVERSED) == "blocked_by_you"
    assert shell.fails("contact", "block", *REVERSED) == "already_blocked"

    assert shell.json("contact", "unblock", *REVERSED) == {"status": "unblocked"}

    assert shell.json("contact", "request", *PAIR)["status"] == "pending"


def test_users_are_contacts_too(shell: Shell) -> None:
    shell.json("contact", "request", "alice", TRANSLATOR)
    (received,) = listed(shell, TRANSLATOR)["received"]
    assert received["handle"] == "alice"
    assert shell.json("contact", "request", TRANSLATOR, "alice")["status"] == "approved"  # Both have asked now.

    (contact,) = listed(shell, TRANSLATOR)["contacts"]
    assert (contact["handle"], contact["type"]) == ("alice", "User")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        (("nobody", TRANSLATOR), "not_found"),
        ((CLIENT, "nobody/nothing"), "not_found"),
        (("not a handle", TRANSLATOR), "invalid_handle"),
        ((CLIENT, "not a handle"), "invalid_handle"),
    ],
)
def test_both_have_to_be_there(shell: Shell, command: str, pair: tuple[str, str], reason: str) -> None:
    assert shell.fails("contact", command, *pair) == reason


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("contact", "request", CLIENT, CLIENT), "self_contact"),
        (("contact", "request", CLIENT, "alice"), "already_contacts"),
        (("contact", "request", *PAIR, "--message", "x" * 501), "invalid_payload"),
        (("contact", "approve", *REVERSED), "not_found"),
        (("contact", "block", CLIENT, CLIENT), "self_contact"),
        (("contact", "block", "alice", CLIENT), "forbidden_role"),
        (("contact", "block", *PAIR, "--until", "tomorrow"), "failed"),
        (("contact", "block", *PAIR, "--until", "2001-01-31T12:00:00Z"), "invalid_payload"),
        (("contact", "block", *PAIR, "--until", "2999-01-31T12:00:00"), "failed"),
        (("contact", "unblock", *PAIR), "not_found"),
        (("contact", "list", "nobody"), "not_found"),
        (("contact", "list", "not a handle"), "invalid_handle"),
        (("user", "join", "nobody", "Acme"), "not_found"),
        (("user", "join", "alice", "Nowhere"), "not_found"),
        (("user", "leave", "nobody"), "not_found"),
        (("user", "leave", "alice"), "no_organisation"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else "",
)
def test_a_command_that_fails_says_why_in_one_line(shell: Shell, arguments: tuple[str, ...], reason: str) -> None:
    assert shell.fails(*arguments) == reason


def test_asking_twice_names_the_conflict(shell: Shell) -> None:
    shell.json("contact", "request", *PAIR)

    assert shell.fails("contact", "request", *PAIR) == "request_pending"


def test_for_people_the_list_is_lines(shell: Shell) -> None:
    shell.json("contact", "request", *PAIR, "--message", "Let us trade.")

    code, out, err = shell.run("contact", "list", TRANSLATOR)

    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert lines == [
        ["contacts:", "1"], ["bob", "owner"], ["received:", "1"], [CLIENT, "pending", "Let", "us", "trade."],
        ["sent:", "none"], ["blocks:", "none"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("before", "command", "pair"),
    [
        ((), "request", PAIR),
        (("request",), "approve", REVERSED),
        (("request",), "reject", REVERSED),
        (("request",), "cancel", PAIR),
        (("request", "approve"), "revoke", PAIR),
        ((), "block", PAIR),
        (("block",), "unblock", PAIR),
    ],
)
def test_for_people_a_command_is_one_sentence(
    shell: Shell, before: tuple[str, ...], command: str, pair: tuple[str, str]
) -> None:
    for step in before:
        shell.json("contact", step, *(REVERSED if step == "approve" else PAIR))

    code, out, err = shell.run("contact", command, *pair)

    assert (code, err, out.count("\n")) == (0, "", 1)
    assert CLIENT in out
    assert TRANSLATOR in out
    with pytest.raises(json.JSONDecodeError):
        json.loads(out)


def test_members_are_contacts_until_they_leave(shell: Shell) -> None:
    alice = shell.json("user", "join", "@alice", "Acme")
    bob = shell.json("user", "join", "bob", "Acme")

    assert alice.keys() == bob.keys() == {"id", "handle", "organisation"}
    assert (alice["handle"], alice["organisation"]) == ("alice", "Acme")
    assert [(one["handle"], one["origin"]) for one in listed(shell, "alice")["contacts"]] == [("bob", "organisation")]
    assert shell.fails("user", "join", "alice", "Acme") == "already_member"
    assert shell.fails("user", "join", "alice", "Umbrella") == "other_organisation"

    assert shell.json("user", "leave", "alice") == {**alice, "organisation": None}

    assert (listed(shell, "alice")["contacts"], listed(shell, "bob")["contacts"]) == ([], [])
    assert shell.json("doctor")["ok"]


def test_a_user_made_in_an_organisation_is_a_contact_of_its_members(shell: Shell) -> None:
    shell.json("user", "join", "alice", "Acme")

    shell.json("user", "create", "dave", "--org", "Acme")

    assert [one["handle"] for one in listed(shell, "dave")["contacts"]] == ["alice"]


@pytest.mark.parametrize(
    ("damage", "difference"),
    [
        ("DELETE FROM contact_sides WHERE rowid = 1", "not the other way round"),
        ("DELETE FROM contact_sides", "for neither of its sides"),
        ("UPDATE contacts SET status = 'ended'", "not the other way round"),
    ],
)
async def test_the_doctor_says_where_two_sides_do_not_agree(shell: Shell, damage: str, difference: str) -> None:
    async with marketplace(shell.folder) as market:
        await market.server.database.write(lambda tx: tx.run(damage))

    code, out, _ = shell.run("doctor", "--json")

    fields = json.loads(out)
    assert (code, fields["ok"]) == (1, False)
    assert any(difference in one for one in fields["differences"])


# Beside a running server.


class House:
    """A server, two strangers on it, and the command line beside it."""

    def __init__(self, two: Strangers, shell: Shell, foreign: ForeignChanges) -> None:
        self.two = two
        self.shell = shell
        self._foreign = foreign

    async def run(self, *arguments: str) -> Any:
        """A command that works; the server has told its sockets of it."""
        fields = self.shell.json(*arguments)
        await self._foreign.tell()
        return fields

    async def ears(self) -> list[Ear]:
        return [await agents_ear(self.two.market, one) for one in (self.two.client, self.two.translator)]


@pytest.fixture
async def house(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[House]:
    monkeypatch.chdir(tmp_path)
    clock = Clock()
    clock.now = system_clock()  # The command line has no other.
    async with marketplace(tmp_path / "served", clock) as market:
        two = await strangers(market)
        foreign = ForeignChanges(market.server.engine, market.server.hub, poll_s=3_600.0)
        await foreign.begin()
        yield House(two, Shell(tmp_path / "served", capsys), foreign)


def events(ears: list[Ear]) -> list[list[str]]:
    return [[event for event, _ in ear()] for ear in ears]


async def test_sockets_hear_of_what_the_command_line_decides(house: House) -> None:
    ears = await house.ears()

    asked = await house.run("contact", "request", *PAIR, "--message", "Hello")
    assert ears[0]() == []
    ((event, told),) = ears[1]()
    assert (event, told["id"], told["from_handle"], told["message"]) == (
        "contact_request_received", asked["id"], CLIENT, "Hello",
    )  # fmt: skip

    await house.run("contact", "approve", *REVERSED)
    assert events(ears) == [["contact_request_updated", "contact_added"]] * 2
    assert await contacts_of(house.two.client) == {TRANSLATOR}

    await house.run("contact", "revoke", *PAIR)
    assert events(ears) == [["contact_removed"]] * 2
    assert await contacts_of(house.two.translator) == set()

    for command, pair in (("reject", REVERSED), ("cancel", PAIR)):
        await house.run("contact", "request", *PAIR)
        events(ears)
        await house.run("contact", command, *pair)
        assert events(ears) == [["contact_request_updated"]] * 2


async def test_rest_answers_what_the_command_line_has_asked(house: House) -> None:
    asked = await house.run("contact", "request", *PAIR)

    answer = await house.two.bob.post(f"/me/contacts/requests/{asked['id']}/approve")

    assert answer["status"] == "approved"
    assert [one["handle"] for one in listed(house.shell, CLIENT)["contacts"]] == [TRANSLATOR]


async def test_a_revocation_by_the_command_line_cuts_what_is_open(house: House) -> None:
    two = house.two
    await two.befriend()
    session, task = await two.negotiate(), await two.hire()

    await house.run("contact", "revoke", *REVERSED)

    assert (await two.client.get(f"/negotiations/{session['id']}"))["reason"] == "contact_revoked"
    assert (await two.client.get(f"/tasks/{task['id']}"))["escrow_status"] == "refunded"
    assert (await two.client.get("/ledger/balance"))["available"] == DEPOSIT
    await require_sound(two.market)


async def test_a_block_by_the_command_line_holds_at_once(house: House) -> None:
    ears = await house.ears()
    await house.run("contact", "block", *REVERSED)

    refused = await house.two.client.refused("POST", "/agent/contacts/add", {"handle": TRANSLATOR})
    assert refused.why == (404, "not_found")
    assert events(ears) == [[], []]

    await house.run("contact", "unblock", *REVERSED)
    await house.two.ask()


async def test_a_refused_command_tells_nobody_anything(house: House) -> None:
    ears = await house.ears()

    house.shell.fails("contact", "approve", *REVERSED)
    house.shell.fails("contact", "request", CLIENT, CLIENT)
    await house.run("contact", "list", CLIENT)

    assert events(ears) == [[], []]
    assert (await house.two.client.get(REQUESTS, params={"sent_status": "all"}))["sent"] == []


async def test_joining_and_leaving_tell_members_and_call_sockets_back(house: House) -> None:
    two = house.two
    house.shell.json("org", "create", "Acme")
    await house.run("user", "join", "alice", "Acme")
    alices = await users_ear(two.market, "alice", two.alice)
    sockets = [(await two.market.socket(key))[1] for key in (two.market.user_keys["bob"], two.translator.api_key)]

    await house.run("user", "join", "bob", "Acme")

    assert [event for event, _ in alices()] == ["contact_added"]
    assert [socket.closed_with for socket in sockets] == [1001, 1001]
    (_, again) = await two.market.socket(two.market.user_keys["bob"])

    await house.run("user", "leave", "bob")

    assert [event for event, _ in alices()] == ["contact_removed"]
    assert again.closed_with == 1001


async def test_a_new_agent_of_the_command_line_is_told_to_its_owner(house: House) -> None:
    alices = await users_ear(house.two.market, "alice", house.two.alice)

    await house.run("agent", "create", "alice", "Second", "--description", "another")

    ((event, told),) = alices()
    assert (event, told["handle"]) == ("contact_added", "alice/second")
