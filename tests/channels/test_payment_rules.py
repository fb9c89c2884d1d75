"""What can be done with a payment channel in each of its phases: everything is tried in every one."""

from collections.abc import Callable, Mapping
from functools import partial

import pytest

from channels.errors import Refusal
from channels.payment_state import Mode
from tests.channels.channel_play import GARBAGE, OFFLINE, ONLINE, PHASES, Play, in_phase
from tests.channels.payment_stage import Json
from tests.channels.roles import ALICE, BOB, OTHER_ID, Player

DONE = "done"
SAME = "duplicate"
OVER = "terminal_state"
SHUT = "channel_not_open"
LATE = "channel_not_pending"
LOST = "state_lost"
ENDED = "contact_revoked"
CALM = "not_disputed"
MODE = "wrong_mode"
GONE = "expired"
NONE = "no_pending_transfer"

Try = Callable[[Play], Json]
TOLD: Mapping[str, Try] = {
    **dict.fromkeys((OVER, SHUT, LATE, CALM), lambda play: {"status": play.snapshot["status"]}),
    MODE: lambda play: {"mode": play.snapshot["mode"]},
    LOST: lambda play: {"known_nonce": 1, "last_nonce": 1},
}
"""What a refusal says beside its reason."""


def _propose_first(play: Play) -> None:
    """Where something can be proposed it is, so that an answer has something to answer."""
    if play.snapshot["status"] == "open" and play.channel.mode is ONLINE:
        try:
            play.propose()
        except Refusal:
            return


def _acknowledge(play: Play) -> Json:
    _propose_first(play)
    snapshot = play.snapshot
    if snapshot["pending_proposal"] is None:
        sent = {"amount": 1, "nonce": snapshot["next_nonce"], "signature": GARBAGE}
        return play.send(BOB, "acknowledge_transfer", **sent)
    return play.acknowledge()


def _reject(play: Play) -> Json:
    _propose_first(play)
    return play.send(BOB, "reject_transfer", reason="another")


def by(who: Player, event: str, **payload: object) -> Try:
    return lambda play: play.send(who, event, **payload)


TRIES: Mapping[str, Try] = {
    "join": by(BOB, "join"),
    "accept": by(BOB, "accept", deposit=7),
    "decline": by(BOB, "decline", reason="another"),
    "cancel": by(ALICE, "cancel"),
    "deposit": by(ALICE, "deposit", amount=1),
    "propose_transfer": lambda play: play.propose(ALICE, 1),
    "acknowledge_transfer": _acknowledge,
    "reject_transfer": _reject,
    "submit_transfers": lambda play: play.hand_in(1),
    "close_request": lambda play: play.send(BOB, "close_request", **play.close_request(BOB, (play.channel.total, 0))),
    "close": lambda play: play.close((play.channel.total, 0)),
    "force_close": by(BOB, "force_close"),
    "dispute": by(ALICE, "dispute", reason="another"),
    "withdraw_dispute": by(BOB, "withdraw_dispute"),
    "decide": lambda play: play.decide(play.channel.total, 0),
}

