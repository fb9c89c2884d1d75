"""Two things at once to one payment channel, on one server and on two of the same data folder.

Each race has as many ends as there are orders: whichever comes first, there is one effect, both are told clearly what
became of theirs, every server shows the same channel, and no money comes or goes.
"""

from collections.abc import Iterator

import pytest

from tests.system.harness import AgentAccount, MarketProcess
from tests.system.payers import Snapshot
from tests.system.tracks import OPEN, Act, Ends, Setting, Track, balances, proposed, run, start_nodes, track_on

ROUNDS, ROUNDS_LONG = 6, 250


@pytest.fixture(scope="module", params=[1, 2], ids=["one node", "two nodes"])
def nodes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[MarketProcess]]:
    """One server, or two that share a data folder; the books are in order at the end."""
    folder = tmp_path_factory.mktemp("races") / "var"
    markets = start_nodes(folder, request.param)
    yield markets
    assert markets[0].cli("doctor")["ok"]
    assert [market.stop() for market in markets] == [0] * len(markets)


# The races.


async def two_acknowledgements(track: Track) -> tuple[Act, Act, Ends]:
    _, answer = await proposed(track)
    end = balances(900, 1_100, last_nonce=1, **OPEN)
    return (
        track.wire(track.bob, "acknowledge_transfer", answer, node=0),
        track.wire(track.bob, "acknowledge_transfer", answer),
        {("ok", "duplicate"): end, ("duplicate", "ok"): end},
    )


async def two_equal_closes(track: Track) -> tuple[Act, Act, Ends]:
    close = track.closing(await track.begin(), (300, 1_700))
    end = {"status": "closed", "final_balance_a": 300, "final_balance_b": 1_700}
    return (
        track.wire(track.alice, "close", close),
        track.wire(track.bob, "close", close),
        {("ok", "duplicate"): end, ("duplicate", "ok"): end},
    )


async def two_unlike_closes(track: Track) -> tuple[Act, Act, Ends]:
    channel = await track.begin()
    return (
        track.wire(track.alice, "close", track.closing(channel, (2_000, 0))),
        track.wire(track.bob, "close", track.closing(channel, (0, 2_000))),
        {
            ("ok", "terminal_state"): {"status": "closed", "final_balance_a": 2_000},
            ("terminal_state", "ok"): {"status": "closed", "final_balance_a": 0},
        },
    )


async def a_close_and_a_proposal(track: Track) -> tuple[Act, Act, Ends]:
    channel = await track.begin()
    return (
        track.wire(track.alice, "close", track.closing(channel)),
        track.wire(track.bob, "propose_transfer", track.proposal(channel, track.bob, 10)),
        {
            ("ok", "terminal_state"): balances(1_000, 1_000, status="closed", pending_proposal=None, last_nonce=0),
            ("transfer_pending", "ok"): balances(1_000, 1_000, status="open", last_nonce=0),
        },
    )


async def an_acknowledgement_and_a_withdrawal(track: Track) -> tuple[Act, Act, Ends]:
    _, answer = await proposed(track)
    return (
        track.wire(track.alice, "reject_transfer", {"nonce": 1}),
        track.wire(track.bob, "acknowledge_transfer", answer),
        {
            ("nonce_replayed", "ok"): balances(900, 1_100, last_nonce=1, **OPEN),
            ("ok", "nonce_replayed"): balances(1_000, 1_000, last_nonce=1, last_transfer=None, **OPEN),
        },
    )


async def an_acknowledgement_and_a_rejection(track: Track) -> tuple[Act, Act, Ends]:
    """Both of Bob, who does not know what he wants."""
    _, answer = await proposed(track)
    return (
        track.wire(track.bob, "reject_transfer", {"reason": "No."}, node=0),
        track.wire(track.bob, "acknowledge_transfer", answer),
        {
            ("no_pending_transfer", "ok"): balances(900, 1_100, last_nonce=1, **OPEN),
            ("ok", "nonce_replayed"): balances(1_000, 1_000, last_nonce=1, last_transfer=None, **OPEN),
        },
    )


async def one_proposal_from_two_sockets(track: Track) -> tuple[Act, Act, Ends]:
    proposal = track.proposal(await track.begin(), track.alice, 100)
    end = balances(1_000, 1_000, last_nonce=0, status="open")
    return (
        track.wire(track.alice, "propose_transfer", proposal),
        track.wire(track.alice, "propose_transfer", proposal, node=track.last),
        {("ok", "duplicate"): end, ("duplicate", "ok"): end},
    )


