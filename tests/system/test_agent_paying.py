"""Agents that pay each other on a real server: over cuts, deaths and restored servers, each payment is made once."""

import asyncio
import shutil
import signal
import sys
from pathlib import Path

import pytest

from agrenting.client import CannotSign, CloseNotAnswered, NotPaid
from agrenting.client.errors import ChannelNotOpened, UnfinishedPayment
from agrenting.client.incoming_channels import AcceptChannels
from agrenting.client.paid_channel import CROSSED
from agrenting.client.payment_channel import PaymentChannel
from tests import paying
from tests.system.agent_payers import (
    DEPOSIT,
    PURSE,
    Cutter,
    Frame,
    Town,
    both_sides,
    both_sides_offline,
    pay_each,
    within,
)
from tests.system.harness import ROOT, MarketProcess, free_environment


@pytest.fixture
def town(market: MarketProcess, tmp_path: Path) -> Town:
    return Town(market, tmp_path / "agents")


async def test_a_channel_from_its_opening_to_its_receipt(town: Town) -> None:
    async with town.agents() as (alice, bob):
        channel, other = await both_sides(alice, bob, town)
        held = await alice.balance()
        assert await channel.pay("0.000250", memo="a page") == 1
        assert await channel.deposit(50) == DEPOSIT - 200
        await channel.pay(DEPOSIT - 300)
        with pytest.raises(NotPaid, match="more than is taken at once"):
            await other.pay(DEPOSIT + 1)
        end = await channel.close()
        receipt, history = await channel.receipt(), await other.history()
        purses = [(await agent.balance()).total for agent in (alice, bob)]
        moved = [entry async for entry in alice.payments.transactions(channel_id=channel.id)]
        deposited = [entry async for entry in alice.payments.transactions(kind="deposit")]

    assert (held.available, held.channels, held.total) == (PURSE - DEPOSIT, DEPOSIT, PURSE)
    assert (end.cause, end.own) == ("joint_close", receipt.finals[0])
    assert [step["kind"] for step in history.steps][-1] == "closed"
    assert sum(purses) == 2 * PURSE
    assert (len(moved), len(deposited)) == (3, 1), "the opening, a deposit, and what came back"


async def test_both_pay_at_once_and_every_payment_is_made_once(town: Town) -> None:
    bills = [*range(1, 51)]
    async with town.agents() as (alice, bob):
        channel, other = await both_sides(alice, bob, town)
        await within(asyncio.gather(pay_each(channel, bills), pay_each(other, bills)))
        assert channel.balance == DEPOSIT

    town.verify(channel.id, {town.alice.id: bills, town.bob.id: bills})


CUTS: tuple[tuple[str, Frame], ...] = (
    ("alice", (">", "propose_transfer")),
    ("alice", ("<", "phx_reply")),
    ("alice", ("<", "transfer_complete")),
    ("bob", ("<", "propose_transfer")),
    ("bob", (">", "acknowledge_transfer")),
)


async def test_payments_over_cuts_are_made_once(town: Town) -> None:
    for who, frame in CUTS:
        cutter, bills = Cutter(frame, 3), [*range(1, 6)]
        async with town.agents(**{who: {"on_frame": cutter}}) as agents:
            channel, other = await both_sides(*agents, town)
            cutter.aim(agents[who == "bob"])
            await within(asyncio.gather(pay_each(channel, bills), pay_each(other, bills)))
            assert channel.failure is other.failure is None
            assert cutter.left == 0
        town.verify(channel.id, {town.alice.id: bills, town.bob.id: bills})


async def test_a_payer_that_is_killed_pays_each_bill_once(town: Town) -> None:
    bills = 5
    folder = town.folder / town.alice.id
    async with town.agents() as (alice, bob):
        channel, _other = await both_sides(alice, bob, town)
        await channel.stop()
    async with town.agents() as (_alice, bob):
        await bob.payments.accept(AcceptChannels())
        for direction, event, code in (
            (">", "propose_transfer", -signal.SIGKILL),
            ("<", "transfer_complete", -signal.SIGKILL),
            ("", "", 0),
        ):
            mine = await bob.channel(channel.id)
            assert isinstance(mine, PaymentChannel)
            confirming = asyncio.create_task(_confirm_all(mine))
            program = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.system.agent_payers", town.market.url, town.alice.api_key),
                *(town.alice.seed.hex(), str(folder), channel.id, str(bills), direction, event),
                cwd=ROOT,
                env=free_environment(),
            )
            assert await within(program.wait()) == code
            confirming.cancel()

    town.verify(channel.id, {town.alice.id: [*range(1, bills + 1)]})


async def _confirm_all(channel: PaymentChannel) -> None:
    while True:
        try:
            await channel.acknowledge(await channel.until_proposed())
        except CannotSign:  # It is over already.
            await asyncio.sleep(0)


async def test_a_server_that_is_killed_loses_no_payment_and_makes_none_twice(town: Town) -> None:
    bills = [*range(1, 13)]
    async with town.agents() as (alice, bob):
        channel, other = await both_sides(alice, bob, town)
        payments = asyncio.gather(pay_each(channel, bills), pay_each(other, bills))
        await within(channel.until(lambda: channel.nonce >= 8))
        await asyncio.to_thread(town.market.kill)
        await asyncio.to_thread(town.market.start, town.port)
        await within(payments)
        end = await within(other.close())

    assert end.own == DEPOSIT
    town.verify(channel.id, {town.alice.id: bills, town.bob.id: bills})


