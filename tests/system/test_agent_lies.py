"""A lying server: each lie is an error of its own, and afterwards nothing is signed, kept or paid that should not be.

Bob is honest, and speaks with the real server. Alice speaks with one that lies, once she is connected.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from agrenting.client.errors import (
    AlteredChunk,
    ForgedOffer,
    LostChunks,
    LyingServer,
    MalformedAnswer,
    RolledBack,
    WrongAgreement,
    WrongAnswer,
    WrongBalance,
    WrongMarket,
    WrongMidpoint,
    WrongPayout,
    WrongPrice,
    WrongSession,
)
from agrenting.client.strategies import Boulware
from crypto import sign
from tests.system.harness import MarketProcess
from tests.system.lies_stage import (
    CAPABILITY,
    CHUNKS,
    MALLORY,
    MALLORYS_KEY,
    PRICE,
    Change,
    Json,
    Stage,
    agent_of,
    exactly,
    hired_and_settled,
    more,
    put,
    staged,
)
from tests.system.lying import DROPPED


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MarketProcess]:
    """One honest server for all of them."""
    process = MarketProcess(tmp_path_factory.mktemp("honest")).start()
    process.user("alice")
    process.user("bob")
    yield process
    assert process.stop() == 0, "\n".join(process.log)


# The market.


async def test_another_market_at_a_later_connect_is_noticed(market: MarketProcess, tmp_path: Path) -> None:
    lies: dict[str, Change] = {
        "another signing domain": put(signing_domain="another.test"),
        "another platform key": put(platform={"public_key": MALLORYS_KEY}),
    }
    async with staged(market, tmp_path) as stage:
        for name, change in lies.items():
            with stage.lie(name, "GET /api/v1/meta", change), pytest.raises(WrongMarket):
                await agent_of(stage.liar.url, stage.account, tmp_path / "alice").__aenter__()


async def test_a_balance_that_does_not_add_up_is_noticed(market: MarketProcess, tmp_path: Path) -> None:
    async with staged(market, tmp_path) as stage:
        with stage.lie("more", "GET /api/v1/ledger/balance", more("total")), pytest.raises(WrongBalance):
            await stage.alice.balance()


# Negotiations.


def forged_offer(offer: Json) -> Json:
    """Bob's offer with another amount; midpoint and all that are made to fit."""
    return offer | {"amount": offer["amount"] - 2, "midpoint": offer["midpoint"] - 1}


def mallorys_offer(offer: Json) -> Json:
    return offer | {"signature": sign(MALLORY, b"anything")}


OFFERED: Final = "event negotiation:.* offer"
SESSION_OPENED: Final = "POST /api/v1/negotiations"
SESSION_TOLD: Final = "reply negotiation:.* (phx_join|offer)"
AGREED: Final = "(event negotiation:.* negotiation_complete|reply negotiation:.* (offer|accept|phx_join))"


def agreed_for_more(told: Json) -> Json:
    """An agreement for one unit more, wherever it is told."""
    return None if told.get("amount") is None or told.get("status") == "open" else more("amount")(told)


NEGOTIATION_LIES: Final[dict[str, tuple[type[LyingServer], str, Change]]] = {
    "a wrong midpoint": (WrongMidpoint, OFFERED, more("midpoint")),
    "a wrong midpoint in a reply": (WrongMidpoint, "reply negotiation:.* offer", put(midpoint=1)),
    "an offer with another amount": (ForgedOffer, OFFERED, forged_offer),
    "an offer with another's signature": (ForgedOffer, OFFERED, mallorys_offer),
    "an offer out of turn": (ForgedOffer, OFFERED, lambda offer: offer | {"agent_id": offer["turn"]}),
    "an offer with another digest": (ForgedOffer, OFFERED, put(digest="0" * 64)),
    "other terms at the opening": (WrongSession, SESSION_OPENED, put(terms={"words": 2})),
    "other terms": (WrongSession, SESSION_TOLD, put(terms={"words": 2})),
    "another session digest": (WrongSession, SESSION_TOLD, put(session_digest="0" * 64)),
    "another list price": (WrongSession, SESSION_TOLD, put(base_max=PRICE + 1)),
    "another key": (WrongSession, "reply negotiation:.* offer", put(provider_public_key=MALLORYS_KEY)),
    "another signing domain": (WrongMarket, SESSION_TOLD, put(signing_domain="another.test")),
    "another capability": (WrongAnswer, SESSION_OPENED, put(capability="transcribe")),
    "an offer left out": (RolledBack, "reply negotiation:.* offer", lambda told: put(offers=told["offers"][:-1])(told)),
    "another agreed amount": (WrongAgreement, AGREED, agreed_for_more),
    "no session at all": (MalformedAnswer, "reply negotiation:.* phx_join", put(offers=None)),
}  # fmt: skip


