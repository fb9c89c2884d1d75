"""Mallory with an earlier version of a payment channel, a mixture of versions, or a fork: refused, or Mallory loses.

The victim is offline while Mallory acts. In online mode it does not even come back; in offline mode it hands in its
chain at the last moment of the window.
"""

from collections.abc import Iterator, Sequence

import pytest

from channels.errors import Refusal
from channels.payment_state import Mode
from tests import paying
from tests.channels.payment_stage import DAY_S, HOUR_S, WEEK_S, Json, Stage, elsewhere
from tests.channels.payment_versions import VERSIONS, Story, other, pay, require_refused, told
from tests.channels.roles import ALICE, BOB, Player

PLAYERS = [ALICE, BOB]
MODES = list(Mode)


# ------------------------------------------------------------------------------------------------- close with version n


@pytest.mark.parametrize("mallory", PLAYERS, ids=["opener", "counterparty"])
@pytest.mark.parametrize("mode", MODES)
def test_no_close_with_an_earlier_version_is_taken(mode: Mode, mallory: Player) -> None:
    story = told(mode, mallory)
    stage = story.stage.copy()
    if mode is Mode.OFFLINE:
        stage.send(mallory, "submit_transfers", transfers=story.chain)
    own_key = {story.side: mallory.secret_key}
    for version in range(VERSIONS):
        transfer = story.chain[version]
        dated = story.close(version, nonce=version)
        forged = story.close(version, nonce=VERSIONS, **own_key)
        from_transfer = forged | {f"signature_{story.side}": transfer[f"signature_{story.side}"]}
        from_dated = forged | {f"signature_{story.side}": dated[f"signature_{story.side}"]}
        doubled = forged | {f"signature_{story.side}": forged["signature_b" if story.side == "a" else "signature_a"]}
        for attempt in (dated, forged, from_transfer, from_dated, doubled):
            assert require_refused(stage, mallory, "close", **attempt) in {"invalid_signature", "stale_state"}
        asked = {name: value for name, value in dated.items() if "signature" not in name}
        own_dated = dated["signature_b" if story.side == "a" else "signature_a"]
        assert require_refused(stage, mallory, "close_request", **asked, signature=own_dated) in {
            "invalid_signature",
            "stale_state",
        }


@pytest.mark.parametrize("mallory", PLAYERS, ids=["opener", "counterparty"])
def test_a_close_that_the_victim_once_asked_for_is_worth_nothing_after_the_next_transfer(mallory: Player) -> None:
    """In online mode, at every version: the victim asks for a close, gets no answer, and trades on."""
    story = told(Mode.ONLINE, mallory)
    stage = story.fresh.copy()
    asked: list[Json] = []
    for version, transfer in enumerate(story.chain):
        close = story.close(version, nonce=version)
        own = {name: value for name, value in close.items() if "signature" not in name}
        stage.send(story.victim, "close_request", **own, signature=close[f"signature_{story.side}"])
        asked.append(close)
        pay(stage, transfer)
        assert stage.channel.close_requests == ()
        for earlier in asked:
            assert require_refused(stage, mallory, "close", **earlier) in {"invalid_signature", "stale_state"}

    stage.send(mallory, "force_close")
    stage.wait(DAY_S)
    assert stage.paid == story.finals(VERSIONS)


# ----------------------------------------------------------------------------- dispute and force-close with version n


def _dispute_by_version(story: Story, version: int) -> Json:
    """Evidence that the channel stands at a version: its state, and the chain that leads to it."""
    return {"last_transfer": story.chain[version - 1] if version else None, "chain": story.chain[:version]}


