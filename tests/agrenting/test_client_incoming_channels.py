"""What is done with payment channels that others open, and with those of before a restart."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from agrenting.client.acknowledging import AcknowledgeUpTo
from agrenting.client.amounts import parse_amount
from agrenting.client.context import AgentContext
from agrenting.client.errors import Disconnected, FolderInUse, MalformedAnswer, RolledBack
from agrenting.client.incoming_channels import AcceptChannels, AnyChannel, OfferedChannel
from agrenting.client.paying_desk import Paying
from agrenting.client.payment_channel import PaymentChannel
from agrenting.client.told_messages import Message
from channels.payment_state import Mode
from tests.agrenting.payment_town import Side, Town, within
from tests.channels.roles import NOW

OFFERED = OfferedChannel(
    channel_id="c", agent_a_id="alice", deposit_a=100, mode="online", window_s=86_400, expires_at=NOW
)


class Letters:
    """A mailbox into which a test puts what the market announces."""

    def __init__(self) -> None:
        self.handler: Callable[[Message], Awaitable[None]] | None = None
        self.is_read = False

    def on(self, type: str, handler: Callable[[Message], Awaitable[None]]) -> None:  # noqa: A002 - as the client's
        assert type == "payment_channel"
        assert self.handler is None, "it is asked once"
        self.handler = handler

    async def start(self) -> None:
        self.is_read = True

    async def bring(self, channel_id: str, status: str = "pending") -> None:
        assert self.handler is not None
        payload = {"channel_id": channel_id, "status": status}
        fields = {"id": "m", "type": "payment_channel", "from_agent_id": None, "from_market": True, "inserted_at": NOW}
        await self.handler(msgspec.convert({**fields, "payload": payload}, Message))


async def desk(town: Town, side: Side) -> tuple[Paying, Letters, AgentContext]:
    context, letters = await town.context(side), Letters()
    context.mailbox = letters  # type: ignore[assignment]  # It stands in for one.
    return Paying(context), letters, context


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    """A channel that Alice has opened with 1,000, and that waits for Bob."""
    async with Town(tmp_path, counter_deposit=None) as opened:
        yield opened


def minor(value: int | str) -> int:
    return parse_amount(value, 2)


async def nobody(_offered: OfferedChannel) -> bool:
    return False


@pytest.mark.parametrize(
    ("policy", "refusal"),
    [
        (AcceptChannels(), None),
        (AcceptChannels(deposit_max="1.00"), None),
        (AcceptChannels(deposit_max=99), "the deposit is more than is taken"),
        (AcceptChannels(modes=("offline",)), "online channels are not taken"),
        (AcceptChannels(who=lambda offered: offered.agent_a_id == "alice"), None),
        (AcceptChannels(who=lambda offered: offered.agent_a_id == "bob"), "it is not wanted"),
        (AcceptChannels(who=nobody), "it is not wanted"),
    ],
)
async def test_who_is_taken(policy: AcceptChannels, refusal: str | None) -> None:
    assert await policy.refusal(OFFERED, minor) == refusal


async def test_what_waits_at_the_start_is_accepted_and_kept_up(town: Town) -> None:
    opened: list[AnyChannel] = []
    paying, letters, _ = await desk(town, town.bob)

    await within(paying.accept(AcceptChannels(AcknowledgeUpTo(50), own_deposit=5, opened=opened.append)))

    assert letters.is_read
    assert (town.stage.channel.status, town.stage.channel.balance_b) == ("open", 5)
    assert opened == [*paying.channels]
    alice = await town.online(town.alice)
    assert await within(alice.pay(50)) == 1


async def test_what_is_announced_later_is_accepted_once_however_often_it_is_told(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[AnyChannel] = []
    paying, letters, _ = await desk(town, town.bob)
    monkeypatch.setattr(town, "listed", lambda _path: [])
    await within(paying.accept(AcceptChannels(opened=opened.append)))
    channel_id = town.stage.channel.id
    assert town.stage.channel.status == "pending"

    await within(asyncio.gather(letters.bring(channel_id), letters.bring(channel_id)))
    await within(letters.bring(channel_id))
    await within(letters.bring(channel_id, "open"))

    assert [channel.id for channel in opened] == [channel_id]
    assert town.stage.channel.status == "open"


async def test_what_is_not_wanted_is_declined_with_the_reason(town: Town) -> None:
    paying, _, _ = await desk(town, town.bob)

    await within(paying.accept(AcceptChannels(deposit_max=999)))

    assert (town.stage.channel.status, town.stage.channel.reason) == ("declined", "the deposit is more than is taken")
    assert paying.channels == ()


async def test_an_open_channel_is_taken_up_after_a_restart(town: Town) -> None:
    first, _, context = await desk(town, town.bob)
    await within(first.accept(AcceptChannels()))
    await first.channels[0].stop()
    context.release_folder()

    second, _, _ = await desk(town, town.bob)
    await within(second.accept(AcceptChannels(deposit_max=1)))

    assert [channel.id for channel in second.channels] == [town.stage.channel.id]


async def test_only_one_program_at_a_time_pays_with_a_folder_and_the_other_has_done_nothing(town: Town) -> None:
    first, _, _ = await desk(town, town.bob)
    second, letters, context = await desk(town, town.bob)
    waiting = town.stage.channel.id
    context.folder.lock()

    for refused in (first.accept(AcceptChannels()), first.channel(waiting), first.open_channel("alice", deposit=1)):
        with pytest.raises(FolderInUse, match="another program of this agent uses"):
            await within(refused)
    assert (town.stage.channel.status, first.channels) == ("pending", ())

    await within(second.accept(AcceptChannels()))
    assert letters.is_read
    assert [channel.id for channel in second.channels] == [waiting]


async def test_a_channel_whose_file_is_damaged_is_logged_and_keeps_nothing_else_from_going_on(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    paying, _, context = await desk(town, town.bob)
    context.folder.channel(town.stage.channel.id).write_text("nonsense")

    with caplog.at_level(logging.ERROR):
        await within(paying.accept(AcceptChannels()))

    assert "cannot be kept up" in caplog.text
    assert paying.channels == ()


async def test_a_closed_connection_ends_the_taking_up(town: Town) -> None:
    paying, _, _ = await desk(town, town.bob)
    town.bob.end()

    with pytest.raises(Disconnected):
        await within(paying.accept(AcceptChannels()))


async def test_a_channel_is_kept_up_once_and_anew_after_it_has_failed(town: Town) -> None:
    town.stage.send(town.bob.player, "accept", deposit=1)
    paying, _, _ = await desk(town, town.alice)
    first = await within(paying.channel(town.stage.channel.id))
    assert await within(paying.channel(town.stage.channel.id)) is first
    await town.online(town.bob, AcknowledgeUpTo(10))
    before = town.stage.snapshot
    assert isinstance(first, PaymentChannel)
    await within(first.pay(10))
    town.alice.lie = lambda _told: {**before, "missing_transfers": [], "missing_after": None}
    town.alice.lose()
    with pytest.raises(RolledBack):
        await within(first.closed())
    with pytest.raises(RolledBack):
        await within(paying.channel(town.stage.channel.id))
    town.alice.lie = lambda told: told

    second = await within(paying.channel(town.stage.channel.id))

    assert second is not first
    assert isinstance(second, PaymentChannel)
    assert await within(second.pay(5)) == 2


async def test_a_channel_that_has_ended_is_forgotten(town: Town) -> None:
    town.stage.send(town.bob.player, "accept", deposit=1)
    paying, _, _ = await desk(town, town.alice)
    channel = await within(paying.channel(town.stage.channel.id))
    await town.online(town.bob)
    is_read_no_more = asyncio.Event()
    channel.when_ended(is_read_no_more.set)

    end = await within(channel.close())
    await within(is_read_no_more.wait())

    assert paying._channels == {}  # noqa: SLF001 - what it keeps for nobody is seen nowhere else
    assert await within(channel.closed()) == end
    assert (await within(paying.channel(channel.id))).is_over


async def test_an_answer_that_is_no_channel_is_refused(town: Town) -> None:
    paying, _, _ = await desk(town, town.bob)
    town.bob.lie = lambda told: {**told, "expires_at": 5}

    with pytest.raises(MalformedAnswer):
        await within(paying._answered("c", AcceptChannels()))  # noqa: SLF001 - a list would log it


async def test_offline_channels_are_taken_where_that_is_said(tmp_path: Path) -> None:
    async with Town(tmp_path, mode=Mode.OFFLINE, counter_deposit=None) as town:
        opened: list[AnyChannel] = []
        paying, _, _ = await desk(town, town.bob)
        await within(paying.accept(AcceptChannels(modes=("online", "offline"), opened=opened.append)))

        assert [channel.channel["mode"] for channel in opened] == ["offline"]