async def test_no_lie_about_a_negotiation_gets_a_signature(market: MarketProcess, tmp_path: Path) -> None:
    async with staged(market, tmp_path) as stage:
        for name, (kind, where, change) in NEGOTIATION_LIES.items():
            with stage.lie(name, where, change), exactly(kind):
                await stage.alice.negotiate(
                    stage.bob.handle, CAPABILITY, strategy=Boulware(limit=PRICE), terms={"words": 300}
                )


# Tasks.


def altered(chunk: Json) -> Json:
    """Another chunk of the same size."""
    if isinstance(chunk, bytes):
        return chunk[:-1] + bytes((chunk[-1] ^ 1,))
    return chunk | {"chunk": "X" * len(chunk["chunk"])}


def second(change: Change) -> Change:
    """Just the chunk with seq 1."""

    def changed(chunk: Json) -> Json:
        seq = int.from_bytes(chunk[:8], "big") if isinstance(chunk, bytes) else chunk["seq"]
        return change(chunk) if seq == 1 else None

    return changed


def dearer(task: Json) -> Json:
    """A task for more, with the fee that this makes."""
    price = task["price"] + 100
    fee = price * task["fee_bps"] // 10_000
    return task | {"price": price, "fee": fee, "net": price - fee}


def in_event(change: Change) -> Change:
    """Of the whole task that an event tells."""
    return lambda told: told | {"task": change(told["task"])}


def output_of(change: Change) -> Change:
    """Of the output of a task."""
    return lambda task: task | {"streams": task["streams"] | {"output": change(task["streams"]["output"])}}


def of_nothing(told: Json) -> Json:
    """Another digest of the output, at its end and wherever it is joined again after it."""
    if "streams" in told:
        return output_of(put(digest="0" * 64))(told) if told["streams"]["output"]["complete"] else None
    return told | {"digest": "0" * 64}


OUTPUT: Final = "event task:.* output_stream"
OPENED: Final = "POST /api/v1/tasks"
COMPLETED: Final = "event task:.* task_completed"

TASK_LIES: Final[dict[str, tuple[type[LyingServer], str, Change]]] = {
    "a task for more than was agreed": (WrongPrice, OPENED, dearer),
    "a fee that does not follow": (WrongPrice, OPENED, more("fee")),
    "a task of another provider": (WrongAnswer, OPENED, put(provider_agent_id="aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa")),
    "a task for something else": (WrongAnswer, OPENED, put(input="something else")),
    "a price that was released before": (WrongPayout, OPENED, put(escrow_status="released")),
    "a price that has changed": (WrongPrice, COMPLETED, in_event(dearer)),
    "an altered chunk": (AlteredChunk, OUTPUT, second(altered)),
    "a chunk that was left out": (LostChunks, OUTPUT, second(lambda _: DROPPED)),
    "a wrong checksum": (AlteredChunk, "event task:.* output_complete", put(checksum="0" * 64)),
    "a wrong digest at the end": (AlteredChunk, "(event task:.* output_complete|reply task:.* phx_join)", of_nothing),
    "another digest of what was sent": (AlteredChunk, "reply task:.* input_stream", put(digest="0" * 64)),
    "an acknowledgement of what was never sent": (AlteredChunk, "reply task:.* input_stream", put(next_seq=100)),
    "an acknowledgement that goes back": (LostChunks, "reply task:.* input_complete", put(next_seq=1)),
    "another output than came": (AlteredChunk, COMPLETED, in_event(output_of(put(digest="0" * 64)))),
    "less output than came": (LostChunks, COMPLETED, in_event(output_of(more("next_seq", -1)))),
    "no task at all": (MalformedAnswer, COMPLETED, in_event(put(paid="nothing"))),
}


