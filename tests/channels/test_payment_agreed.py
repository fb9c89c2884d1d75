"""Nobody can void or hold what both have signed, and nothing that is dead ever moves money.

Offline: a chain that its holder kept back is executed whole if it is handed in before the window ends, whatever its
payer has tried. Online: a proposal that was rejected, withdrawn, expired or dropped stays without effect, however it
comes back.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import permutations
from typing import Any

import pytest

from channels.errors import Refusal
from channels.payment_state import Cause, Mode
from tests import paying
from tests.channels.payment_stage import DAY_S, WEEK_S, Json, Stage
from tests.channels.payment_versions import Story, pay, require_refused, told
from tests.channels.roles import ALICE, BOB, Player

HELD = 4
"""How many transfers are signed outside and held back."""

Attempt = Callable[[Stage], object]


def _attempts(story: Story) -> dict[str, Attempt]:
    """What the payer tries so that a chain it has signed is not executed."""
    mallory, chain = story.mallory, story.chain[:HELD]

    def offer_a_close(stage: Stage) -> None:
        now = stage.snapshot
        finals = (now["balance_a"], now["balance_b"])
        asked = {"final_balance_a": finals[0], "final_balance_b": finals[1]}
        stage.send(mallory, "close_request", **asked, signature=paying.close_signature(now, mallory.secret_key, finals))

    def make_noise(stage: Stage) -> None:
        proposal = paying.proposal(stage.snapshot, mallory.secret_key, from_agent_id=mallory.id, amount=5)
        require_refused(stage, mallory, "propose_transfer", **proposal)
        require_refused(stage, mallory, "deposit", amount=5)
        require_refused(stage, mallory, "reject_transfer", reason="")
        forged = paying.close(stage.snapshot, mallory.secret_key, mallory.secret_key)
        require_refused(stage, mallory, "close", **forged)

    def know(stage: Stage) -> None:
        balance_a, balance_b = story.finals(1)
        stage.send(mallory, "join", known={**chain[0], "balance_a": balance_a, "balance_b": balance_b})

    return {
        "force_close": lambda stage: stage.send(mallory, "force_close"),
        "dispute": lambda stage: stage.send(mallory, "dispute", reason="No.", evidence=None),
        "withdraw": lambda stage: stage.send(mallory, "withdraw_dispute"),
        "a part": lambda stage: stage.send(mallory, "submit_transfers", transfers=chain[:2]),
        "evidence": lambda stage: stage.send(mallory, "dispute", reason="", evidence={"transfers": chain[:1]}),
        "revoke": lambda stage: stage.revoke(),
        "ban": lambda stage: stage.revoke(Cause.BANNED),
        "noise": make_noise,
        "offer a close": offer_a_close,
        "know": know,
    }


def _harm_begins(stage: Stage) -> bool:
    return stage.channel.closing is not None or stage.channel.dispute is not None


def _orders(first: str) -> Iterator[tuple[str, ...]]:
    """Every order of the payer's moves that end or delay something, and of some others around them."""
    names = ["force_close", "dispute", "withdraw", "a part", "evidence", "revoke", "ban"]
    rest = [name for name in names if name != first]
    yield from ((first, *order) for order in permutations(rest, 4))
    for other in ("noise", "offer a close", "know"):
        yield from ((other, first, *order) for order in permutations(rest, 2))


@pytest.mark.parametrize(("mallory", "window_s"), [(ALICE, DAY_S), (BOB, WEEK_S), (ALICE, 2 * DAY_S)])
@pytest.mark.parametrize("gap", ["none", "third"])
@pytest.mark.parametrize("first", ["force_close", "dispute", "evidence", "a part", "revoke", "ban"])
def test_a_chain_held_back_is_executed_whole_whatever_its_payer_tried_before(
    mallory: Player, window_s: int, gap: str, first: str
) -> None:
    """It is handed in a second before the time is over that its holder has, counted from the payer's first move."""
    story = told(Mode.OFFLINE, mallory)
    attempts = _attempts(story)
    gap_s = 0 if gap == "none" else window_s // 3
    fresh = Stage(mode=Mode.OFFLINE, window_s=window_s)
    for order in _orders(first):
        stage = fresh.copy()
        _act_until(stage, [attempts[name] for name in order], gap_s=gap_s, window_s=window_s)
        assert stage.paid is None, order
        reply = stage.send(story.victim, "submit_transfers", transfers=story.chain[:HELD])
        assert reply["applied"] + reply["duplicates"] == HELD
        for name in order:  # What is done cannot be undone.
            attempt(attempts[name], stage)
        attempt(lambda it: it.send(story.victim, "force_close"), stage)
        stage.wait(3 * window_s)
        assert stage.paid == story.finals(HELD), order


def attempt(act: Attempt, stage: Stage) -> None:
    """Whether it is taken or refused."""
    try:
        act(stage)
    except Refusal as refusal:
        assert refusal.reason not in {"internal_error", "not_found"}  # noqa: PT017 - it may also be taken.