async def proposals_of_both(track: Track) -> tuple[Act, Act, Ends]:
    channel = await track.begin()
    end = balances(1_000, 1_000, last_nonce=0, status="open")
    return (
        track.wire(track.alice, "propose_transfer", track.proposal(channel, track.alice, 100)),
        track.wire(track.bob, "propose_transfer", track.proposal(channel, track.bob, 100)),
        {("ok", "transfer_pending"): end, ("transfer_pending", "ok"): end},
    )


async def one_chain_from_two_sockets(track: Track) -> tuple[Act, Act, Ends]:
    """Whole, or nothing new: never half of it each."""
    chain = {"transfers": track.chain(await track.begin(mode="offline"), [10, -5, 20, 1])}

    async def hand_in(who: AgentAccount) -> Snapshot:
        reply = await track.wire(who, "submit_transfers", chain)
        assert (reply["applied"], reply["duplicates"]) in {(4, 0), (0, 4)}
        return {"duplicate": reply["duplicates"] == 4}

    end = balances(974, 1_026, last_nonce=4, **OPEN)
    return hand_in(track.alice), hand_in(track.bob), {("ok", "duplicate"): end, ("duplicate", "ok"): end}


async def two_forked_chains(track: Track) -> tuple[Act, Act, Ends]:
    channel = await track.begin(mode="offline")
    return (
        track.wire(track.alice, "submit_transfers", {"transfers": track.chain(channel, [10])}),
        track.wire(track.bob, "submit_transfers", {"transfers": track.chain(channel, [500, 500])}),
        {
            ("ok", "nonce_replayed"): balances(990, 1_010, last_nonce=1, **OPEN),
            ("nonce_replayed", "ok"): balances(0, 2_000, last_nonce=2, **OPEN),
        },
    )


async def two_equal_acceptances(track: Track) -> tuple[Act, Act, Ends]:
    await track.begin(counter=None)
    end = balances(1_000, 70, deposit_b=70, **OPEN)
    return (
        track.rest(track.bob, "accept", {"deposit": 70}, node=0),
        track.rest(track.bob, "accept", {"deposit": 70}),
        {("ok", "duplicate"): end, ("duplicate", "ok"): end},
    )


async def two_unlike_acceptances(track: Track) -> tuple[Act, Act, Ends]:
    await track.begin(counter=None)
    return (
        track.rest(track.bob, "accept", {"deposit": 70}, node=0),
        track.rest(track.bob, "accept", {"deposit": 80}),
        {
            ("ok", "channel_not_pending"): balances(1_000, 70, deposit_b=70, **OPEN),
            ("channel_not_pending", "ok"): balances(1_000, 80, deposit_b=80, **OPEN),
        },
    )


async def an_acceptance_and_a_cancellation(track: Track) -> tuple[Act, Act, Ends]:
    await track.begin(counter=None)
    return (
        track.rest(track.alice, "cancel"),
        track.rest(track.bob, "accept", {"deposit": 70}),
        {
            ("ok", "terminal_state"): {"status": "declined", "deposit_b": 0, "final_balance_a": 1_000},
            ("channel_not_pending", "ok"): {"status": "open", "deposit_b": 70},
        },
    )


async def a_deposit_and_an_acknowledgement(track: Track) -> tuple[Act, Act, Ends]:
    _, answer = await proposed(track)
    return (
        track.rest(track.alice, "deposit", {"amount": 50}),
        track.rest(track.bob, "acknowledge_transfer", answer),
        {
            ("ok", "ok"): balances(950, 1_100, last_nonce=1, deposit_a=1_050, **OPEN),
            ("transfer_pending", "ok"): balances(900, 1_100, last_nonce=1, deposit_a=1_000, **OPEN),
        },
    )


async def a_deposit_and_a_proposal(track: Track) -> tuple[Act, Act, Ends]:
    channel = await track.begin()
    return (
        track.rest(track.alice, "deposit", {"amount": 50}),
        track.rest(track.bob, "propose_transfer", track.proposal(channel, track.bob, 10)),
        {
            ("ok", "stale_state"): balances(1_050, 1_000, last_nonce=0, **OPEN),
            ("transfer_pending", "ok"): balances(1_000, 1_000, last_nonce=0, deposit_a=1_000),
        },
    )


async def a_deposit_and_a_close(track: Track) -> tuple[Act, Act, Ends]:
    channel = await track.begin()
    return (
        track.rest(track.alice, "deposit", {"amount": 50}),
        track.rest(track.bob, "close", track.closing(channel)),
        {
            ("ok", "sum_mismatch"): balances(1_050, 1_000, **OPEN),
            ("terminal_state", "ok"): balances(1_000, 1_000, status="closed", final_balance_a=1_000),
        },
    )


