"""Invitations of private channels over real sockets: once, for whom they are meant, while they hold; and over restarts.

What is said of a token here holds on both transports: the same verbs run over Phoenix's frames and over FDC3's.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.system.guests import DOORS, Denied, Door, Guest, over_dacp, over_phoenix
from tests.system.harness import AgentAccount
from tests.system.private_halls import CONTACT, INSTRUMENT, NO_SUCH, PrivateHall, private_hall

DENIED = "AccessDenied"
WITHIN_S = 30.0
TRIES = 3
both = pytest.mark.parametrize("door", DOORS)


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateHall]:
    settings = {"AGRENTING_PRIVATE_FAILURES_BURST": "1000", "AGRENTING_PRIVATE_GRACE_S": "300"}
    with private_hall(tmp_path_factory.mktemp("tokens") / "var", **settings) as hall:
        yield hall


class Room:
    """A channel of Alice in which nobody sits, by REST."""

    def __init__(self, hall: PrivateHall, id_: str) -> None:
        self.hall = hall
        self.id = id_

    async def call(self, method: str, path: str = "", **body: Any) -> Any:
        """A REST call of Alice on the channel."""
        return await asyncio.to_thread(
            self.hall.call, self.hall.alice, method, f"private-channels/{self.id}{path}", **body
        )

    async def invite(self, **fields: Any) -> str:
        """A token."""
        return self.hall.keep_secret((await self.call("POST", "/invitations", **fields))["token"])

    async def until(self, is_so: Any) -> None:
        """Wait until REST tells the channel so."""
        async with asyncio.timeout(WITHIN_S):
            while not is_so(await self.call("GET")):
                pass  # Each look is a request of its own.

    async def members(self) -> list[tuple[str, str]]:
        """Agent and instance of who sits there."""
        return [(one["agentId"], one["instanceId"]) for one in (await self.call("GET"))["members"]]


async def room(hall: PrivateHall) -> Room:
    """A new one."""
    return Room(hall, (await asyncio.to_thread(hall.call, hall.alice, "POST", "private-channels"))["id"])


async def denied(guest: Guest, channel: str, token: str | None = None) -> str:
    """The reason for which somebody may not join."""
    with pytest.raises(Denied) as refusal:
        await guest.join(channel, token)
    return str(refusal.value)


@asynccontextmanager
async def cast(hall: PrivateHall, door: Door) -> AsyncIterator[tuple[Guest, Guest]]:
    """Bob's program and Mallory's."""
    async with door(hall.market, hall.bob) as bob, door(hall.market, hall.mallory) as mallory:
        yield bob, mallory


@both
async def test_a_token_lets_in_once(hall: PrivateHall, door: Door) -> None:
    channel = await room(hall)
    token = await channel.invite()
    async with cast(hall, door) as (bob, mallory), door(hall.market, hall.bob) as again:
        await bob.join(channel.id, token)

        assert await denied(mallory, channel.id, token) == DENIED
        assert await denied(again, channel.id, token) == DENIED
        await bob.leave(channel.id)
        assert await denied(bob, channel.id, token) == DENIED
        assert await denied(bob, channel.id) == DENIED
        assert await channel.members() == []


@both
async def test_a_token_is_for_its_own_channel_and_made_up_ones_are_for_none(hall: PrivateHall, door: Door) -> None:
    channel, other = await room(hall), await room(hall)
    token = await other.invite()
    async with cast(hall, door) as (bob, mallory):
        for attempt in (token, "", "x", token[:-1], token + "x", token.swapcase(), "ü" * 43, None):
            assert await denied(bob, channel.id, attempt) == DENIED
        assert await denied(bob, NO_SUCH, token) == "NoChannelFound"
        assert (await other.call("GET"))["invitation_count"] == 1
        await mallory.join(other.id, token)


@both
async def test_an_invitation_that_is_over_lets_nobody_in(hall: PrivateHall, door: Door) -> None:
    channel = await room(hall)
    short, long = await channel.invite(expires_in=1), await channel.invite(expires_in=600)
    async with cast(hall, door) as (bob, _):
        await channel.until(lambda state: [one["token"] for one in state["invites"]] == [long])
        assert await denied(bob, channel.id, short) == DENIED
        await bob.join(channel.id, long)


@both
async def test_an_invitation_is_revoked_by_rest_by_its_id_or_its_token(hall: PrivateHall, door: Door) -> None:
    channel = await room(hall)
    by_token, by_id, kept = [await channel.invite() for _ in range(3)]
    ids = {one["token"]: one["id"] for one in (await channel.call("GET"))["invites"]}
    async with cast(hall, door) as (bob, _):
        for name in (by_token, by_token, ids[by_id]):
            await channel.call("DELETE", f"/invitations/{name}")

        for token in (by_token, by_id, ids[by_id], ids[kept]):
            assert await denied(bob, channel.id, token) == DENIED
        await bob.join(channel.id, kept)


@both
async def test_a_wrong_instance_is_refused_and_burns_nothing(hall: PrivateHall, door: Door) -> None:
    channel = await room(hall)
    async with cast(hall, door) as (bob, mallory), door(hall.market, hall.bob) as again:
        token = await channel.invite(instance_id=bob.instance_id)
        for stranger in (mallory, again):
            assert await denied(stranger, channel.id, token) == DENIED
        assert (await channel.call("GET"))["invites"][0]["instanceId"] == bob.instance_id
        await bob.join(channel.id, token)

        token = await channel.invite(instance_id=hall.bob.id)
        assert await denied(mallory, channel.id, token) == DENIED
        await again.join(channel.id, token)


@pytest.mark.parametrize("doors", [*itertools.combinations_with_replacement(DOORS, 2)])
async def test_of_two_who_race_for_one_token_exactly_one_gets_in(hall: PrivateHall, doors: tuple[Door, Door]) -> None:
    channel = await room(hall)
    async with doors[0](hall.market, hall.bob) as bob, doors[1](hall.market, hall.mallory) as mallory:
        runners = (bob, mallory)
        for turn in range(20):
            token = await channel.invite()
            order = runners if turn % 2 else runners[::-1]
            came = await asyncio.gather(*[one.join(channel.id, token) for one in order], return_exceptions=True)
            losers = [one for one, result in zip(order, came, strict=True) if result is not None]
            assert [str(result) for result in came if result is not None] == [DENIED]
            winner = next(one for one in runners if one is not losers[0])
            assert [instance for _, instance in await channel.members()] == [winner.instance_id]
            with pytest.raises(Denied, match=f"{DENIED}|unmatched topic"):
                await losers[0].say(channel.id, CONTACT)
            await winner.leave(channel.id)


async def test_guesses_run_out_and_a_good_token_is_kept(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = {"AGRENTING_PRIVATE_FAILURES_BURST": str(TRIES), "AGRENTING_PRIVATE_FAILURES_PER_S": "0.000001"}
    with private_hall(tmp_path_factory.mktemp("guesses") / "var", **settings) as strict:
        for door, reason in ((over_phoenix, "rate_limited"), (over_dacp, DENIED)):
            channel, other = await room(strict), await room(strict)
            token, elsewhere = await channel.invite(), await other.invite()
            async with cast(strict, door) as (bob, mallory):
                for _ in range(TRIES):
                    assert await denied(mallory, channel.id, "a guess") == DENIED
                assert await denied(mallory, channel.id, token) == reason
                await mallory.join(other.id, elsewhere)
                await bob.join(channel.id, token)


@both
async def test_a_member_that_lost_its_connection_comes_back_with_what_it_joined_with(
    hall: PrivateHall, door: Door
) -> None:
    channel = await room(hall)
    token, other = await channel.invite(), await channel.invite()
    async with door(hall.market, hall.bob) as bob:
        await bob.join(channel.id, token)
        await bob.lose()
    for attempt in (token, None, other):
        async with door(hall.market, hall.bob, bob.instance_id) as again:
            await again.join(channel.id, attempt)
            await again.say(channel.id, CONTACT)
            await again.lose()
    async with over_dacp(hall.market, hall.mallory) as mallory:
        await mallory.join(channel.id, other)
        assert len(await channel.members()) == 2


@both
@pytest.mark.parametrize("other", DOORS)
async def test_a_name_that_another_agents_program_has_opens_nothing_and_shuts_nobody_out(
    hall: PrivateHall, door: Door, other: Door
) -> None:
    """Mallory calls her programs like Bob's program, and like Bob himself."""
    channel = await room(hall)
    async with AsyncExitStack() as opened:
        bob = await opened.enter_async_context(door(hall.market, hall.bob))
        likened = await opened.enter_async_context(other(hall.market, hall.mallory, bob.instance_id))
        posing = await opened.enter_async_context(other(hall.market, hall.mallory, hall.bob.id))
        again = await opened.enter_async_context(door(hall.market, hall.bob))
        for scope, guest in ((bob.instance_id, bob), (hall.bob.id, again)):
            token = await channel.invite(instance_id=scope)

            for stranger in (likened, posing):
                assert await denied(stranger, channel.id, token) == DENIED
            await guest.join(channel.id, token)

        await likened.join(channel.id, await channel.invite())
        assert await channel.members() == [
            (hall.bob.id, bob.instance_id),
            (hall.bob.id, again.instance_id),
            (hall.mallory.id, bob.instance_id),
        ]


