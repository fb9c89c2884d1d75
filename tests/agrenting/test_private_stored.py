"""Private channels as they are stored: tokens that race, a restart between invitation and join, contexts, clocks."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agrenting.clock import from_ms
from agrenting.db import private, private_sides, states
from agrenting.deciding import THE_HOUSE
from channels.errors import Conflict
from channels.handlers import Empty
from channels.private import CREATE_SEATED, Enter
from channels.private_ends import CLOSE, Remove
from channels.private_ends import REMOVE_MEMBER as REMOVE
from channels.told import ChannelClosed, ContextTold, Ended, MemberLeft
from tests.agrenting.api.market import Caller, Clock, Marketplace, Player, marketplace
from tests.agrenting.private_hall import PrivateHall, identity_of

DAY_S = 86_400
BLOCK = "/agent/contacts/block"


@pytest.fixture
async def market(tmp_path: Path) -> AsyncIterator[Marketplace]:
    async with marketplace(tmp_path / "var") as running:
        yield running


@pytest.fixture
async def deal(market: Marketplace) -> tuple[Player, Player]:
    return await market.deal()


@pytest.fixture
def alice(deal: tuple[Player, Player]) -> Player:
    return deal[0]


@pytest.fixture
def bob(deal: tuple[Player, Player]) -> Player:
    return deal[1]


@pytest.fixture
async def mallory(market: Marketplace) -> Player:
    await market.user("mallory")
    return await market.agent("mallory", "Snoop")


@pytest.fixture
def hall(market: Marketplace, alice: Player) -> PrivateHall:
    return PrivateHall(market, alice)


@pytest.fixture
async def channel_id(hall: PrivateHall) -> str:
    return await hall.create()


async def sitting(hall: PrivateHall) -> set[tuple[str, str]]:
    """By the index that finds members."""
    return {(row[0], row[1]) for row in await hall.rows("SELECT agent_id, instance_id FROM private_members")}


class TestTokens:
    async def test_two_joins_race_for_one_and_exactly_one_wins(
        self, hall: PrivateHall, channel_id: str, bob: Player, mallory: Player
    ) -> None:
        for number in range(20):
            token = await hall.invite(channel_id)
            at = f"instance-{number}"
            racing = [(bob, at), (mallory, at), (bob, f"{at}-other")]

            outcomes = await asyncio.gather(*(hall.enter(channel_id, who, token, at=own) for who, own in racing))

            assert sorted(outcomes) == ["AccessDenied", "AccessDenied", "joined"]
        assert len(await sitting(hall)) == 20
        assert (await hall.channel(channel_id)).invitations == ()

    async def test_each_refusal_leaves_everything_as_it_was(
        self, hall: PrivateHall, channel_id: str, bob: Player, mallory: Player, alice: Player
    ) -> None:
        used, revoked = await hall.invite(channel_id), await hall.invite(channel_id)
        assert await hall.enter(channel_id, bob, used) == "joined"
        await alice.call("DELETE", f"/private-channels/{channel_id}/invitations/{revoked}")
        foreign = await hall.invite(await hall.create())
        bound = await hall.invite(channel_id, instance_id="desk")
        before = await hall.everything()

        for token in (None, "", used, revoked, foreign, bound):
            assert await hall.enter(channel_id, mallory, token) == "AccessDenied"
        assert await hall.enter("private:none", mallory, used) == "NoChannelFound"
        assert await hall.everything() == before
        assert await hall.enter(channel_id, mallory, bound, at="desk") == "joined"

    async def test_that_is_over_by_the_clock_lets_nobody_in(
        self, market: Marketplace, hall: PrivateHall, channel_id: str, bob: Player
    ) -> None:
        early, late = await hall.invite(channel_id, expires_in=60), await hall.invite(channel_id, expires_in=60)
        market.clock.advance(seconds=59.999)
        assert await hall.enter(channel_id, bob, early) == "joined"

        market.clock.advance(seconds=0.001)

        assert await hall.enter(channel_id, bob, late, at="two") == "AccessDenied"

    async def test_for_an_agent_lets_in_any_instance_of_it(
        self, hall: PrivateHall, channel_id: str, bob: Player, mallory: Player
    ) -> None:
        token = await hall.invite(channel_id, instance_id=bob.id)

        assert await hall.enter(channel_id, mallory, token, at=bob.id[:8]) == "AccessDenied"
        assert await hall.enter(channel_id, bob, token, at="anything") == "joined"

    async def test_for_an_agent_is_not_for_another_whose_program_has_that_name(
        self, hall: PrivateHall, channel_id: str, bob: Player, mallory: Player
    ) -> None:
        token = await hall.invite(channel_id, instance_id=bob.id)
        before = await hall.everything()

        assert await hall.enter(channel_id, mallory, token, at=bob.id) == "AccessDenied"
        assert await hall.everything() == before
        assert await hall.enter(channel_id, bob, token) == "joined"

    async def test_for_a_program_is_not_for_another_agents_of_that_name(
        self, hall: PrivateHall, channel_id: str, bob: Player, mallory: Player, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hall.market.server.engine, "holder_of", {"phone": bob.id}.get)
        token = await hall.invite(channel_id, instance_id="phone")

        assert await hall.enter(channel_id, mallory, token, at="phone") == "AccessDenied"
        assert await hall.enter(channel_id, bob, token, at="desk") == "AccessDenied"
        assert await hall.enter(channel_id, bob, token, at="phone") == "joined"

    async def test_has_at_least_128_random_bits_and_no_two_are_alike(self, hall: PrivateHall, channel_id: str) -> None:
        tokens = [await hall.invite(channel_id) for _ in range(50)]

        assert len({*tokens}) == 50
        assert min(map(len, tokens)) >= 22  # Characters of base64 for 128 bits.
        assert len({token[:4] for token in tokens}) > 40

    async def test_survives_a_restart_between_invitation_and_join(self, tmp_path: Path) -> None:
        folder, clock = tmp_path / "restarted", Clock()
        async with marketplace(folder, clock) as market:
            alice, bob = await market.deal()
            hall = PrivateHall(market, alice)
            channel_id = await hall.create()
            token, bound = await hall.invite(channel_id), await hall.invite(channel_id, instance_id="desk")
            assert await hall.enter(channel_id, alice) == "joined"
            await hall.say(channel_id, alice, {"type": "x", "n": 1})
            before = await hall.everything()
        async with marketplace(folder, clock) as market:
            hall = PrivateHall(market, alice)
            assert (await hall.everything())[:3] == before[:3]
            assert await hall.enter(channel_id, bob, bound) == "AccessDenied"
            assert await hall.enter(channel_id, bob, token) == "joined"
            assert await hall.enter(channel_id, bob, token, at="two") == "AccessDenied"
            assert await hall.heard(channel_id, bob) == {"type": "x", "n": 1}
            assert await hall.enter(channel_id, alice) == "joined"
            assert (await hall.channel(channel_id)).owner_agent_id == alice.id


class TestComingBack:
    async def test_a_member_joins_again_without_a_token_and_uses_up_none(
        self, hall: PrivateHall, channel_id: str, bob: Player
    ) -> None:
        await hall.enter(channel_id, bob, await hall.invite(channel_id))
        token = await hall.invite(channel_id)

        for again in (None, "nonsense", token):
            assert await hall.enter(channel_id, bob, again) == "joined"

        assert [one.token for one in (await hall.channel(channel_id)).invitations] == [token]

    async def test_after_leaving_or_being_gone_needs_a_new_token(
        self, hall: PrivateHall, channel_id: str, bob: Player
    ) -> None:
        for end in (hall.leave, hall.gone):
            token = await hall.invite(channel_id)
            assert await hall.enter(channel_id, bob, token) == "joined"
            await end(channel_id, bob)

            assert await hall.enter(channel_id, bob, token) == "AccessDenied"
            assert await sitting(hall) == set()

    async def test_the_owner_leaves_and_comes_back_without_one(
        self, hall: PrivateHall, channel_id: str, alice: Player, bob: Player
    ) -> None:
        await hall.enter(channel_id, alice)
        await hall.enter(channel_id, bob, await hall.invite(channel_id))
        await hall.leave(channel_id, alice)
        await hall.say(channel_id, bob, {"type": "x"})

        assert await hall.enter(channel_id, alice) == "joined"
        assert await hall.heard(channel_id, alice) == {"type": "x"}


class TestTheGate:
    @pytest.mark.parametrize("is_owners", [True, False], ids=["by the owner", "of the owner"])
    async def test_a_block_either_way_refuses_a_token_and_does_not_use_it_up(
        self, hall: PrivateHall, channel_id: str, alice: Player, bob: Player, *, is_owners: bool
    ) -> None:
        token = await hall.invite(channel_id)
        blocker, blocked = (alice, bob) if is_owners else (bob, alice)
        await blocker.post(BLOCK, {"handle": blocked.handle})
        before = await hall.everything()

        assert await hall.enter(channel_id, bob, token) == "AccessDenied"
        assert await hall.everything() == before
        await blocker.post("/agent/contacts/unblock", {"handle": blocked.handle})
        assert await hall.enter(channel_id, bob, token) == "joined"

    async def test_strangers_need_no_contact(self, hall: PrivateHall, channel_id: str, mallory: Player) -> None:
        assert await hall.enter(channel_id, mallory, await hall.invite(channel_id)) == "joined"

    async def test_a_suspended_agent_joins_nothing_new_and_comes_back_to_what_it_is_in(
        self, market: Marketplace, hall: PrivateHall, channel_id: str, bob: Player
    ) -> None:
        olga: Caller = await market.user("olga", is_operator=True)
        await hall.enter(channel_id, bob, await hall.invite(channel_id), at="before")
        token = await hall.invite(channel_id)
        await olga.post(f"/admin/agents/{bob.id}/suspend")

        assert await hall.enter(channel_id, bob, token, at="after") == "AccessDenied"
        assert await hall.enter(channel_id, bob, at="before") == "joined"
        await olga.post(f"/admin/agents/{bob.id}/reinstate")
        assert await hall.enter(channel_id, bob, token, at="after") == "joined"

    async def test_a_full_channel_refuses_a_token_and_does_not_use_it_up(
        self, hall: PrivateHall, channel_id: str, bob: Player
    ) -> None:
        for number in range(64):
            assert await hall.enter(channel_id, bob, await hall.invite(channel_id), at=str(number)) == "joined"
        token = await hall.invite(channel_id)

        assert await hall.enter(channel_id, bob, token, at="64") == "AccessDenied"
        await hall.gone(channel_id, bob, at="7")
        assert await hall.enter(channel_id, bob, token, at="64") == "joined"

    async def test_no_more_than_256_invitations_are_out(
        self, hall: PrivateHall, channel_id: str, alice: Player, bob: Player
    ) -> None:
        tokens = [await hall.invite(channel_id) for _ in range(256)]

        refused = await alice.refused("POST", f"/private-channels/{channel_id}/invitations", {})
        assert refused.why == (403, "AccessDenied")
        assert await hall.enter(channel_id, bob, tokens[100]) == "joined"
        await hall.invite(channel_id)

    async def test_a_closed_channel_is_there_for_nobody(
        self, hall: PrivateHall, channel_id: str, alice: Player, bob: Player
    ) -> None:
        token = await hall.invite(channel_id)
        await hall.do(alice, CLOSE, Empty(), topic=channel_id)

        assert await hall.enter(channel_id, bob, token) == "NoChannelFound"
        assert await hall.enter(channel_id, alice) == "NoChannelFound"


class TestContexts:
    @pytest.fixture(autouse=True)
    async def seats(self, hall: PrivateHall, channel_id: str, alice: Player, bob: Player) -> None:
        await hall.enter(channel_id, alice)
        await hall.enter(channel_id, bob, await hall.invite(channel_id))

    async def test_are_kept_as_the_newest_of_their_types(
        self, hall: PrivateHall, channel_id: str, alice: Player, bob: Player
    ) -> None:
        for number, type_ in enumerate(("a", "b", "a")):
            await hall.say(channel_id, alice, {"type": type_, "number": number, "": [None, {"ü": 1.5}]})

        rest = {"": [None, {"ü": 1.5}]}
        assert await hall.heard(channel_id, bob, "a") == {"type": "a", "number": 2, **rest}
        assert await hall.heard(channel_id, bob, "b") == {"type": "b", "number": 1, **rest}
        assert await hall.heard(channel_id, bob) == {"type": "a", "number": 2, **rest}
        assert await hall.heard(channel_id, bob, "c") is None
        assert len(await hall.rows("SELECT * FROM private_contexts")) == 2

    async def test_of_more_than_64_types_the_oldest_is_forgotten(
        self, hall: PrivateHall, channel_id: str, alice: Player
    ) -> None:
        for number in range(64):
            await hall.say(channel_id, alice, {"type": str(number)})
        await hall.say(channel_id, alice, {"type": "0", "again": True})

        await hall.say(channel_id, alice, {"type": "64"})

        assert await hall.heard(channel_id, alice, "1") is None
        assert await hall.heard(channel_id, alice, "0") == {"type": "0", "again": True}
        assert await hall.heard(channel_id, alice, "2") == {"type": "2"}
        assert len(await hall.rows("SELECT * FROM private_contexts")) == 64

    async def test_of_one_channel_are_not_those_of_another(
        self, hall: PrivateHall, channel_id: str, alice: Player
    ) -> None:
        other_id = await hall.create()
        await hall.enter(other_id, alice)
        await hall.say(channel_id, alice, {"type": "x", "of": 1})
        await hall.say(other_id, alice, {"type": "x", "of": 2})

        assert (await hall.heard(channel_id, alice))["of"] == 1
        await hall.do(alice, CLOSE, Empty(), topic=channel_id)
        assert [row[0] for row in await hall.rows("SELECT channel_id FROM private_contexts")] == [other_id]

    async def test_are_durable_before_they_are_told(
        self, market: Marketplace, hall: PrivateHall, channel_id: str, alice: Player, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told: list[Any] = []
        reader = market.server.database

        def publish(broadcasts: Any, *_: Any) -> None:
            told.extend(broadcasts)
            told.append(
                asyncio.ensure_future(reader.read(lambda tx: private.newest_context(tx, channel_id, type_="x")))
            )

        monkeypatch.setattr(market.server.engine, "publish", publish)
        await hall.say(channel_id, alice, {"type": "x"})

        assert told[0] == ContextTold(
            channel_id=channel_id, agent_id=alice.id, instance_id="one", context={"type": "x"}
        )
        assert await told[1] == {"type": "x"}


class TestWhatIsTold:
    async def test_follows_each_end_in_order(
        self,
        market: Marketplace,
        hall: PrivateHall,
        channel_id: str,
        bob: Player,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        alice = hall.alice
        for at in ("a", "b", "c", "d"):
            await hall.enter(channel_id, bob, await hall.invite(channel_id), at=at)
        told: list[Any] = []
        monkeypatch.setattr(market.server.engine, "publish", lambda broadcasts, *_: told.extend(broadcasts))

        await hall.leave(channel_id, bob, at="a")
        await hall.gone(channel_id, bob, at="b")
        await hall.gone(channel_id, bob, at="b")
        await hall.do(alice, REMOVE, Remove(instance_id="c"), topic=channel_id)
        await hall.do(alice, CLOSE, Empty(), topic=channel_id)

        left = [MemberLeft(channel_id, bob.id, at) for at in ("a", "b", "c")]
        assert told == [*left, ChannelClosed(channel_id), Ended(channel_id)]


class TestTheIdleClock:
    async def timer(self, hall: PrivateHall) -> list[Any]:
        return await hall.rows("SELECT topic, due_at FROM timers WHERE kind = 'private_idle'")

    async def test_ends_a_channel_that_nobody_sits_in(
        self, market: Marketplace, hall: PrivateHall, channel_id: str, alice: Player
    ) -> None:
        ((topic, due_at),) = await self.timer(hall)
        assert (topic, (from_ms(due_at) - market.clock()).total_seconds()) == (channel_id, DAY_S)
        market.clock.advance(seconds=DAY_S)

        await market.server.timers.run_due()
        await market.server.engine.settled()

        assert not (await hall.channel(channel_id)).is_open
        assert await hall.enter(channel_id, alice) == "NoChannelFound"
        assert await self.timer(hall) == []

    async def test_stops_while_somebody_sits_there_and_starts_anew(
        self, market: Marketplace, hall: PrivateHall, channel_id: str, alice: Player, bob: Player
    ) -> None:
        await hall.enter(channel_id, bob, await hall.invite(channel_id))
        assert await self.timer(hall) == []
        market.clock.advance(seconds=10 * DAY_S)
        await hall.enter(channel_id, alice)
        await hall.gone(channel_id, bob)
        assert await self.timer(hall) == []

        await hall.leave(channel_id, alice)

        ((topic, due_at),) = await self.timer(hall)
        assert (topic, (from_ms(due_at) - market.clock()).total_seconds()) == (channel_id, DAY_S)

    async def test_does_not_run_for_who_creates_and_sits_at_once(self, hall: PrivateHall, alice: Player) -> None:
        decision = await hall.do(alice, CREATE_SEATED, Empty(), at="desk")

        channel = await hall.channel(decision.reply["channel"]["id"])
        assert [(one.agent_id, one.instance_id) for one in channel.members] == [(alice.id, "desk")]
        assert await self.timer(hall) == []


class TestTheIndex:
    async def test_of_members_follows_every_change(
        self, hall: PrivateHall, channel_id: str, alice: Player, bob: Player
    ) -> None:
        await hall.enter(channel_id, alice)
        for at in ("one", "two"):
            await hall.enter(channel_id, bob, await hall.invite(channel_id), at=at)
        assert await sitting(hall) == {(alice.id, "one"), (bob.id, "one"), (bob.id, "two")}
        await hall.do(alice, REMOVE, Remove(instance_id="one", agent_id=bob.id), topic=channel_id)
        assert await sitting(hall) == {(alice.id, "one"), (bob.id, "two")}

        seats = await hall.market.server.database.read(private.all_seats)
        assert {(one.channel_id, one.agent_id, one.instance_id) for one in seats} == {
            (channel_id, alice.id, "one"),
            (channel_id, bob.id, "two"),
        }
        assert {one.owner_agent_id for one in seats} == {alice.id}
        await hall.do(alice, CLOSE, Empty(), topic=channel_id)
        assert await sitting(hall) == set()

    async def test_that_differs_is_found(self, hall: PrivateHall, channel_id: str, alice: Player) -> None:
        await hall.enter(channel_id, alice)
        database = hall.market.server.database
        assert await database.read(private_sides.doctor) == []

        await database.write(lambda tx: tx.run("DELETE FROM private_members"))

        assert len(await database.read(private_sides.doctor)) > 0

    async def test_of_a_channel_that_nothing_ends_is_found(
        self, hall: PrivateHall, channel_id: str, alice: Player, bob: Player
    ) -> None:
        database = hall.market.server.database
        seated = await hall.create()
        await hall.enter(seated, alice)
        capability = {"provider_agent_id": bob.id, "capability": "translate"}
        await alice.post("/negotiations", {**capability, "private_channel": True})
        await hall.do(alice, CLOSE, Empty(), topic=await hall.create())
        assert await database.read(private_sides.doctor) == []

        await database.write(lambda tx: tx.run("DELETE FROM timers WHERE kind = 'private_idle'"))

        assert await database.read(private_sides.doctor) == [f"{channel_id} has no member, and no clock that ends it"]

    async def test_of_contexts_that_nobody_may_ask_for_is_found(
        self, hall: PrivateHall, channel_id: str, alice: Player
    ) -> None:
        database = hall.market.server.database
        await hall.enter(channel_id, alice)
        for type_ in ("x", "y"):
            await hall.say(channel_id, alice, {"type": type_})
        assert await database.read(private_sides.doctor) == []
        await hall.do(alice, CLOSE, Empty(), topic=channel_id)
        for id_ in (channel_id, "private:none"):
            left = partial(private.store_context, channel_id=id_, context={"type": "x"}, types_max=64)
            await database.write(left)

        found = await database.read(private_sides.doctor)

        assert sorted(found) == sorted(
            f"{id_} is not there, and contexts of it" for id_ in (channel_id, "private:none")
        )


async def test_a_channel_is_saved_on_the_state_that_it_was_decided_on(
    hall: PrivateHall, channel_id: str, market: Marketplace
) -> None:
    def change(tx: Any) -> None:
        channel = states.load(tx, "private", channel_id)
        tx.run("UPDATE private_channels SET version = version + 1")
        states.save(tx, "private", channel_id, channel)

    with pytest.raises(Conflict):
        await market.server.database.write(change)


async def test_an_agent_that_is_gone_makes_no_channel(hall: PrivateHall, market: Marketplace) -> None:
    context = market.server.engine.context(identity_of(hall.alice), "agents:discovery")
    load = private.LOADERS["private_creating"]

    def ask(tx: Any) -> Any:
        tx.run("DELETE FROM agents")
        return load(tx, "discovery", None, context)

    with pytest.raises(Exception, match="no such agent"):
        await market.server.database.write(ask)


async def test_who_is_no_agent_has_no_tie_to_the_owner(hall: PrivateHall, market: Marketplace, channel_id: str) -> None:
    def ask(tx: Any) -> Any:
        return private.entry(tx, channel_id, market.server.engine.context(THE_HOUSE, channel_id))

    entry = await market.server.database.read(ask)

    assert entry.owner is not None
    assert entry.is_active
    assert Enter().token is None