@pytest.mark.parametrize("mallory", PLAYERS, ids=["opener", "counterparty"])
@pytest.mark.parametrize("is_closing", [False, True])
def test_who_disputes_or_force_closes_online_with_an_earlier_version_gets_what_the_last_one_says(
    mallory: Player, *, is_closing: bool
) -> None:
    story = told(Mode.ONLINE, mallory)
    for version in range(VERSIONS):
        stage = story.stage.copy()
        if is_closing:
            stage.send(mallory, "force_close")
        evidence = _dispute_by_version(story, version) | {"transfers": story.chain[:version]}
        stage.send(mallory, "dispute", reason="It stands where I say.", evidence=evidence)
        for transfers in (story.chain[:version], story.chain[version : version + 1]):
            assert require_refused(stage, mallory, "submit_transfers", transfers=transfers) == "wrong_mode"
        stage.wait(2 * DAY_S)
        assert stage.paid == story.finals(VERSIONS)


@pytest.mark.parametrize("mallory", PLAYERS, ids=["opener", "counterparty"])
@pytest.mark.parametrize("how", ["submit", "evidence", "dispute only", "force-close only", "dispute, withdrawn late"])
@pytest.mark.parametrize("window_s", [DAY_S, WEEK_S])
def test_who_closes_offline_with_an_earlier_version_loses_against_the_last_one_at_the_last_moment(
    mallory: Player, how: str, window_s: int
) -> None:
    story = told(Mode.OFFLINE, mallory)
    for version in range(VERSIONS):
        stage = Stage(mode=Mode.OFFLINE, window_s=window_s)
        stage.send(mallory, "force_close")
        if how == "submit" and version:
            stage.send(mallory, "submit_transfers", transfers=story.chain[:version])
        elif how == "evidence" and version:
            evidence = {"transfers": story.chain[:version]}
            stage.send(mallory, "dispute", reason="That is all.", evidence=evidence)
        elif how.startswith("dispute"):
            stage.send(mallory, "dispute", reason="That is all.", evidence=_dispute_by_version(story, version))
        stage.wait(window_s - 1)
        if how == "dispute, withdrawn late":
            stage.send(mallory, "withdraw_dispute")
        stage.send(story.victim, "submit_transfers", transfers=story.chain)
        stage.wait(2 * DAY_S)
        assert stage.paid == story.finals(VERSIONS)


@pytest.mark.parametrize("mallory", PLAYERS, ids=["opener", "counterparty"])
@pytest.mark.parametrize("mode", MODES)
def test_joining_with_an_earlier_version_changes_nothing(mode: Mode, mallory: Player) -> None:
    story = told(mode, mallory)
    stage = story.stage.copy()
    for version in range(1, VERSIONS + 1):
        balance_a, balance_b = story.finals(version)
        state = {**story.chain[version - 1], "balance_a": balance_a, "balance_b": balance_b}
        before = stage.everything()
        reply = stage.send(mallory, "join", known=state)
        assert stage.everything() == before
        assert [one["nonce"] for one in reply["missing_transfers"]] == [
            *range(version + 1, stage.channel.last_nonce + 1)
        ]
        lie = state | {"balance_a": balance_a + 1, "balance_b": balance_b - 1}
        assert require_refused(stage, mallory, "join", known=lie) == "invalid_signature"


@pytest.mark.parametrize("name", ["amount", "balance_a", "balance_b"])
@pytest.mark.parametrize("number", [-1, 2**53, 10**30])
def test_a_number_that_nobody_can_have_signed_proves_nothing(name: str, number: int) -> None:
    story = told(Mode.ONLINE, ALICE)
    balance_a, balance_b = story.finals(VERSIONS)
    state = {**story.chain[-1], "balance_a": balance_a, "balance_b": balance_b, name: number}

    reason = require_refused(story.stage.copy(), BOB, "join", known=state | {"nonce": VERSIONS + 1})

    assert reason == "invalid_payload"


# ------------------------------------------------------------------------------------ the same transfers, once again


