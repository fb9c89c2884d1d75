"""ChannelKeeper: keeps one payment channel for one agent, and signs in it only what cannot hurt later.

    opened = await rest.post("/payment-channels", {"counterparty_agent_id": bob, "deposit": 1_000_000})
    keeper = ChannelKeeper(signer, agent_id=alice, path=Path("channels") / opened["id"])
    topic = await socket.join(f"payment:{opened['id']}", {"known": keeper.known()})
    keeper.take(topic.state)
    keeper.take(await topic.push("propose_transfer", keeper.propose(250_000)))
    keeper.hear(*await topic.next_event())

Whatever comes is handed to it in its order: answers to `take`, events to `hear`. It believes signatures, sums and what
it has written down itself, so a server that lies, or that was restored from an old copy, gets no signature out of it.

Before a signature is given away, its nonce and the digest of its message are on disk. No other message is ever signed
with that nonce, also after a crash. A keeper whose own file is an old backup, or lost, is brought by the join what it
lacks, and goes on at the next nonce.

Source: payment channels, client-safe recovery.
"""

from pathlib import Path
from typing import Any, Final

import msgspec

from ._crypto import digest
from .channel_events import channel_after
from .channel_record import Payment, Record, RecordFile, Signed
from .channel_states import (
    CloseRequest,
    DoesNotFollow,
    Opening,
    Proposal,
    SignedState,
    ToldChannel,
    Transfer,
)
from .errors import AlreadySigned, CannotSign, MalformedAnswer, RolledBack
from .own_channel import require_own_channel
from .signer import Signer

LIVE: Final = frozenset({"open", "closing", "disputed"})
"""What can be closed jointly."""

BESIDE: Final = frozenset({"missing_transfers", "missing_after", "duplicate", "outcome"})
"""What an answer brings beside the channel."""