async def test_no_lie_about_a_task_is_paid_for(market: MarketProcess, tmp_path: Path) -> None:
    async with staged(market, tmp_path) as stage:
        for name, (kind, where, change) in TASK_LIES.items():
            with stage.lie(name, where, change), exactly(kind):
                await hired_and_settled(stage)

        assert {task["escrow_status"] for task in stage.see("tasks")} <= {"held", "refunded"}


async def _bargained_hired_and_settled(stage: Stage) -> None:
    task = await stage.alice.hire(
        CAPABILITY, provider=stage.bob.handle, strategy=Boulware(limit=PRICE), data=["one ", "two"]
    )
    await task.settle()


async def test_an_agreed_task_costs_what_was_agreed(market: MarketProcess, tmp_path: Path) -> None:
    async with staged(market, tmp_path) as stage:
        agreement = await stage.alice.negotiate(stage.bob.handle, CAPABILITY, strategy=Boulware(limit=PRICE))

        with stage.lie("dearer", OPENED, dearer), exactly(WrongPrice):
            await stage.alice.hire(CAPABILITY, agreement=agreement, data=CHUNKS)


async def test_a_chunk_that_is_altered_in_a_replay_is_noticed(market: MarketProcess, tmp_path: Path) -> None:
    async with staged(market, tmp_path) as stage:
        task = await stage.alice.hire(CAPABILITY, provider=stage.bob.handle, max_price=PRICE)
        await task.send(CHUNKS[0])
        assert await task.next_chunk() == CHUNKS[0][::-1]
        with stage.lie("altered", OUTPUT, second(altered)):
            stage.liar.cut()  # What comes now is replayed, as far as it is stored by then.
            await task.send(CHUNKS[1])
            await task.close()

            with exactly(AlteredChunk):
                await task.settle()


RELEASE_LIES: Final[dict[str, tuple[type[LyingServer], Change]]] = {
    "nothing was released": (WrongPayout, put(escrow_status="held")),
    "it went back": (WrongPayout, put(escrow_status="refunded")),
    "more was released": (WrongPrice, dearer),
    "another task was released": (WrongAnswer, put(id="aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa")),
}


async def test_a_release_that_was_answered_with_something_else_is_noticed(
    market: MarketProcess, tmp_path: Path
) -> None:
    async with staged(market, tmp_path) as stage:
        for name, (kind, change) in RELEASE_LIES.items():
            with stage.lie(name, "(POST /api/v1/tasks/.*/release|reply task:.* release)", change), exactly(kind):
                await hired_and_settled(stage)


# What cannot be at all.


def without(name: str) -> Change:
    """A member left out."""
    return lambda told: {key: value for key, value in told.items() if key != name}


SHAPELESS: Final[dict[str, tuple[str, Change]]] = {
    "a task without streams": ("reply task:.* phx_join", put(streams={"a": 1})),
    "a task without a stream price": ("reply task:.* phx_join", without("stream_price")),
    "a task that is nothing": ("event task:.* task_completed", put(task=None)),
    "an end without a task": ("event task:.* task_completed", lambda _: {}),
    "an end that is a list": ("event task:.* task_completed", lambda _: [1]),
    "a chunk that is text": (OUTPUT, lambda _: "chunk"),
    "a chunk without a seq": (OUTPUT, without("seq")),
    "an acknowledgement of nothing": ("reply task:.* input_stream", lambda _: {}),
    "an opening of nothing": (OPENED, lambda _: []),
    "an offer that is text": (OFFERED, lambda _: "offer"),
    "an offer without a digest": (OFFERED, without("digest")),
    "an offer that nobody has to answer": (OFFERED, put(turn=None)),
    "a session of nothing": ("reply negotiation:.* phx_join", lambda _: {}),
}


async def test_what_cannot_be_is_a_lie_and_no_bug_of_the_client(market: MarketProcess, tmp_path: Path) -> None:
    async with staged(market, tmp_path) as stage:
        for name, (where, change) in SHAPELESS.items():
            with stage.lie(name, where, change), pytest.raises(LyingServer):
                await _bargained_hired_and_settled(stage)
