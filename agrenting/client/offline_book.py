"""OfflineBook: what an agent knows of an offline payment channel: the chain, and what the server has of it.

The server may be behind: it knows of a transfer only once one of the two has handed it in. It is never ahead of what
this agent has signed, unless the file was lost; then a join brings what is missing.
"""

from pathlib import Path
from typing import Any, Final

import msgspec

from .asking import converted
from .channel_events import channel_after
from .channel_record import Record
from .channel_states import Opening, Proposal, SignedState, Standing, ToldChannel
from .errors import BrokenRecord, CannotSign, MalformedAnswer, RolledBack, WrongBalance
from .offline_journal import CloseSigned, Done, Entry, Journal, Offered, Opened
from .own_channel import require_own_channel
from .payments import BESIDE, LIVE
from .signer import Signer

Payload = dict[str, Any]

ACCEPTED: Final = LIVE | {"closed"}
"""States of a channel that both have put their money into."""


class OfflineBook:
    """What an agent knows of one offline payment channel. What it signs there, `OfflineKeeper` adds.

    Args:
        signer: The agent's.
        agent_id: Who signs.
        path: The file of its journal, which it makes; its folder must be there.

    Raises:
        BrokenRecord: The file is damaged, or another agent's or key's.
    """

    def __init__(self, signer: Signer, *, agent_id: str, path: Path) -> None:
        self.agent_id = agent_id
        self.channel: Payload = {}
        """The channel as the server has told it last, and checked; empty before that."""
        self.unanswered: Proposal | None = None
        """The payment that the agent has signed, and the other party not yet."""
        self._signer = signer
        self._told: ToldChannel | None = None
        self._opened: Opened | None = None
        self._chain: list[SignedState] = []
        self._close: CloseSigned | None = None
        self._journal = Journal(path)
        for entry in self._journal.entries:
            self._apply(entry)
        if self._opened is not None and (
            self._opened.agent_id != agent_id or self._opened.opening.public_key(agent_id) != signer.public_key
        ):
            raise BrokenRecord(f"{path} is the journal of {self._opened.agent_id}, or of another key")

    def __repr__(self) -> str:
        """Which channel it keeps, and how far it has come."""
        name = "no channel yet" if self._opened is None else self._opened.opening.channel_id
        return f"<OfflineKeeper of {self.agent_id} in {name} at nonce {self.last_nonce}>"

    # How it stands.

    @property
    def last_nonce(self) -> int:
        """Of the newest payment that both have signed."""
        return len(self._chain)

    @property
    def submitted_nonce(self) -> int:
        """Of the newest payment that the server knows."""
        return 0 if self._told is None else self._told.last_nonce

    @property
    def balances(self) -> tuple[int, int]:
        """Of opener and counterparty, in minor units, after all that both have signed."""
        if self._chain:
            return self._chain[-1].balance_a, self._chain[-1].balance_b
        return (0, 0) if self._opened is None else (self._opened.deposit_a, self._opened.deposit_b)

    @property
    def balance(self) -> int:
        """What the agent has, in minor units. A payment that it has signed counts as paid."""
        unanswered = self.unanswered
        shares = self.balances if unanswered is None else (unanswered.balance_a, unanswered.balance_b)
        return shares[0 if self._is_a else 1]

    @property
    def other_balance(self) -> int:
        """What the other party has, in minor units: what both have signed."""
        return self.balances[1 if self._is_a else 0]

    @property
    def deposited(self) -> int:
        """What the agent has put in, in minor units."""
        if self._opened is None:
            return 0
        return self._opened.deposit_a if self._is_a else self._opened.deposit_b

    @property
    def is_whole(self) -> bool:
        """Whether all is here that the server has of what both have signed."""
        return self.last_nonce >= self.submitted_nonce

    @property
    def record(self) -> Record:
        """What a receipt of the channel is held against: what the server has confirmed."""
        fresh = Record(agent_id=self.agent_id, public_key=self._signer.public_key)
        if self._opened is None or self._told is None:
            return fresh
        nonce = min(self.submitted_nonce, self.last_nonce)
        state = self._chain[nonce - 1] if nonce else None
        deposits = {"deposit_a": self._opened.deposit_a, "deposit_b": self._opened.deposit_b}
        standing = Standing(state=state, **deposits)
        return msgspec.structs.replace(
            fresh, opening=self._opened.opening, last_nonce=nonce, standing=standing, **deposits
        )

    def unsubmitted(self) -> list[Payload]:
        """The transfers that the server does not know yet, as `submit_transfers` takes them."""
        return [payload_of(state, with_balances=False) for state in self._chain[self.submitted_nonce :]]

    def known(self) -> Payload:
        """What a join says is known: `{"known": keeper.known()}`. So the reply brings what is missing."""
        return msgspec.to_builtins(self._chain[-1]) if self._chain else {"nonce": 0}

    # What the server tells.

    def take(self, snapshot: Payload) -> None:
        """Check a channel as the server tells it. It may be behind: then there is something to submit.

        Args:
            snapshot: The whole channel: a join's reply, the reply to an event, or the answer of a REST call.

        Raises:
            LyingServer: Something does not hold; which lie it is says the subclass. Nothing is taken over.
            CannotSign: It is an online channel, or states are missing: join with `known`.
            BrokenRecord: Somebody else has written the file, or has signed something else for this agent.
        """
        told = converted(snapshot, ToldChannel)
        if told.mode != "offline":
            raise CannotSign(f"this keeps offline channels, and this one is {told.mode}")
        opening = require_own_channel(told, first=self._opening, agent_id=self.agent_id, signer=self._signer)
        self._require_deposits(told)
        if self._opened is None and told.status in ACCEPTED:
            self._note(
                Opened(agent_id=self.agent_id, opening=opening, deposit_a=told.deposit_a, deposit_b=told.deposit_b)
            )
        for state in told.states_after(self.last_nonce):
            self._require_next(opening, state)
            self._note(Done(state=state))
        self._require_same(told)
        self.channel = {name: value for name, value in snapshot.items() if name not in BESIDE}
        self._told = told

    def hear(self, event: str, payload: Payload) -> None:
        """Take what an event of `payment:{channel_id}` tells, in its order; what is older is passed over.

        Raises:
            LyingServer, CannotSign, BrokenRecord: As for `take`.
        """
        if self._told is None:
            raise CannotSign("join the channel first, and take the reply")
        try:
            after = channel_after(self.channel, event, payload)
        except (KeyError, TypeError) as error:
            raise MalformedAnswer(f"what the server tells with {event} cannot be: {error!r}") from error
        if after is not self.channel:
            self.take(after)

    # How it is done.

    @property
    def _opening(self) -> Opening | None:
        return None if self._opened is None else self._opened.opening

    @property
    def _is_a(self) -> bool:
        return self._require_opened().opening.agent_a_id == self.agent_id

    def _require_deposits(self, told: ToldChannel) -> None:
        """Refuse other deposits than at the acceptance: they never change in an offline channel."""
        opened = self._opened
        if opened is not None and (told.deposit_a, told.deposit_b) != (opened.deposit_a, opened.deposit_b):
            raise RolledBack(
                "deposits of an offline channel never change",
                expected=(opened.deposit_a, opened.deposit_b),
                told=(told.deposit_a, told.deposit_b),
            )

    def _require_same(self, told: ToldChannel) -> None:
        """Refuse another transfer than the one that is known at its nonce."""
        last = told.last_transfer
        if last is None or last.nonce > self.last_nonce:
            return
        if self._chain[last.nonce - 1].terms != last.terms:
            raise WrongBalance(
                f"the server has another transfer at nonce {last.nonce}",
                expected=self._chain[last.nonce - 1].terms,
                told=last.terms,
            )

    def _require_next(self, opening: Opening, state: SignedState) -> None:
        """Refuse a transfer that both have signed, and that does not follow from what is here."""
        if state.nonce > self.last_nonce + 1:
            raise CannotSign(f"signed states are missing: {self.last_nonce + 1} is next, not {state.nonce}")
        try:
            opening.require_state(state)
        except ValueError as error:
            raise MalformedAnswer(f"the transfer cannot be: {error}") from error
        after = opening.paid(self.balances, from_agent_id=state.from_agent_id, amount=state.amount)
        if state.nonce != self.last_nonce + 1 or (state.balance_a, state.balance_b) != after:
            raise WrongBalance(
                f"the transfer at nonce {state.nonce} does not follow",
                expected=after,
                told=(state.balance_a, state.balance_b),
            )
        unanswered = self.unanswered
        if unanswered is not None and unanswered.terms != state.terms:
            raise BrokenRecord(f"somebody else has signed a transfer with nonce {state.nonce} for {self.agent_id}")

    def _require_opened(self) -> Opened:
        if self._opened is None:
            raise CannotSign("the channel was never open, as far as is known here")
        return self._opened

    def _note(self, entry: Entry) -> None:
        """Write something down, and go on from there."""
        self._journal.append(entry)
        self._apply(entry)

    def _apply(self, entry: Entry) -> None:
        match entry:
            case Opened():
                self._opened = entry
            case Offered(proposal=proposal):
                self.unanswered = proposal
            case Done(state=state):
                self._chain.append(state)
                self.unanswered = None
            case CloseSigned():
                self._close = entry


def payload_of(transfer: Proposal | SignedState, *, with_balances: bool) -> Payload:
    """The fields of a transfer, with or without the balances after it."""
    fields: Payload = msgspec.to_builtins(transfer)
    return fields if with_balances else {name: fields[name] for name in fields if not name.startswith("balance_")}
