"""A tie that changes while somebody joins, or in another process: what is shown is what stands in the database."""

import json
from argparse import Namespace
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from agrenting import contact_commands
from agrenting.connection import Connection
from agrenting.db.commit import StorageUnavailable
from agrenting.deciding import Command
from agrenting.foreign import ForeignChanges
from channels.contact_requests import ADD, RESPOND, AddContact, Respond
from channels.handlers import Handler
from channels.revocation import BLOCK, BlockEntity
from tests.agrenting.api.market import FakeSocket, Marketplace, Player, marketplace

DISCOVERY: Final = "agents:discovery"
NO_SCOPE: Final[dict[str, Any]] = {"kind": None, "max_price": None, "max_open": None, "until": None}


class House:
    """A running server, and Alice's and Bob's agents, strangers, each with a socket."""

    def __init__(self, market: Marketplace, alice: Player, bob: Player) -> None:
        self.market = market
        self.alice = alice
        self.bob = bob
        self.sockets: dict[str, tuple[Connection, FakeSocket]] = {}
        self.foreign = ForeignChanges(market.server.engine, market.server.hub, poll_s=3_600.0)

    def command(self, who: Player, handler: Handler, request: Any) -> Command:
        """An event of an agent's contact book."""
        sender = self.sockets[who.id][0].identity
        return Command(handler=handler, topic=f"agent_contacts:{who.id}", request=request, sender=sender)

    def join(self, who: Player, ref: str = "1") -> None:
        """Ask to join; it is decided later."""
        self.sockets[who.id][0].receive(json.dumps([ref, ref, DISCOVERY, "phx_join", {}]))

    def submit(self, command: Command) -> None:
        """Queue an event; it is decided later, in its turn."""
        self.market.server.engine.submit(command, lambda _done, _error: None)

    async def settled(self) -> None:
        """Everything asked so far has been decided and told."""
        await self.market.server.database.commits.drain()

    async def befriend(self) -> None:
        """Make the two contacts."""
        engine = self.market.server.engine
        await engine.execute(self.command(self.alice, ADD, AddContact(handle=self.bob.handle)))
        answer = Respond(action="approve", handle=self.alice.handle)
        await engine.execute(self.command(self.bob, RESPOND, answer))

    def run(self, command: Any, **chosen: Any) -> None:
        """As the command line does, in another process on the same data folder."""
        names = {"who": self.alice.handle, "other": self.bob.handle}
        command(Namespace(**{**names, **chosen}), self.market.server.settings)

    def saw(self, who: Player) -> list[Any]:
        """What an agent was shown since this was last asked: states as sets of ids, diffs as pairs of such sets."""
        transport = self.sockets[who.id][1]
        sent, transport.sent = transport.sent, []
        shown: list[Any] = []
        for message in sent:
            if message[3] == "presence_state":
                shown.append(set(message[4]))
            elif message[3] == "presence_diff":
                shown.append((set(message[4]["joins"]), set(message[4]["leaves"])))
        return shown


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with marketplace(tmp_path / "var") as market:
        await market.user("alice")
        await market.user("bob")
        house = House(market, await market.agent("alice", "Client"), await market.agent("bob", "Worker"))
        for player in (house.alice, house.bob):
            house.sockets[player.id] = await market.socket(player.api_key)
        house.join(house.bob)
        await house.settled()
        house.saw(house.bob)
        await house.foreign.begin()
        await house.foreign.tell()
        yield house


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_join_and_a_block_at_the_same_moment_end_alike_in_either_order(house: House, *, is_first: bool) -> None:
    await house.befriend()

    if is_first:
        house.join(house.alice)
    house.submit(house.command(house.bob, BLOCK, BlockEntity(handle=house.alice.handle)))
    if not is_first:
        house.join(house.alice)
    await house.settled()

    alice, bob = house.alice.id, house.bob.id
    if is_first:
        assert house.saw(house.alice) == [{alice, bob}, ({alice}, set()), (set(), {bob})]
        assert house.saw(house.bob) == [({alice}, set()), (set(), {alice})]
    else:
        assert house.saw(house.alice) == [{alice}, ({alice}, set())]
        assert house.saw(house.bob) == []


async def test_a_contact_made_while_a_socket_joins_again_is_there_when_it_has(house: House) -> None:
    house.join(house.alice)
    await house.settled()
    house.saw(house.alice)
    engine = house.market.server.engine
    await engine.execute(house.command(house.alice, ADD, AddContact(handle=house.bob.handle)))

    house.submit(house.command(house.bob, RESPOND, Respond(action="approve", handle=house.alice.handle)))
    house.join(house.alice, "2")
    await house.settled()

    alice, bob = house.alice.id, house.bob.id
    assert house.saw(house.alice) == [{alice, bob}, ({alice}, set())]
    assert house.saw(house.bob) == [({alice}, set())]


async def test_what_the_command_line_decides_is_shown(house: House) -> None:
    house.join(house.alice)
    await house.settled()
    house.saw(house.alice)
    house.saw(house.bob)
    alice, bob = house.alice.id, house.bob.id

    house.run(contact_commands.request, message=None)
    house.run(contact_commands.approve, who=house.bob.handle, other=house.alice.handle, **NO_SCOPE)
    await house.foreign.tell()
    assert (house.saw(house.alice), house.saw(house.bob)) == ([({bob}, set())], [({alice}, set())])

    house.run(contact_commands.revoke)
    await house.foreign.tell()
    assert (house.saw(house.alice), house.saw(house.bob)) == ([(set(), {bob})], [(set(), {alice})])


async def test_what_was_announced_late_does_not_undo_what_was_decided_since(house: House) -> None:
    """The command line has ended a contact; before this server hears of that, the two are contacts again."""
    await house.befriend()
    house.join(house.alice)
    await house.settled()
    house.run(contact_commands.revoke)
    await house.befriend()
    house.saw(house.alice)
    house.saw(house.bob)

    await house.foreign.tell()

    assert (house.saw(house.alice), house.saw(house.bob)) == ([], [])


async def test_a_tie_that_could_not_be_read_is_told_at_the_next_look(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.befriend()
    house.join(house.alice)
    await house.settled()
    house.saw(house.alice)
    house.run(contact_commands.revoke)
    with monkeypatch.context() as broken:

        async def fail(_change: Any) -> Any:
            raise StorageUnavailable("the disk is full")

        broken.setattr(house.market.server.engine, "change", fail)
        with pytest.raises(StorageUnavailable):
            await house.foreign.tell()
    assert house.saw(house.alice) == []

    await house.foreign.tell()

    assert house.saw(house.alice) == [(set(), {house.bob.id})]