class ChannelKeeper:
    """Keeps one online payment channel for one agent. Not for two programs at once: the file tells, and it refuses.

    Args:
        signer: The agent's.
        agent_id: Who signs.
        path: The file of its record, which it makes; its folder must be there. It holds no secret. Keep it as long as
            the channel is open.

    Raises:
        BrokenRecord: The file is damaged, or another agent's.
    """

    def __init__(self, signer: Signer, *, agent_id: str, path: Path) -> None:
        self.agent_id = agent_id
        self.channel: dict[str, Any] = {}
        """The channel as it was last told, and checked; empty before that."""
        self._signer = signer
        self._file = RecordFile(path, Record(agent_id=agent_id, public_key=signer.public_key))
        self._told: ToldChannel | None = None

    def __repr__(self) -> str:
        """Which channel it keeps, and how far it has come."""
        opening = self.record.opening
        name = "no channel yet" if opening is None else opening.channel_id
        return f"<ChannelKeeper of {self.agent_id} in {name} at nonce {self.record.last_nonce}>"

    @property
    def is_whole(self) -> bool:
        """Whether it has all the signed states; if not, join again with `known`, and take that."""
        return self._told is not None and self._told.is_whole

    def known(self) -> dict[str, Any]:
        """What a join says is known: `{"known": keeper.known()}`. So the reply brings what is missing.

        It also tells a server that was restored from an older copy: the channel is frozen then, and not rolled back.
        """
        state = self.record.standing.state
        return {"nonce": 0} if state is None else msgspec.to_builtins(state)

    def take(self, snapshot: dict[str, Any]) -> None:
        """Check a channel as the server tells it, and go on from there.

        Args:
            snapshot: The whole channel: a join's reply, the reply to an event, or the answer of a REST call. In
                the order in which they came.

        Raises:
            MalformedAnswer, WrongMarket, WrongChannel: It is no channel, another deployment's, or another one, by its
                id, parties or keys. Nothing is taken over; so too with what follows.
            ForgedTransfer, WrongBalance, WrongPayout: A signature, a sum, or a balance does not follow.
            RolledBack: The server has gone back behind what is known.
            CannotSign: It is an offline channel, or states are missing: join with `known`.
            BrokenRecord: Somebody else has written the file.
        """
        told = _converted(snapshot, ToldChannel)
        if told.mode != "online":
            raise CannotSign(f"only online channels are kept, and this one is {told.mode}")
        opening = require_own_channel(told, first=self.record.opening, agent_id=self.agent_id, signer=self._signer)
        self._file.store(self._frozen(told, opening) if told.state_lost is not None else self._followed(told, opening))
        self.channel = {name: value for name, value in snapshot.items() if name not in BESIDE}
        self._told = told

    def hear(self, event: str, payload: dict[str, Any]) -> None:
        """Take what an event of `payment:{channel_id}` tells, in its order; what is older is passed over.

        Raises:
            MalformedAnswer, WrongMarket, WrongChannel, ForgedTransfer, WrongBalance, WrongPayout, RolledBack: As for
                `take`.
            CannotSign: As for `take`, and nothing was taken yet.
            BrokenRecord: As for `take`.
        """
        self._require_told()
        try:
            after = channel_after(self.channel, event, payload)
        except (KeyError, TypeError) as error:
            raise MalformedAnswer(f"what the server tells with {event} cannot be: {error!r}") from error
        if after is not self.channel:
            self.take(after)

    def propose(self, amount: int, task_id: str | None = None, memo: str | None = None) -> dict[str, Any]:
        """The payload of `propose_transfer`: pay the other party.

        Args:
            amount: Minor units, 1 to the agent's balance.
            task_id: A task of the two that it pays for. It is signed: a server that does not know the task refuses, and
                the nonce is bound to it all the same.
            memo: For people, at most 200 characters; not signed.

        A payment that was signed with the next nonce before is signed again where deposits have raised the balances
        meanwhile: with one nonce nothing is paid twice, and over the balances of before nobody can execute it.

        Raises:
            AlreadySigned: Another transfer was signed with the next nonce.
            CannotSign: The channel is not open, something else is pending, the balance is too small, or states are
                missing.
            BrokenRecord: Somebody else has written the file.
            ValueError: The amount is none.
        """
        told = self._require_open()
        if amount < 1:
            raise ValueError(f"a transfer is at least 1 minor unit, not {amount}")
        opening = told.opening
        balance = told.balance_a if self.agent_id == told.agent_a_id else told.balance_b
        pending = told.pending_proposal
        if pending is None and amount > balance:
            raise CannotSign(f"{self.agent_id} has {balance} in the channel, not {amount}")
        balance_a, balance_b = opening.paid(told.balances, from_agent_id=self.agent_id, amount=amount)
        transfer = Transfer(
            nonce=told.last_nonce + 1,
            amount=amount,
            from_agent_id=self.agent_id,
            balance_a=balance_a,
            balance_b=balance_b,
            task_id=task_id,
        )
        if pending is not None and pending.terms != transfer:
            raise CannotSign(f"a transfer is proposed: nonce {pending.nonce}")
        payload: dict[str, Any] = {"amount": amount, "nonce": transfer.nonce, "signature": self._sign(transfer, memo)}
        optional = {"task_id": task_id, "memo": memo}
        return payload | {name: value for name, value in optional.items() if value is not None}

    def acknowledge(self, proposal: dict[str, Any]) -> dict[str, Any]:
        """The payload of `acknowledge_transfer`: confirm what the other party pays.

        Look at amount, task and memo before. One that was acknowledged already gives the same payload again.

        Args:
            proposal: The payload of the event `propose_transfer`, or `pending_proposal` of the channel.

        Raises:
            ForgedTransfer: The nonce is used or is not the next, or the payer has not signed it.
            WrongBalance: Its balances do not follow from the channel as it stands.
            MalformedAnswer: It is no proposal.
            AlreadySigned: Another transfer was signed with this nonce: reject the proposal, which needs no signature.
            CannotSign: The channel is not open, the agent pays itself, or states are missing.
            BrokenRecord: Somebody else has written the file.
        """
        told, proposed = self._require_open(), _converted(proposal, Proposal)
        if proposed.from_agent_id == self.agent_id:
            raise CannotSign("who pays cannot acknowledge it")
        state = self.record.standing.state
        if state is None or state.terms != proposed.terms:
            told.opening.require_proposal(proposed, last_nonce=told.last_nonce, balances=told.balances)
        return {"amount": proposed.amount, "nonce": proposed.nonce, "signature": self._sign(proposed.terms)}

    def close_request(self, finals: tuple[int, int] | None = None) -> dict[str, Any]:
        """The payload of `close_request`: offer a close, which the other party can use until the nonce moves.

        Args:
            finals: What opener and counterparty are paid, in minor units; None: their balances. In a channel that the
                server has lost states of they have to be named.

        Raises:
            AlreadySigned: Another close was signed with the last nonce.
            CannotSign: The channel cannot be closed as it stands, or states are missing.
            BrokenRecord: Somebody else has written the file.
            ValueError: The finals do not sum to all that is locked.
        """
        told = self._require_closable()
        shares = self._finals(told, finals)
        signature = self._sign_close(told, shares)
        return {"final_balance_a": shares[0], "final_balance_b": shares[1], "signature": signature}

    def close(self, request: dict[str, Any], finals: tuple[int, int] | None = None) -> dict[str, Any]:
        """The payload of `close`: agree to a close that the other party has offered.

        Args:
            request: The payload of the event `close_request`, or one of `close_requests` of the channel.
            finals: As for `close_request`: what this agent agrees to.

        Raises:
            ForgedTransfer: The other party has not signed the offer.
            MalformedAnswer: It is no offer.
            AlreadySigned: Another close was signed with the last nonce.
            CannotSign: The offer is for other finals, or for another nonce than the last; or as for `close_request`.
            BrokenRecord: Somebody else has written the file.
            ValueError: The finals do not sum to all that is locked.
        """
        told, asked = self._require_closable(), _converted(request, CloseRequest)
        shares = self._finals(told, finals)
        if asked.agent_id not in told.opening.parties or asked.agent_id == self.agent_id:
            raise CannotSign("the close was not offered by the other party")
        if asked.nonce != told.last_nonce:
            raise CannotSign(f"the close was offered at nonce {asked.nonce}, and {told.last_nonce} is the last one")
        if asked.finals != shares:
            raise CannotSign(f"the close is offered for {asked.finals}, not for {shares}")
        opening = told.opening
        opening.require_signed(asked.agent_id, opening.close_bytes(asked.nonce, shares), asked.signature)
        signatures = {asked.agent_id: asked.signature, self.agent_id: self._sign_close(told, shares)}
        return {
            "final_balance_a": shares[0],
            "final_balance_b": shares[1],
            "signature_a": signatures[told.agent_a_id],
            "signature_b": signatures[told.agent_b_id],
        }

    # What is told.

    @property
    def record(self) -> Record:
        """What is written down of the channel."""
        return self._file.record

    def _followed(self, told: ToldChannel, opening: Opening) -> Record:
        """The record after what is told.

        Raises:
            MalformedAnswer, ForgedTransfer, WrongBalance: It does not follow.
            RolledBack: The server has gone back.
            CannotSign: States are missing.
        """
        record = self.record
        if told.last_nonce < record.last_nonce:
            raise RolledBack(
                f"nonce {record.last_nonce} was used, and the server has gone back to {told.last_nonce}",
                expected=record.last_nonce,
                told=told.last_nonce,
            )
        if told.deposit_a < record.deposit_a or told.deposit_b < record.deposit_b:
            raise RolledBack(
                "the server has lost deposits",
                expected=(record.deposit_a, record.deposit_b),
                told=(told.deposit_a, told.deposit_b),
            )
        try:
            standing = told.follow(opening, record.standing)
        except DoesNotFollow as error:
            if self._may_lack_states(told):
                raise CannotSign("signed states are missing: join with known() to be brought them") from error
            raise
        except ValueError as error:
            raise MalformedAnswer(f"what the server tells of the channel cannot be: {error}") from error
        return msgspec.structs.replace(
            record,
            opening=opening,
            last_nonce=told.last_nonce,
            deposit_a=told.deposit_a,
            deposit_b=told.deposit_b,
            standing=standing,
            signed=self._signed_last(told, opening),
            closed=self._closed_last(told, opening),
            payment=record.payment_after(told),
        )

    def _may_lack_states(self, told: ToldChannel) -> bool:
        """Whether the server was not asked for states that lie between the known one and the last."""
        last = told.last_transfer
        is_asked = told.missing_transfers is not msgspec.UNSET
        return not is_asked and last is not None and last.nonce > self.record.standing.nonce + 1

    def _frozen(self, told: ToldChannel, opening: Opening) -> Record:
        """The record after hearing that the server has lost states: what is known stays known.

        Raises:
            ForgedTransfer: The lost state was not signed by both.
        """
        lost: SignedState | None = told.state_lost
        assert lost is not None, "the caller has looked"
        try:
            opening.require_state(lost)
        except ValueError as error:
            raise MalformedAnswer(f"what the server tells of the channel cannot be: {error}") from error
        last_nonce = max(self.record.last_nonce, told.last_nonce, lost.nonce)
        return msgspec.structs.replace(self.record, opening=opening, last_nonce=last_nonce)

    def _signed_last(self, told: ToldChannel, opening: Opening) -> Signed | None:
        """The transfer that was signed last: also one that is proposed, and that a lost record does not know."""
        own, pending = self.record.signed, told.pending_proposal
        if pending is None or pending.from_agent_id != self.agent_id:
            return own
        if own is not None and own.nonce >= pending.nonce:
            return own
        return Signed(nonce=pending.nonce, digest=digest(opening.transfer_bytes(pending)))

    def _closed_last(self, told: ToldChannel, opening: Opening) -> Signed | None:
        """The close that was signed at this nonce: also one that is offered, and that a lost record does not know."""
        record = self.record
        if record.closed is not None and record.closed.nonce == told.last_nonce:
            return record.closed
        mine = (self.agent_id, told.last_nonce)
        offered = next((one for one in told.close_requests if (one.agent_id, one.nonce) == mine), None)
        if offered is None:
            return None
        message = opening.close_bytes(offered.nonce, offered.finals)
        opening.require_signed(self.agent_id, message, offered.signature)
        return Signed(nonce=offered.nonce, digest=digest(message))

    # What is signed.

    def _require_told(self) -> ToldChannel:
        if self._told is None:
            raise CannotSign("join the channel first, and take the reply")
        return self._told

    def _require_open(self) -> ToldChannel:
        told = self._require_told()
        if told.state_lost is not None:
            raise CannotSign("the server has lost states of this channel: it can only be closed jointly")
        if not told.is_whole:
            raise CannotSign("signed states are missing: join again with known()")
        if told.status != "open":
            raise CannotSign(f"the channel is {told.status}")
        return told

    def _require_closable(self) -> ToldChannel:
        told = self._require_told()
        if not told.is_whole and told.state_lost is None:
            raise CannotSign("signed states are missing: join again with known()")
        if told.status not in LIVE and not (told.status == "pending" and told.state_lost is not None):
            raise CannotSign(f"the channel is {told.status}")
        if told.pending_proposal is not None:
            raise CannotSign(f"a transfer is proposed: nonce {told.pending_proposal.nonce}")
        return told

    def _finals(self, told: ToldChannel, finals: tuple[int, int] | None) -> tuple[int, int]:
        if finals is None:
            if told.state_lost is not None:
                raise CannotSign("the server has lost states, so its balances are not those of now: name the finals")
            return told.balances
        if min(finals) < 0 or sum(finals) != told.total:
            raise ValueError(f"finals are at least 0 and sum to {told.total}, unlike {finals}")
        return finals

    def _sign(self, transfer: Transfer, memo: str | None = None) -> str:
        """Sign a transfer, once it is written down that it was.

        A signature that was given away before is only given again for the same bytes. All other transfers are at the
        next nonce, which nothing was signed with.
        """
        message = self._opening.transfer_bytes(transfer)
        signed = Signed(nonce=transfer.nonce, digest=digest(message))
        before, state = self.record.signed, self.record.standing.state
        is_repeated = state is not None and state.terms == transfer
        if not is_repeated:
            assert transfer.nonce > self.record.last_nonce, "a used nonce has been refused"
            payment = self.record.payment
            is_raised = payment is not None and payment.is_raised_by(transfer)
            if before is not None and before.nonce >= signed.nonce and before != signed and not is_raised:
                raise AlreadySigned(signed.nonce)
            if transfer.from_agent_id == self.agent_id and (payment is None or payment.transfer != transfer):
                payment = Payment(transfer=transfer, memo=memo)
            self._file.store(msgspec.structs.replace(self.record, signed=signed, payment=payment))
        return self._signer.signature(message)

    def _sign_close(self, told: ToldChannel, finals: tuple[int, int]) -> str:
        message = self._opening.close_bytes(told.last_nonce, finals)
        signed = Signed(nonce=told.last_nonce, digest=digest(message))
        before = self.record.closed
        if before is not None and before.nonce == signed.nonce and before != signed:
            raise AlreadySigned(signed.nonce)
        self._file.store(msgspec.structs.replace(self.record, closed=signed))
        return self._signer.signature(message)

    @property
    def _opening(self) -> Opening:
        opening = self.record.opening
        assert opening is not None, "a channel was taken"
        return opening


def _converted(told: dict[str, Any], kind: Any) -> Any:
    """What the server tells, in its shape.

    Raises:
        MalformedAnswer: It has not that shape.
    """
    try:
        return msgspec.convert(told, kind)
    except msgspec.ValidationError as error:
        raise MalformedAnswer(f"what the server tells of the channel cannot be: {error}") from error