@both
async def test_a_block_between_owner_and_guest_wins_over_a_token(hall: PrivateHall, door: Door) -> None:
    channel = await room(hall)
    for blocker, blocked in ((hall.alice, hall.bob), (hall.bob, hall.alice)):
        token = await channel.invite()
        await asyncio.to_thread(hall.call, blocker, "POST", "agent/contacts/block", handle=blocked.handle)
        async with door(hall.market, hall.bob) as bob:
            assert await denied(bob, channel.id, token) == DENIED
            await asyncio.to_thread(hall.call, blocker, "POST", "agent/contacts/unblock", handle=blocked.handle)
            await bob.join(channel.id, token)
            await bob.leave(channel.id)


# Power cuts.


async def killed(hall: PrivateHall) -> None:
    """The server dies as in a power cut, and comes again at the same address."""
    port = hall.market.url.rpartition(":")[2]
    await asyncio.to_thread(hall.market.kill)
    await asyncio.to_thread(hall.market.start, port)


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateHall]:
    """Members may be away for long, also after a start."""
    settings = {"AGRENTING_PRIVATE_RESTART_GRACE_S": "300", "AGRENTING_PRIVATE_GRACE_S": "300"}
    with private_hall(tmp_path_factory.mktemp("fragile") / "var", **settings) as hall:
        yield hall


