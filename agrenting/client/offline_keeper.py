"""OfflineKeeper: keeps one offline payment channel for one agent: signs, countersigns, and knows the whole chain.

    proposal = alice.pay(250)                 # a dict, carried to Bob by any medium
    transfer = bob.countersign(proposal)      # checked, and signed by both
    alice.complete(transfer)
    await channel.submit(…)                   # whenever there is a connection, by either

A payment that was signed counts as paid: its nonce is never signed for anything else, and nothing else is signed before
the other party has put its signature under it. If it does not, force-close the channel. When both have signed a payment
with the same nonce, neither can countersign the other's: take turns, or settle who pays by other means.

Source: payment channels, offline transfers; SIGNING.md ("payment.transfer", "payment.close").
"""

from typing import Any

import msgspec

from ._crypto import digest
from .asking import converted
from .channel_states import CloseRequest, Opening, Proposal, SignedState, Transfer
from .errors import AlreadySigned, CannotSign, MalformedAnswer, UnfinishedPayment, WrongBalance, WrongChannel
from .offline_book import OfflineBook, payload_of
from .offline_journal import CloseSigned, Done, Offered, Opened
from .payments import LIVE

Payload = dict[str, Any]


class OfflineKeeper(OfflineBook):
    """Keeps one offline payment channel for one agent. Not for two programs at once: the file tells, and it refuses.

    Once it has taken the channel, open, from the server, it needs no connection to sign: also after a restart.

    Args:
        signer: The agent's.
        agent_id: Who signs.
        path: The file of its journal, which it makes; its folder must be there. Keep it as long as the channel is open.

    Raises:
        BrokenRecord: The file is damaged, or another agent's or key's.
    """

    def pay(self, amount: int, task_id: str | None = None) -> Payload:
        """Sign a payment to the other party, who has to countersign it; it counts as paid from now on.

        Args:
            amount: Minor units, 1 to the agent's balance.
            task_id: What it pays for; signed, and not looked up.

        Raises:
            UnfinishedPayment: An earlier one is not countersigned yet: bring `unanswered` again.
            CannotSign: The channel is not open, a close was signed, or the balance is too small.
            BrokenRecord: Somebody else has written the file.
            ValueError: The amount is none.
        """
        opened = self._require_signable()
        if amount < 1:
            raise ValueError(f"a transfer is at least 1 minor unit, not {amount}")
        if self.unanswered is not None:
            unanswered = self.unanswered
            raise UnfinishedPayment(unanswered.nonce, amount=unanswered.amount, task_id=unanswered.task_id)
        if amount > self.balance:
            raise CannotSign(f"{self.agent_id} has {self.balance} in the channel, not {amount}")
        balance_a, balance_b = opened.opening.paid(self.balances, from_agent_id=self.agent_id, amount=amount)
        transfer = Transfer(
            nonce=self.last_nonce + 1,
            amount=amount,
            from_agent_id=self.agent_id,
            balance_a=balance_a,
            balance_b=balance_b,
            task_id=task_id,
        )
        signature = self._signer.signature(opened.opening.transfer_bytes(transfer))
        proposal = Proposal(**msgspec.structs.asdict(transfer), signature=signature)
        self._note(Offered(proposal=proposal))
        return self._brought(proposal)

    def brought_again(self) -> Payload | None:
        """The payment that is not countersigned yet, as `pay` gave it; None: there is none."""
        return None if self.unanswered is None else self._brought(self.unanswered)

    def check(self, proposal: Payload) -> Proposal:
        """A payment of the other party's, once it is sure that it is good. Nothing is signed.

        Raises:
            ForgedTransfer, WrongBalance, WrongChannel, MalformedAnswer: It is not what it should be.
            AlreadySigned: Another payment has its nonce.
            CannotSign: The channel is not open, or a close was signed.
        """
        opened, offered = self._require_signable(), converted(proposal, Proposal)
        self._require_here(opened.opening, proposal)
        if offered.from_agent_id == self.agent_id:
            raise CannotSign("who pays cannot countersign it")
        if offered.nonce <= self.last_nonce:
            if self._chain[offered.nonce - 1].terms != offered.terms:
                raise AlreadySigned(offered.nonce)
            return offered
        try:
            opened.opening.require_proposal(offered, last_nonce=self.last_nonce, balances=self.balances)
        except ValueError as error:
            raise MalformedAnswer(f"the payment cannot be: {error}") from error
        if min(offered.balance_a, offered.balance_b) < 0:
            raise WrongBalance("the payer has not so much")
        if self.unanswered is not None:
            raise AlreadySigned(offered.nonce)
        return offered

    def countersign(self, proposal: Payload) -> Payload:
        """Sign a payment of the other party's too, after checking it; the transfer that both have signed.

        Look at amount and task before. One that was countersigned already gives the same transfer again.

        Args:
            proposal: What the other party's `pay` gave.

        Raises:
            ForgedTransfer, WrongBalance, WrongChannel, MalformedAnswer, AlreadySigned, CannotSign: As for `check`.
            BrokenRecord: Somebody else has written the file.
        """
        offered = self.check(proposal)
        if offered.nonce <= self.last_nonce:
            return self._brought(self._chain[offered.nonce - 1])
        opening = self._require_signable().opening
        own = self._signer.signature(opening.transfer_bytes(offered.terms))
        signatures = (own, offered.signature) if self._is_a else (offered.signature, own)
        state = SignedState(
            **msgspec.structs.asdict(offered.terms), signature_a=signatures[0], signature_b=signatures[1]
        )
        self._note(Done(state=state))
        return self._brought(state)

    def complete(self, transfer: Payload) -> None:
        """Take a transfer that both have signed: what the other party's `countersign` gave. Again does no harm.

        Raises:
            ForgedTransfer, WrongBalance, WrongChannel, MalformedAnswer: It is not what it should be.
            CannotSign: It is not the next one.
            BrokenRecord: Somebody else has written the file, or has signed something else for this agent.
        """
        if self._opened is None:
            raise CannotSign("the channel was never open, as far as is known here")
        state, opening = converted(transfer, SignedState), self._opened.opening
        self._require_here(opening, transfer)
        if state.nonce <= self.last_nonce and self._chain[state.nonce - 1].terms == state.terms:
            return
        self._require_next(opening, state)
        self._note(Done(state=state))

    def close_request(self, finals: tuple[int, int] | None = None) -> Payload:
        """The payload of `close_request`. From then on no payment is signed.

        Args:
            finals: What opener and counterparty are paid, in minor units; None: their balances.

        Raises:
            CannotSign: Transfers have to be submitted first, or the channel cannot be closed as it stands.
            AlreadySigned: Another close was signed at this nonce.
            BrokenRecord: Somebody else has written the file.
            ValueError: The finals do not sum to all that is locked.
        """
        shares = self._finals(finals)
        signature = self._sign_close(shares)
        return {"final_balance_a": shares[0], "final_balance_b": shares[1], "signature": signature}

    def close(self, request: Payload, finals: tuple[int, int] | None = None) -> Payload:
        """The payload of `close`: agree to a close that the other party has offered.

        Args:
            request: One of `close_requests` of the channel.
            finals: As for `close_request`: what this agent agrees to.

        Raises:
            ForgedTransfer: The other party has not signed the offer.
            CannotSign: It is for other finals or another nonce; or as for `close_request`.
            AlreadySigned, BrokenRecord, MalformedAnswer, ValueError: As for `close_request`.
        """
        shares, asked = self._finals(finals), converted(request, CloseRequest)
        opening = self._require_opened().opening
        if asked.agent_id not in opening.parties or asked.agent_id == self.agent_id:
            raise CannotSign("the close was not offered by the other party")
        if (asked.nonce, asked.finals) != (self.last_nonce, shares):
            raise CannotSign(f"the close is offered for {asked.finals} at nonce {asked.nonce}")
        opening.require_signed(asked.agent_id, opening.close_bytes(asked.nonce, shares), asked.signature)
        own = self._sign_close(shares)
        signatures = (own, asked.signature) if self._is_a else (asked.signature, own)
        return {
            "final_balance_a": shares[0],
            "final_balance_b": shares[1],
            "signature_a": signatures[0],
            "signature_b": signatures[1],
        }

    # How it is done.

    def _require_here(self, opening: Opening, payload: Payload) -> None:
        if payload.get("channel_id") != opening.channel_id:
            raise WrongChannel(
                "this is of another channel", expected=opening.channel_id, told=payload.get("channel_id")
            )

    def _require_signable(self) -> Opened:
        opened = self._require_opened()
        if self._told is not None and self._told.status != "open":
            raise CannotSign(f"the channel is {self._told.status}")
        if self._close is not None and self._close.nonce == self.last_nonce:
            raise CannotSign("a close of the channel was signed: it could be used after a payment just as well")
        return opened

    def _finals(self, finals: tuple[int, int] | None) -> tuple[int, int]:
        told = self._told
        if told is None:
            raise CannotSign("join the channel first, and take the reply")
        if told.status not in LIVE:
            raise CannotSign(f"the channel is {told.status}")
        if told.last_nonce != self.last_nonce:
            raise CannotSign(f"submit the transfers first: the server is at nonce {told.last_nonce}")
        if finals is None:
            return self.balances
        if min(finals) < 0 or sum(finals) != told.total:
            raise ValueError(f"finals are at least 0 and sum to {told.total}, unlike {finals}")
        return finals

    def _sign_close(self, finals: tuple[int, int]) -> str:
        message = self._require_opened().opening.close_bytes(self.last_nonce, finals)
        signed = CloseSigned(nonce=self.last_nonce, digest=digest(message))
        before = self._close
        if before != signed:
            if before is not None and before.nonce == signed.nonce:
                raise AlreadySigned(signed.nonce)
            self._note(signed)
        return self._signer.signature(message)

    def _brought(self, transfer: Proposal | SignedState) -> Payload:
        """A payment as it is carried to the other party."""
        return {"channel_id": self._require_opened().opening.channel_id, **payload_of(transfer, with_balances=True)}
