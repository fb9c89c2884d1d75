"""A lying server about receipts and payment channels: nothing is kept, and nothing is signed."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from agrenting.client.acknowledging import AcknowledgeUpTo
from agrenting.client.errors import (
    ForgedTransfer,
    LyingServer,
    MalformedAnswer,
    ReplayedReceipt,
    RolledBack,
    UnfinishedPayment,
    WrongBalance,
    WrongChannel,
    WrongMarket,
    WrongReceipt,
)
from agrenting.client.payment_channel import PaymentChannel
from agrenting.client.strategies import Boulware
from crypto import sign
from tests.system.harness import MarketProcess
from tests.system.lies_stage import (
    CAPABILITY,
    CHUNKS,
    DEPOSIT,
    MALLORY,
    MALLORYS_KEY,
    PRICE,
    PURSE,
    Change,
    Json,
    Stage,
    exactly,
    hired_and_settled,
    more,
    put,
    staged,
)


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MarketProcess]:
    """One honest server for all of them."""
    process = MarketProcess(tmp_path_factory.mktemp("honest")).start()
    process.user("alice")
    process.user("bob")
    yield process
    assert process.stop() == 0, "\n".join(process.log)


# Receipts.


def paid_more(receipt: Json) -> Json:
    document = receipt["document"]
    return receipt | {"document": document | {"to_provider": document["to_provider"] + 1, "fee": document["fee"] - 1}}


def renamed(receipt: Json) -> Json:
    return receipt | {"document": receipt["document"] | {"capability": "transcribe"}}


def resigned(receipt: Json) -> Json:
    return receipt | {"platform": receipt["platform"] | {"public_key": MALLORYS_KEY}}


async def test_a_receipt_that_was_changed_is_not_kept(market: MarketProcess, tmp_path: Path) -> None:
    async with staged(market, tmp_path) as stage:
        for change in (paid_more, renamed, resigned):
            with stage.lie(change.__name__, "GET /api/v1/tasks/.*/receipt", change), exactly(WrongReceipt):
                await hired_and_settled(stage)


async def test_an_earlier_receipt_is_not_taken_for_a_later_one(market: MarketProcess, tmp_path: Path) -> None:
    async with staged(market, tmp_path) as stage:
        first = await stage.alice.hire(CAPABILITY, provider=stage.bob.handle, max_price=PRICE, data=CHUNKS)
        assert (await first.settle()).receipt is not None
        replayed = stage.see(f"tasks/{first.id}/receipt")

        with stage.lie("replayed", "GET /api/v1/tasks/.*/receipt", lambda _: replayed), exactly(ReplayedReceipt):
            await hired_and_settled(stage)


async def test_the_receipt_of_an_earlier_agreement_is_not_taken(market: MarketProcess, tmp_path: Path) -> None:
    async with staged(market, tmp_path) as stage:
        agreements = [
            await stage.alice.negotiate(stage.bob.handle, CAPABILITY, strategy=Boulware(limit=PRICE)) for _ in range(2)
        ]
        replayed = stage.see(f"negotiations/{agreements[0].session_id}/receipt")

        where = "GET /api/v1/negotiations/.*/receipt"
        with stage.lie("replayed", where, lambda _: replayed), exactly(ReplayedReceipt):
            await agreements[1].receipt()


# Payment channels.


async def opened(stage: Stage) -> PaymentChannel:
    """A channel in which Alice has paid twice."""
    channel = await stage.alice.open_channel(stage.bob.handle, DEPOSIT)
    await channel.pay(100)
    await channel.pay(200)
    return channel


TOLD_CHANNEL: Final = "(reply payment:.* .*|GET /api/v1/payment-channels/[^/]*)"


async def test_a_channel_that_is_rolled_back_gets_no_signature(market: MarketProcess, tmp_path: Path) -> None:
    async with staged(market, tmp_path) as stage:
        channel = await stage.alice.open_channel(stage.bob.handle, DEPOSIT)
        await channel.pay(100)
        before = stage.see(f"payment-channels/{channel.id}")
        await channel.pay(200)

        with stage.lie("rolled back", TOLD_CHANNEL, lambda _: before):
            with exactly(RolledBack):
                await channel.pay(300)
            with pytest.raises((RolledBack, UnfinishedPayment)):
                await channel.pay(300)

        assert isinstance(channel.failure, RolledBack)
        assert stage.see(f"payment-channels/{channel.id}")["last_nonce"] <= 3


CHANNEL_LIES: Final[dict[str, tuple[type[LyingServer], Change]]] = {
    "balances that do not add up": (WrongBalance, more("balance_a")),
    "balances that were moved": (WrongBalance, lambda told: more("balance_a")(more("balance_b", -1)(told))),
    "another key of the other party's": (WrongChannel, put(public_key_b=MALLORYS_KEY)),
    "another party": (WrongChannel, put(agent_b_id="aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa")),
    "another signing domain": (WrongMarket, put(signing_domain="another.test")),
    "deposits that have gone": (WrongBalance, more("deposit_a", -1)),
    "a transfer that the other party has not signed": (
        ForgedTransfer, lambda told: told | {"last_transfer": told["last_transfer"] | {"amount": 201}},
    ),
    "no channel at all": (MalformedAnswer, put(last_nonce="two")),
}  # fmt: skip


async def test_no_lie_about_a_channel_gets_a_signature(market: MarketProcess, tmp_path: Path) -> None:
    async with staged(market, tmp_path) as stage:
        for name, (kind, change) in CHANNEL_LIES.items():
            channel = await opened(stage)
            with stage.lie(name, TOLD_CHANNEL, change), exactly(kind):
                stage.liar.cut()  # The join after it tells the lie, to whoever waits for something of the channel.
                await channel.closed()

            assert stage.see(f"payment-channels/{channel.id}")["last_nonce"] == 2, name


async def test_a_channel_with_another_deposit_is_not_taken(market: MarketProcess, tmp_path: Path) -> None:
    async with staged(market, tmp_path) as stage:
        with stage.lie("less", "POST /api/v1/payment-channels", more("deposit_a", -1)), exactly(WrongBalance):
            await stage.alice.open_channel(stage.bob.handle, DEPOSIT)


PAYMENT_LIES: Final[dict[str, Change]] = {
    "another amount": more("amount"),
    "another's signature": put(signature=sign(MALLORY, b"anything")),
    "a nonce that is not the next": put(nonce=7),
}


async def test_a_forged_payment_is_not_acknowledged(market: MarketProcess, tmp_path: Path) -> None:
    async with staged(market, tmp_path) as stage:
        for name, change in PAYMENT_LIES.items():
            channel = await stage.alice.open_channel(stage.bob.handle, DEPOSIT, acknowledge=AcknowledgeUpTo(PURSE))
            await channel.pay(1_000)
            theirs = await stage.bob.channel(channel.id)
            assert isinstance(theirs, PaymentChannel)

            with stage.lie(name, "event payment:.* propose_transfer", change), exactly(ForgedTransfer):
                paying = asyncio.create_task(theirs.pay(400))
                await channel.closed()

            assert stage.see(f"payment-channels/{channel.id}")["last_transfer"]["nonce"] == 1
            paying.cancel()
            await asyncio.wait([paying])


async def test_the_receipt_of_another_channel_is_not_taken(market: MarketProcess, tmp_path: Path) -> None:
    async with staged(market, tmp_path) as stage:
        channels = [await opened(stage), await opened(stage)]
        for channel in channels:
            await channel.close(timeout_s=10)
        replayed = stage.see(f"payment-channels/{channels[0].id}/receipt")

        where = "GET /api/v1/payment-channels/.*/receipt"
        with stage.lie("replayed", where, lambda _: replayed), exactly(ReplayedReceipt):
            await channels[1].receipt()

        assert (await channels[1].receipt()).finals == (DEPOSIT - 300, 300)