@pytest.mark.parametrize("mallory", PLAYERS, ids=["opener", "counterparty"])
def test_an_executed_transfer_sent_again_online_is_a_duplicate_or_refused(mallory: Player) -> None:
    story = told(Mode.ONLINE, mallory)
    stage = story.stage.copy()
    before = stage.everything()
    for transfer in story.chain:
        same = {"amount": transfer["amount"], "nonce": transfer["nonce"]}
        payer = ALICE if transfer["from_agent_id"] == ALICE.id else BOB
        own, others = ("signature_a", "signature_b") if payer is ALICE else ("signature_b", "signature_a")
        assert stage.send(payer, "propose_transfer", **same, signature=transfer[own])["duplicate"]
        assert stage.send(other(payer), "acknowledge_transfer", **same, signature=transfer[others])["duplicate"]
        for event in ("propose_transfer", "acknowledge_transfer"):
            for who in PLAYERS:
                at_the_next = same | {"nonce": VERSIONS + 1}
                for signature in (transfer["signature_a"], transfer["signature_b"]):
                    require_refused(stage, who, event, **at_the_next, signature=signature)
        assert require_refused(stage, payer, "propose_transfer", **same, signature=transfer[others]) == "nonce_replayed"
    assert stage.everything() == before


Chains = Iterator[tuple[str, Sequence[Json]]]


def _crooked_chains(story: Story, version: int) -> Chains:
    """Chains that go wrong at a version: a hole, another order, mixed signatures, another channel, a fork."""
    chain, mallory = story.chain, story.mallory
    state, one = story.versions[version], chain[version]
    later = chain[(version + 1) % VERSIONS]
    keys = {"a": ALICE.secret_key, "b": BOB.secret_key}
    hole = min(version, VERSIONS - 2)
    yield "hole", [*chain[:hole], *chain[hole + 1 :]]
    yield "order", [*chain[: version - 1], one, chain[version - 1]] if version else [chain[1], chain[0]]
    for side in "ab":
        yield "mixed signatures", [*chain[:version], one | {f"signature_{side}": later[f"signature_{side}"]}]
    yield (
        "swapped signatures",
        [
            *chain[:version],
            one | {"signature_a": one["signature_b"], "signature_b": one["signature_a"]},
        ],
    )
    yield "renumbered", [*chain[:version], later | {"nonce": version + 1}]
    (foreign,) = paying.chain(elsewhere(state), keys["a"], keys["b"], [1])
    yield "another channel", [*chain[:version], foreign]
    for amount in (1, -1, 500, -500):
        forged = keys | {story.side: mallory.secret_key}
        (fork,) = paying.chain(state, forged["a"], forged["b"], [amount])
        yield "fork", [*chain[:version], fork]
        yield (
            "fork with a true signature",
            [
                *chain[:version],
                fork | {f"signature_{story.side}": one[f"signature_{story.side}"]},
            ],
        )
    yield "overdraft", [*chain[:version], one | {"amount": 10_000}]


@pytest.mark.parametrize("mallory", PLAYERS, ids=["opener", "counterparty"])
def test_a_mixture_of_versions_or_a_fork_is_refused_whole_and_the_true_chain_is_executed_after_it(
    mallory: Player,
) -> None:
    story = told(Mode.OFFLINE, mallory)
    for version in range(VERSIONS):
        stage = story.stage.copy()
        stage.send(mallory, "force_close")
        stage.wait(HOUR_S)
        for name, chain in _crooked_chains(story, version):
            reason = require_refused(stage, mallory, "submit_transfers", transfers=chain)
            assert reason in {"bad_transfer", "nonce_replayed"}, name
            evidence = {"transfers": chain}
            assert require_refused(stage, mallory, "dispute", reason="", evidence=evidence) == reason, name
        stage.wait(DAY_S - HOUR_S - 1)
        assert stage.send(story.victim, "submit_transfers", transfers=story.chain)["applied"] == VERSIONS
        for _, chain in _crooked_chains(story, version):
            require_or_duplicates(stage, mallory, chain)
        stage.wait(1)
        assert stage.paid == story.finals(VERSIONS)


def require_or_duplicates(stage: Stage, who: Player, transfers: Sequence[Json]) -> None:
    """A chain is refused or has no effect."""
    before = stage.everything()
    try:
        assert stage.send(who, "submit_transfers", transfers=transfers)["applied"] == 0
    except Refusal as refusal:
        assert refusal.reason == "nonce_replayed"  # noqa: PT017 - it may also be taken, as a duplicate.
    assert stage.everything() == before