def _act_until(stage: Stage, acts: Sequence[Attempt], *, gap_s: int, window_s: int) -> None:
    """Act after act, up to the last second of the window that the first harmful one has begun."""
    last_moment: datetime | None = None
    for act in acts:
        attempt(act, stage)
        if last_moment is None and _harm_begins(stage):
            last_moment = stage.now + timedelta(seconds=window_s - 1)
        left = gap_s if last_moment is None else min(gap_s, int((last_moment - stage.now).total_seconds()))
        stage.wait(left)
    if last_moment is not None:
        stage.wait(int((last_moment - stage.now).total_seconds()))


# -------------------------------------------------------------------------- what is dead stays dead, however it returns

WAYS_TO_DIE = (
    *("rejected", "withdrawn", "expired", "expired unnoticed", "disputed by the payee", "disputed by the payer"),
    *("force-closed by the payee", "force-closed by the payer", "revoked", "banned"),
)


def _die(stage: Stage, way: str) -> None:
    """End a proposal of Alice's in one of the ways but by an acknowledge."""
    who = BOB if way.endswith("payee") else ALICE
    if way == "rejected":
        stage.send(BOB, "reject_transfer", reason="no")
    elif way == "withdrawn":
        stage.send(ALICE, "reject_transfer", reason="no")
    elif way.startswith("expired"):
        stage.wait(300, is_timer_late=way == "expired unnoticed")
    elif way.startswith("disputed"):
        stage.send(who, "dispute", reason="why", evidence=None)
    elif way.startswith("force"):
        stage.send(who, "force_close")
    else:
        stage.revoke(Cause.BANNED if way == "banned" else Cause.CONTACT_REVOKED)


def _returns(proposal: Json, countersignature: str) -> dict[str, Attempt]:
    """Every way in which Bob, who would be paid, may bring a dead proposal back; he countersigns it afterwards."""
    amount, nonce, signature = proposal["amount"], proposal["nonce"], proposal["signature"]
    signatures = {"signature_a": signature, "signature_b": countersignature}
    names = ("amount", "nonce", "from_agent_id", "task_id")
    transfer = {name: proposal[name] for name in names} | signatures
    state = transfer | {"balance_a": proposal["balance_a"], "balance_b": proposal["balance_b"]}
    finals = {"final_balance_a": proposal["balance_a"], "final_balance_b": proposal["balance_b"]}

    def send(who: Player, event: str, **payload: Any) -> Attempt:
        return lambda stage: stage.send(who, event, **payload)

    return {
        "acknowledge": send(BOB, "acknowledge_transfer", amount=amount, nonce=nonce, signature=countersignature),
        "acknowledge next": send(
            BOB, "acknowledge_transfer", amount=amount, nonce=nonce + 1, signature=countersignature
        ),
        "propose again": send(ALICE, "propose_transfer", amount=amount, nonce=nonce, signature=signature),
        "propose next": send(ALICE, "propose_transfer", amount=amount, nonce=nonce + 1, signature=signature),
        "propose for her": send(BOB, "propose_transfer", amount=amount, nonce=nonce, signature=signature),
        "submit": send(BOB, "submit_transfers", transfers=[transfer]),
        "know": send(BOB, "join", known=state),
        "know a lie": send(BOB, "join", known=state | {"nonce": nonce + 1}),
        "evidence": send(BOB, "dispute", reason="", evidence={"transfers": [transfer]}),
        "close": send(BOB, "close", **finals, **signatures),
        "close request": send(BOB, "close_request", **finals, signature=countersignature),
    }


@pytest.mark.parametrize("way", WAYS_TO_DIE)
@pytest.mark.parametrize("is_paid_on", [False, True])
def test_no_dead_proposal_moves_money_or_stops_the_channel_however_it_comes_back(way: str, *, is_paid_on: bool) -> None:
    """Two returns in every order, before and after the next transfer; the channel goes on and pays its balances."""
    stage = Stage()
    signed = paying.proposal(stage.snapshot, ALICE.secret_key, from_agent_id=ALICE.id, amount=900)
    proposal = stage.send(ALICE, "propose_transfer", **signed)["pending_proposal"]
    countersignature = paying.acknowledgement(stage.snapshot, BOB.secret_key, proposal)["signature"]
    _die(stage, way)
    owed = (1_000, 1_000)
    if is_paid_on and stage.channel.status == "open" and not stage.channel.is_revoked:
        stage.run_timer()
        (transfer,) = paying.chain(stage.snapshot, ALICE.secret_key, BOB.secret_key, [1])
        pay(stage, transfer)
        owed = (999, 1_001)
    returns = _returns(proposal, countersignature)

    for order in permutations(returns, 2):
        after = stage.copy()
        for name in order:
            attempt(returns[name], after)
            now = after.channel
            assert (now.balance_a, now.balance_b) == owed, order
            assert (now.state_lost, now.status == "closed") == (None, False), order
        after.wait(300)
        used = [step.kind for step in after.steps if step.nonce == proposal["nonce"]]
        assert used == ["voided"], order
        attempt(lambda it: it.send(ALICE, "force_close"), after)
        after.wait(3 * DAY_S)
        assert after.paid == owed, order