ORDER = ("pending", "open", "closing", "disputed", "closed", "declined", "expired", "frozen", "revoked")
ONLINE_TABLE: dict[str, tuple[str, ...]] = {
    # pending, open, closing, disputed, closed, declined, expired, frozen, revoked
    "join": (DONE, DONE, DONE, DONE, DONE, DONE, DONE, DONE, DONE),
    "accept": (DONE, LATE, LATE, LATE, OVER, OVER, GONE, LOST, LATE),
    "decline": (DONE, LATE, LATE, LATE, OVER, OVER, GONE, LOST, LATE),
    "cancel": (DONE, LATE, LATE, LATE, OVER, OVER, GONE, LOST, LATE),
    "deposit": (SHUT, DONE, SHUT, SHUT, OVER, OVER, OVER, LOST, ENDED),
    "propose_transfer": (SHUT, DONE, SHUT, SHUT, OVER, OVER, OVER, LOST, ENDED),
    "acknowledge_transfer": (SHUT, DONE, SHUT, SHUT, OVER, OVER, OVER, LOST, NONE),
    "reject_transfer": (SHUT, DONE, SHUT, SHUT, OVER, OVER, OVER, LOST, NONE),
    "submit_transfers": (SHUT, MODE, MODE, MODE, OVER, OVER, OVER, MODE, MODE),
    "close_request": (SHUT, DONE, DONE, DONE, OVER, OVER, OVER, DONE, DONE),
    "close": (SHUT, DONE, DONE, DONE, OVER, OVER, OVER, DONE, DONE),
    "force_close": (SHUT, DONE, SAME, SHUT, OVER, OVER, OVER, LOST, DONE),
    "dispute": (SHUT, DONE, DONE, SHUT, OVER, OVER, OVER, LOST, DONE),
    "withdraw_dispute": (CALM, CALM, CALM, DONE, OVER, OVER, OVER, CALM, CALM),
    "decide": (CALM, CALM, CALM, DONE, OVER, OVER, OVER, DONE, CALM),
}
OFFLINE_TABLE: dict[str, tuple[str, ...]] = ONLINE_TABLE | {
    "deposit": (SHUT, MODE, SHUT, SHUT, OVER, OVER, OVER, "", MODE),
    "propose_transfer": (SHUT, MODE, SHUT, SHUT, OVER, OVER, OVER, "", MODE),
    "acknowledge_transfer": (SHUT, MODE, SHUT, SHUT, OVER, OVER, OVER, "", MODE),
    "reject_transfer": (SHUT, MODE, SHUT, SHUT, OVER, OVER, OVER, "", MODE),
    "submit_transfers": (SHUT, DONE, DONE, DONE, OVER, OVER, OVER, "", DONE),
}
"""A channel whose transfers are signed elsewhere never freezes."""

CASES = [
    (mode, phase, event, outcome)
    for mode, table in ((ONLINE, ONLINE_TABLE), (OFFLINE, OFFLINE_TABLE))
    for event, outcomes in table.items()
    for phase, outcome in zip(ORDER, outcomes, strict=True)
    if (mode, phase) != (OFFLINE, "frozen")
]


@pytest.mark.parametrize(("mode", "phase", "event", "outcome"), CASES)
def test_each_phase_allows_what_it_allows_and_refuses_the_rest(
    mode: Mode, phase: str, event: str, outcome: str
) -> None:
    play = in_phase(phase, mode=mode)
    before = play.everything()

    if outcome in {DONE, SAME}:
        reply = TRIES[event](play)
        assert (outcome == SAME) is reply.get("duplicate", False)
        assert (play.everything() == before) is (outcome == SAME or event == "join")
        return

    refusal = play.refuses(lambda: TRIES[event](play))
    assert refusal.reason == outcome
    assert refusal.context == refusal.context | (TOLD[outcome](play) if outcome in TOLD else {})


def test_the_phases_of_the_table_are_all_there_are() -> None:
    assert tuple(PHASES) == ORDER


@pytest.mark.parametrize("phase", ["pending", "closing", "disputed"])
def test_frozen_in_another_phase_it_answers_state_lost_all_the_same(phase: str) -> None:
    play = in_phase(phase)
    play.freeze()

    events = ["accept", "decline", "cancel"] if phase == "pending" else ["accept", "deposit", "propose_transfer"]
    for event in [*events, "reject_transfer", "acknowledge_transfer", "dispute"]:
        refusal = play.refuses(partial(TRIES[event], play))
        assert (refusal.reason, refusal.context) == (LOST, {"known_nonce": 1, "last_nonce": 1})


def test_a_frozen_dispute_can_be_taken_back_and_the_channel_stays_frozen() -> None:
    play = in_phase("disputed")
    play.freeze()

    reply = play.send(BOB, "withdraw_dispute")

    assert (reply["status"], reply["dispute"], reply["state_lost"]["nonce"]) == ("open", None, 1)
    assert play.refused(BOB, "deposit", amount=1).reason == LOST


def test_the_wrong_mode_says_which_is_right() -> None:
    signed: Json = {"amount": 1, "nonce": 1, "signature": GARBAGE}

    for event in ("propose_transfer", "acknowledge_transfer"):
        assert "submit_transfers" in Play(mode=OFFLINE).refused(ALICE, event, **signed).message
    assert "propose" in Play().refused(ALICE, "submit_transfers", transfers=[]).message


def test_every_phase_plays_on_another_channel_alike() -> None:
    """Nothing depends on the id."""
    play = Play(channel_id=OTHER_ID)
    play.pay()

    assert play.close()["channel_id"] == OTHER_ID