async def test_a_restored_server_freezes_the_channel_and_is_told_by_both_how_it_ends(
    town: Town, tmp_path: Path
) -> None:
    market, copy = town.market, tmp_path / "copy.sqlite3"
    async with town.agents() as (alice, bob):
        channel, other = await both_sides(alice, bob, town)
        await channel.pay(100)
        market.here("backup", str(copy))
        await channel.pay(200)
        await within(other.until(lambda: other.nonce == 2))
        await asyncio.to_thread(market.kill)
        restored = MarketProcess(tmp_path / "restored", **market.settings)
        restored.here("restore", str(copy))
        shutil.copy(market.data_dir / "server.key", restored.data_dir)
        await asyncio.to_thread(restored.start, town.port)
        try:
            await within(channel.until(lambda: channel.is_state_lost))
            await within(other.until(lambda: other.is_state_lost))
            with pytest.raises(CannotSign, match="has lost states"):
                await channel.pay(1)
            finals = (DEPOSIT - 300, DEPOSIT + 300)
            closes = await within(asyncio.gather(*(side.close(finals=finals) for side in (channel, other))))
            totals = [(await agent.balance()).total for agent in (alice, bob)]
        finally:
            await asyncio.to_thread(restored.stop)

    assert [close.own for close in closes] == [*finals]
    assert totals == [PURSE - 300, PURSE + 300]


async def test_offline_payments_over_any_medium_and_a_server_that_is_gone_meanwhile(town: Town) -> None:
    async with town.agents() as (alice, bob):
        channel, other = await both_sides_offline(alice, bob, town)
        await asyncio.to_thread(town.market.kill)
        for payer, payee, amount in ((channel, other, 300), (other, channel, 50), (channel, other, 7)):
            payer.complete(await payee.countersign(payer.pay(amount)))
        await asyncio.to_thread(town.market.start, town.port)
        end = await within(other.close())
        receipt = await other.receipt()
        await within(channel.closed())

    assert (end.cause, end.own, receipt.finals) == ("joint_close", DEPOSIT + 257, (DEPOSIT - 257, DEPOSIT + 257))
    town.verify(channel.id, {town.alice.id: [300, 7], town.bob.id: [50]})


async def test_channels_are_declined_taken_back_and_taken_up_again_after_a_restart(town: Town) -> None:
    async with town.agents() as (alice, bob):
        with pytest.raises(ChannelNotOpened, match="cancelled"):
            await alice.open_channel(town.bob.handle, 100, accept_timeout_s=0.1)
        waiting = asyncio.create_task(alice.open_channel(town.bob.handle, 100))
        async with asyncio.timeout(30):
            while not [one async for one in bob.payments.listed(status="pending")]:
                pass
        await bob.payments.accept(AcceptChannels(deposit_max=100))
        channel = await within(waiting)
        with pytest.raises(ChannelNotOpened, match="the deposit is more than is taken") as declined:
            await alice.open_channel(town.bob.id, 101)

    async with town.agents() as (_alice, bob):
        taken_up: list[str] = []
        await bob.payments.accept(AcceptChannels(opened=lambda one: taken_up.append(one.id)))
        balance = await bob.balance()

    assert (declined.value.status, declined.value.cause) == ("declined", "declined")
    assert taken_up == [channel.id]
    assert balance.channels == 0
    assert (town.market.here("doctor"))["differences"] == []


async def test_mallory_gets_nothing_out_of_a_channel(town: Town) -> None:
    """He is Bob's program, without this client: he answers nothing, crosses everything, and asks for too much."""
    async with town.agents() as (alice, _bob), town.market.client(town.bob.api_key) as mallory:
        opening = asyncio.create_task(alice.open_channel(town.bob.id, DEPOSIT))
        await mallory.join(f"messages:{town.bob.id}")
        offered = (await mallory.expect("new_message"))["payload"]
        topic = offered["topic"]
        with town.market.rest(town.bob.api_key) as rest:
            rest.post(f"/api/v1/payment-channels/{offered['channel_id']}/accept", json={}).raise_for_status()
        joined = await mallory.join(topic)
        channel = await within(opening)

        with pytest.raises(NotPaid, match="withdrawn"):
            await channel.pay(100, timeout_s=2.0)
        await mallory.expect("propose_transfer", topic)

        async def cross() -> None:
            while True:
                proposed = await mallory.expect("propose_transfer", topic)
                answer = {"nonce": proposed["nonce"], "reason": CROSSED}
                await mallory.push(topic, "reject_transfer", answer)

        crossing = asyncio.create_task(cross())
        with pytest.raises(NotPaid, match="crossed"):
            await within(channel.pay(100))
        crossing.cancel()

        now = {**joined, **channel.channel}
        finals = (0, DEPOSIT)
        request = {"final_balance_a": 0, "final_balance_b": DEPOSIT}
        signature = paying.close_signature(now, town.bob.seed, finals)
        await mallory.push(topic, "close_request", {**request, "signature": signature})
        with pytest.raises(CloseNotAnswered):
            await channel.close(timeout_s=2.0)
        assert channel.status == "open"
        assert channel.unfinished is None
        assert (await alice.balance()).channels == DEPOSIT


async def test_a_payment_that_was_cancelled_is_finished_or_taken_back_and_not_made_anew(town: Town) -> None:
    async with town.agents() as (alice, bob):
        channel, other = await both_sides(alice, bob, town)
        await other.stop()
        paying_it = asyncio.create_task(channel.pay(100))
        await within(channel.until(lambda: channel.channel["pending_proposal"] is not None))
        paying_it.cancel()
        with pytest.raises(UnfinishedPayment, match="a payment of 100"):
            await channel.pay(100)

        assert await within(channel.withdraw())
        assert channel.balance == DEPOSIT

    town.verify(channel.id, {town.alice.id: []})