async def test_channels_tokens_and_members_outlive_a_power_cut(fragile: PrivateHall) -> None:
    channel = await room(fragile)
    of_dacp = await channel.invite()
    used, scoped, fresh = (
        await channel.invite(),
        await channel.invite(instance_id=fragile.mallory.id),
        await channel.invite(),
    )
    async with AsyncExitStack() as stack:
        bob = await stack.enter_async_context(over_phoenix(fragile.market, fragile.bob))
        await bob.join(channel.id, used)
        await bob.say(channel.id, INSTRUMENT)
        twin = await stack.enter_async_context(over_dacp(fragile.market, fragile.bob, "a-twin"))
        await twin.join(channel.id, of_dacp)
        before = await channel.call("GET")
        await killed(fragile)
        assert await channel.call("GET") == before
    assert [one["token"] for one in before["invites"]] == [scoped, fresh]

    async with (
        over_phoenix(fragile.market, fragile.bob, bob.instance_id) as back,
        over_dacp(fragile.market, fragile.bob, "a-twin") as twin_back,
        over_phoenix(fragile.market, fragile.bob) as another,
        over_dacp(fragile.market, fragile.mallory) as mallory,
    ):
        assert await denied(another, channel.id, used) == DENIED
        assert await denied(another, channel.id, scoped) == DENIED
        await back.join(channel.id, used)
        await back.say(channel.id, CONTACT)
        await twin_back.say(channel.id, CONTACT)
        await mallory.join(channel.id, scoped)
        await another.join(channel.id, fresh)
        assert len(await channel.members()) == 4