async def two_deposits(track: Track) -> tuple[Act, Act, Ends]:
    await track.begin()
    return (
        track.rest(track.alice, "deposit", {"amount": 50}),
        track.rest(track.bob, "deposit", {"amount": 7}),
        {("ok", "ok"): balances(1_050, 1_007, deposit_a=1_050, deposit_b=1_007, **OPEN)},
    )


async def a_force_close_and_a_proposal(track: Track) -> tuple[Act, Act, Ends]:
    channel = await track.begin()
    closing: Snapshot = {"status": "closing", "pending_proposal": None, "last_transfer": None}
    return (
        track.rest(track.alice, "force-close"),
        track.rest(track.bob, "propose_transfer", track.proposal(channel, track.bob, 10)),
        {
            ("ok", "channel_not_open"): balances(1_000, 1_000, last_nonce=0, **closing),
            ("ok", "ok"): balances(1_000, 1_000, last_nonce=1, **closing),
        },
    )


async def a_force_close_and_an_acknowledgement(track: Track) -> tuple[Act, Act, Ends]:
    _, answer = await proposed(track)
    closing: Snapshot = {"status": "closing", "pending_proposal": None, "last_nonce": 1}
    return (
        track.rest(track.alice, "force-close"),
        track.rest(track.bob, "acknowledge_transfer", answer),
        {
            ("ok", "nonce_replayed"): balances(1_000, 1_000, **closing),
            ("ok", "ok"): balances(900, 1_100, **closing),
        },
    )


async def two_force_closes(track: Track) -> tuple[Act, Act, Ends]:
    await track.begin()
    end = {"status": "closing"}
    return (
        track.rest(track.alice, "force-close"),
        track.rest(track.bob, "force-close"),
        {("ok", "duplicate"): end, ("duplicate", "ok"): end},
    )


async def a_close_and_an_acknowledgement(track: Track) -> tuple[Act, Act, Ends]:
    """The close was signed before the transfer, so it never fits: neither while that is pending nor after it."""
    pending, answer = await proposed(track)
    end = balances(900, 1_100, last_nonce=1, **OPEN)
    return (
        track.wire(track.alice, "close", track.closing(pending)),
        track.wire(track.bob, "acknowledge_transfer", answer),
        {("transfer_pending", "ok"): end, ("stale_state", "ok"): end},
    )


async def a_dispute_and_an_acknowledgement(track: Track) -> tuple[Act, Act, Ends]:
    _, answer = await proposed(track)
    return (
        track.wire(track.alice, "dispute", {"reason": "I have changed my mind."}),
        track.wire(track.bob, "acknowledge_transfer", answer),
        {
            ("ok", "nonce_replayed"): balances(1_000, 1_000, status="disputed", last_nonce=1),
            ("ok", "ok"): balances(900, 1_100, status="disputed", last_nonce=1),
        },
    )


SETTINGS: list[Setting] = [
    two_acknowledgements,
    two_equal_closes,
    two_unlike_closes,
    a_close_and_a_proposal,
    an_acknowledgement_and_a_withdrawal,
    an_acknowledgement_and_a_rejection,
    one_proposal_from_two_sockets,
    proposals_of_both,
    one_chain_from_two_sockets,
    two_forked_chains,
    two_equal_acceptances,
    two_unlike_acceptances,
    an_acceptance_and_a_cancellation,
    a_deposit_and_an_acknowledgement,
    a_deposit_and_a_proposal,
    a_deposit_and_a_close,
    two_deposits,
    a_force_close_and_a_proposal,
    a_force_close_and_an_acknowledgement,
    two_force_closes,
    a_close_and_an_acknowledgement,
    a_dispute_and_an_acknowledgement,
]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.__name__)
async def test_a_race_has_one_effect_and_clear_answers(nodes: list[MarketProcess], setting: Setting) -> None:
    async with track_on(nodes, suffix=f"-{SETTINGS.index(setting)}") as track:
        await run(track, setting, ROUNDS)


@pytest.mark.long
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.__name__)
async def test_a_race_that_is_run_often_always_has_one_effect(nodes: list[MarketProcess], setting: Setting) -> None:
    async with track_on(nodes, suffix=f"-long-{SETTINGS.index(setting)}") as track:
        await run(track, setting, ROUNDS_LONG)
