"""`agrenting channel …`, on a folder that nobody serves and beside a running server.

Alice's client owns a private channel; Bob's translator is invited.
"""

import asyncio
import json
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agrenting.announcements import Announcement, decode
from agrenting.cli import main
from agrenting.clock import system_clock
from agrenting.db.transaction import Tx
from agrenting.folder import Folder
from agrenting.foreign import ForeignChanges
from channels.contacts import NO_TIE
from channels.told import Broadcast, ChannelClosed, ContextTold, Ended, MemberLeft, Retied, Saved, Unsaid
from tests.agrenting.api.market import Clock, Marketplace, Player, marketplace, settings_of
from tests.agrenting.private_hall import PrivateHall
from tests.agrenting.test_cli import Shell

CLIENT, TRANSLATOR = "alice/client", "bob/translator"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with two strangers, one of whom owns a channel; and the channel's id."""
    folder = tmp_path_factory.mktemp("template")
    for arguments in (
        ("user", "create", "alice"),
        ("user", "create", "bob"),
        ("agent", "create", "alice", "Client", "--description", "it hires"),
        ("agent", "create", "bob", "Translator", "--description", "it translates"),
    ):
        assert main([*arguments, "--data-dir", str(folder)]) == 0
    return folder, asyncio.run(_channel_in(folder))


async def _channel_in(folder: Path) -> str:
    async with marketplace(folder, present()) as market:
        return await PrivateHall(market, await player(market, CLIENT)).create()


async def player(market: Marketplace, handle: str) -> Player:
    """An agent of the folder."""
    (row,) = await market.server.database.read(
        lambda tx: tx.all("SELECT id FROM agents WHERE handle = :handle", handle=handle)
    )
    return Player(market.http, id_=row[0], handle=handle, api_key="", seed=b"", domain="")


def present() -> Clock:
    """The command line has no other clock."""
    clock = Clock()
    clock.now = system_clock()
    return clock


@pytest.fixture
def channel_id(template: tuple[Path, str]) -> str:
    return template[1]


@pytest.fixture
def shell(
    tmp_path: Path,
    template: tuple[Path, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Shell:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(template[0], tmp_path / "var")
    return Shell(tmp_path / "var", capsys)


# On a folder that nobody serves.


def test_a_channel_is_listed_for_its_owner_and_for_the_operator(shell: Shell, channel_id: str) -> None:
    row = {"id": channel_id, "owner": CLIENT, "members": 0, "invitations": 0, "deal": None}

    ways: tuple[tuple[str, ...], ...] = ((), ("--of", CLIENT), ("--of", f"@{CLIENT}"), ("--of", "alice"))
    for of in ways:
        assert shell.json("channel", "list", *of) == {"channels": [row]}
    for other in (TRANSLATOR, "bob"):
        assert shell.json("channel", "list", "--of", other) == {"channels": []}


def test_a_look_waits_for_nobody_who_writes(shell: Shell, channel_id: str) -> None:
    with closing(sqlite3.connect(shell.folder / "agrenting.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE private_channels SET version = version + 1")

        assert shell.json("channel", "list")["channels"][0]["id"] == channel_id
        assert shell.json("channel", "show", channel_id)["id"] == channel_id


def test_a_look_changes_nothing(shell: Shell) -> None:
    def change(tx: Tx) -> int:
        return tx.run("DELETE FROM private_channels")

    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        Folder(settings_of(shell.folder)).look(change)


def test_an_invitation_is_made_shown_and_revoked(shell: Shell, channel_id: str) -> None:
    free = shell.json("channel", "invite", channel_id, "--expires-in", "60")
    bound = shell.json("channel", "invite", channel_id, "--instance", "desk")
    for_agent = shell.json("channel", "invite", channel_id, "--agent", TRANSLATOR)
    assert free.keys() == {"invitationId", "invitationToken", "expiresAt"}

    shown = shell.json("channel", "show", channel_id)
    assert shown.keys() == {"id", "owner", "owner_handle", "members", "invites"}
    assert (shown["id"], shown["owner_handle"], shown["members"]) == (channel_id, CLIENT, [])
    assert [one["token"] for one in shown["invites"]] == [one["invitationToken"] for one in (free, bound, for_agent)]
    with closing(sqlite3.connect(shell.folder / "agrenting.sqlite3")) as database:
        guests = database.execute("SELECT id FROM agents WHERE handle = ?", (TRANSLATOR,)).fetchall()
    assert [one["instanceId"] for one in shown["invites"]] == [None, "desk", guests[0][0]]
    assert shell.json("channel", "list")["channels"][0]["invitations"] == 3

    for named in (free["invitationToken"], bound["invitationId"], "nothing", free["invitationToken"]):
        assert shell.json("channel", "revoke", channel_id, named) == {"id": channel_id}
    (left,) = shell.json("channel", "show", channel_id)["invites"]
    assert left["token"] == for_agent["invitationToken"]


def test_a_closed_channel_is_there_no_more(shell: Shell, channel_id: str) -> None:
    assert shell.json("channel", "close", channel_id) == {"id": channel_id, "status": "closed"}

    assert shell.json("channel", "list") == {"channels": []}
    for command in ("show", "close", "invite"):
        assert shell.fails("channel", command, channel_id) == "not_found"
    assert shell.fails("channel", "revoke", channel_id, "x") == "not_found"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("show", "private:none"), "not_found"),
        (("list", "--of", "nobody"), "not_found"),
        (("list", "--of", "alice/nobody"), "not_found"),
        (("invite", "CHANNEL", "--instance", ""), "invalid_payload"),
        (("invite", "CHANNEL", "--instance", "a b"), "invalid_payload"),
        (("invite", "CHANNEL", "--expires-in", "0"), "invalid_payload"),
        (("invite", "CHANNEL", "--agent", "nobody/nowhere"), "not_found"),
        (("revoke", "private:none", "x"), "not_found"),
        (("close", "none"), "not_found"),
    ],
    ids=str,
)
def test_a_command_that_fails_says_why_in_one_line(
    shell: Shell, channel_id: str, arguments: tuple[str, ...], reason: str
) -> None:
    given = [channel_id if one == "CHANNEL" else one for one in arguments]

    assert shell.fails("channel", *given) == reason
    assert shell.json("channel", "show", channel_id)["invites"] == []