@pytest.mark.parametrize("answered_count", [1, 5])
async def test_a_power_cut_in_a_race_leaves_each_token_used_or_not(fragile: PrivateHall, answered_count: int) -> None:
    channel = await room(fragile)
    answered: set[tuple[str, str]] = set()
    is_enough = asyncio.Event()

    async def run(guest: Guest, who: tuple[str, str], token: str) -> None:
        with contextlib.suppress(Denied, ConnectionError, ConnectionClosed):
            await guest.join(channel.id, token)
            answered.add(who)
            if len(answered) == answered_count:
                is_enough.set()

    async with AsyncExitStack() as stack:
        rivals: dict[str, list[tuple[Guest, tuple[str, str]]]] = {}
        for number in range(8):
            rivals[await channel.invite()] = runners = []
            for door, account in zip(DOORS[:: -1 if number % 2 else 1], (fragile.bob, fragile.mallory), strict=True):
                guest = await stack.enter_async_context(door(fragile.market, account))
                runners.append((guest, (account.id, guest.instance_id)))
        runs = [asyncio.create_task(run(*one, token)) for token, runners in rivals.items() for one in runners]
        async with asyncio.timeout(WITHIN_S):
            await is_enough.wait()
        await killed(fragile)
        await asyncio.gather(*runs)

    outstanding = {one["token"] for one in (await channel.call("GET"))["invites"]}
    members = set(await channel.members())
    assert answered <= members
    for token, runners in rivals.items():
        winners = [who for _, who in runners if who in members]
        assert len(winners) == (0 if token in outstanding else 1)


async def test_who_does_not_come_back_after_a_power_cut_has_left(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = {"AGRENTING_PRIVATE_RESTART_GRACE_S": "10"}
    with private_hall(tmp_path_factory.mktemp("hasty") / "var", **settings) as hasty:
        channel = await room(hasty)
        async with over_phoenix(hasty.market, hasty.bob) as bob, over_dacp(hasty.market, hasty.mallory) as mallory:
            await bob.join(channel.id, await channel.invite())
            await mallory.join(channel.id, await channel.invite())
            await killed(hasty)
        async with over_phoenix(hasty.market, hasty.bob, bob.instance_id) as back:
            await back.join(channel.id)
            assert await channel.members() == [
                (hasty.bob.id, bob.instance_id),
                (hasty.mallory.id, mallory.instance_id),
            ]
            await channel.until(lambda state: len(state["members"]) == 1)
            assert await channel.members() == [(hasty.bob.id, bob.instance_id)]


# Who sees a token.


def status_of(hall: PrivateHall, account: AgentAccount | str, method: str, path: str) -> tuple[int, Any]:
    """A REST call's status and what it says."""
    with hall.market.rest(account if isinstance(account, str) else account.api_key) as rest:
        answer = rest.request(method, f"/api/v1/private-channels/{path}")
        return answer.status_code, answer.json() if answer.content else None


async def test_the_owner_and_an_operator_see_tokens_a_member_counts_them_and_others_see_nothing(
    hall: PrivateHall,
) -> None:
    channel = await room(hall)
    token, joined = await channel.invite(), await channel.invite()
    operator = hall.market.operator_key
    assert operator is not None
    async with over_dacp(hall.market, hall.bob) as bob:
        await bob.join(channel.id, joined)

        for account in (hall.alice, operator):
            status, told = status_of(hall, account, "GET", channel.id)
            assert (status, [one["token"] for one in told["data"]["invites"]]) == (200, [token])
        status, told = status_of(hall, hall.bob, "GET", channel.id)
        assert (status, told["data"]["invites"], told["data"]["invitation_count"]) == (200, None, 1)
        for account in (hall.mallory, hall.bob):
            told = await asyncio.to_thread(hall.call, account, "GET", "private-channels")
            assert token not in str(told)
        assert status_of(hall, hall.mallory, "GET", channel.id)[0] == 404
        assert status_of(hall, hall.mallory, "DELETE", channel.id)[0] == 404
        assert status_of(hall, hall.bob, "DELETE", channel.id)[0] == 403
        assert hall.market.cli("channel", "show", channel.id)["invites"] == [{"token": token, "instanceId": None}]