def test_for_people_a_command_is_a_few_lines(shell: Shell, channel_id: str) -> None:
    code, invited, err = shell.run("channel", "invite", channel_id, "--instance", "desk")
    assert (code, err, invited.count("\n")) == (0, "", 1)
    token = shell.json("channel", "show", channel_id)["invites"][0]["token"]
    assert token in invited

    said = {name: shell.run("channel", *name.split(), *more)[1] for name, more in (
        ("list", ()), ("show", (channel_id,)), ("revoke", (channel_id, token)), ("close", (channel_id,)),
    )}  # fmt: skip
    assert said["list"].splitlines() == [f"{channel_id}  {CLIENT}: 0 inside, 1 invited", "channels: 1"]
    assert said["show"].splitlines() == [
        f"{channel_id}, owned by {CLIENT}", "members: none", "invitations: 1", f"  {token}  for desk"
    ]  # fmt: skip
    assert token not in said["revoke"]
    assert said["close"] == f"{channel_id} is closed.\n"
    assert shell.run("channel", "list")[1] == "channels: none\n"


def test_an_owner_that_is_gone_makes_nothing_more(shell: Shell, channel_id: str) -> None:
    async def delete() -> None:
        async with marketplace(shell.folder, present()) as market:
            await market.server.database.write(lambda tx: tx.run("DELETE FROM agents"))

    asyncio.run(delete())

    assert shell.fails("channel", "invite", channel_id) == "not_found"


# Beside a running server.


class House:
    """A server, its callers, and the command line beside it."""

    def __init__(self, market: Marketplace, alice: Player, bob: Player, shell: Shell, foreign: ForeignChanges) -> None:
        self.market = market
        self.hall = PrivateHall(market, alice)
        self.alice, self.bob = alice, bob
        self.shell = shell
        self._foreign = foreign

    async def run(self, *arguments: str) -> Any:
        """A command that works; the server has told its sockets of it."""
        fields = self.shell.json(*arguments)
        await self._foreign.tell()
        return fields


@pytest.fixture
async def house(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[House]:
    monkeypatch.chdir(tmp_path)
    async with marketplace(tmp_path / "served", present()) as market:
        alice, bob = await market.deal()
        foreign = ForeignChanges(market.server.engine, market.server.hub, poll_s=3_600.0)
        await foreign.begin()
        yield House(market, alice, bob, Shell(tmp_path / "served", capsys), foreign)


async def test_a_token_of_the_command_line_lets_in_at_the_server(house: House) -> None:
    channel_id = await house.hall.create()
    made = await house.run("channel", "invite", channel_id, "--agent", house.bob.handle)

    assert await house.hall.enter(channel_id, house.bob, made["invitationToken"], at="phone") == "joined"
    shown = await house.run("channel", "show", channel_id)
    assert shown["members"] == [{"agentId": house.bob.id, "instanceId": "phone", "role": "member"}]
    assert shown["invites"] == []
    code, text, _ = house.shell.run("channel", "show", channel_id)
    assert (code, text.splitlines()[2]) == (0, f"  {house.bob.id}  phone  member")


async def test_who_sits_in_a_channel_hears_that_the_command_line_closes_it(house: House) -> None:
    channel_id = await house.hall.create()
    connection, socket = await house.market.socket(house.alice.api_key)
    connection.receive(json.dumps(["1", "1", channel_id, "phx_join", {}]))
    await house.market.server.engine.settled()
    assert socket.events()[0] == "phx_reply"
    socket.sent.clear()

    await house.run("channel", "close", channel_id)

    heard = socket.events()
    assert heard[0] == "privateChannelOnDisconnectEvent"
    assert "phx_close" in heard


def test_everything_that_may_be_told_can_be_announced() -> None:
    """Another process reads from the text alone what each of them is."""
    told = (
        Broadcast("a", "b", {"c": [1]}, to=frozenset(("x", "y"))),
        Retied("a", "b", NO_TIE),
        Unsaid("a"),
        Saved("a"),
        Ended("a", "b"),
        Ended("a"),
        MemberLeft("private:1", "a", "b"),
        ChannelClosed("private:1"),
        ContextTold("private:1", "a", "b", {"type": "x", "more": {"": None}}),
    )

    assert decode(msgspec.json.encode(Announcement(broadcasts=told))).broadcasts == told
    assert json.loads(msgspec.json.encode(told[5]))["type"] == "Ended"
