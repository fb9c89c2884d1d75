"""What a server tells of a payment channel, and what of it holds.

Every balance rests on a transfer that both have signed, or on deposits. Signatures are verified over the very bytes,
and a chain of transfers has to add up: each one's balances are those of the one before, moved by its amount, and raised
by deposits. Of deposits there is only the server's word, but they never get less.
"""

from collections.abc import Iterable
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, UnsetType

from ._crypto import CryptoError, close_message, parse_public_key, transfer_message, verify_signature
from .errors import ForgedTransfer, RolledBack, WrongBalance, WrongPayout

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
"""Money in minor units, and nonces."""

Amount = Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]

AS_DECIDED: Final = frozenset({"joint_close", "operator"})
"""The causes of an end by which somebody may be paid something else than its balance."""


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """What the bytes of a transfer say beside the channel; the balances are those after it."""

    nonce: Count
    amount: Amount
    from_agent_id: str
    balance_a: Count
    balance_b: Count
    task_id: str | None

    @property
    def terms(self) -> "Transfer":
        """The same, without signatures."""
        return Transfer(**{name: getattr(self, name) for name in Transfer.__struct_fields__})


class Proposal(Transfer, frozen=True, kw_only=True):
    """A transfer that its payer has signed."""

    signature: str


class SignedState(Transfer, frozen=True, kw_only=True):
    """A transfer that both have signed."""

    signature_a: str
    signature_b: str


class CloseRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A close that one party has signed."""

    agent_id: str
    nonce: Count
    final_balance_a: Count
    final_balance_b: Count
    signature: str

    @property
    def finals(self) -> tuple[int, int]:
        """What opener and counterparty would be paid."""
        return self.final_balance_a, self.final_balance_b


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """What is fixed for good when a channel is opened, and what is signed in it."""

    signing_domain: str
    channel_id: str
    agent_a_id: str
    agent_b_id: str
    public_key_a: str
    public_key_b: str

    @property
    def parties(self) -> tuple[str, str]:
        """Opener and counterparty."""
        return self.agent_a_id, self.agent_b_id

    def public_key(self, agent_id: str) -> str:
        """The key that a party signs with."""
        return self.public_key_a if agent_id == self.agent_a_id else self.public_key_b

    def paid(self, balances: tuple[int, int], *, from_agent_id: str, amount: int) -> tuple[int, int]:
        """Both balances after a transfer."""
        moved = amount if from_agent_id == self.agent_b_id else -amount
        return balances[0] + moved, balances[1] - moved

    def transfer_bytes(self, transfer: Transfer) -> bytes:
        """What both sign for a transfer."""
        return transfer_message(
            signing_domain=self.signing_domain,
            channel_id=self.channel_id,
            nonce=transfer.nonce,
            payer_agent_id=transfer.from_agent_id,
            amount=transfer.amount,
            balance_a=transfer.balance_a,
            balance_b=transfer.balance_b,
            task_id=transfer.task_id,
        )

    def close_bytes(self, nonce: int, finals: tuple[int, int]) -> bytes:
        """What both sign for a close."""
        return close_message(
            signing_domain=self.signing_domain,
            channel_id=self.channel_id,
            nonce=nonce,
            final_balance_a=finals[0],
            final_balance_b=finals[1],
        )

    def require_signed(self, agent_id: str, message: bytes, signature: str) -> None:
        """Refuse what a party has not signed.

        Raises:
            ForgedTransfer: It has not.
        """
        try:
            verify_signature(
                public_key=parse_public_key(self.public_key(agent_id)), message=message, signature=signature
            )
        except CryptoError as error:
            raise ForgedTransfer(f"{agent_id} has not signed what the server tells: {error}") from error

    def require_state(self, state: SignedState) -> None:
        """Refuse a transfer that is not of the two, or that one of them has not signed.

        Raises:
            ForgedTransfer: It is not what it is told to be.
        """
        self._require_payer(state)
        message = self.transfer_bytes(state)
        for agent_id, signature in zip(self.parties, (state.signature_a, state.signature_b), strict=True):
            self.require_signed(agent_id, message, signature)

    def require_proposal(self, proposal: Proposal, *, last_nonce: int, balances: tuple[int, int]) -> None:
        """Refuse a proposal that does not follow from a channel as it stands, or that its payer has not signed.

        Raises:
            ForgedTransfer: Its payer has not signed it, or not for the next nonce.
            WrongBalance: Its balances do not follow.
        """
        self._require_payer(proposal)
        if proposal.nonce != last_nonce + 1:
            raise ForgedTransfer(
                f"nonce {proposal.nonce} is proposed, but {last_nonce + 1} is next",
                expected=last_nonce + 1,
                told=proposal.nonce,
            )
        self.require_signed(proposal.from_agent_id, self.transfer_bytes(proposal), proposal.signature)
        told = (proposal.balance_a, proposal.balance_b)
        after = self.paid(balances, from_agent_id=proposal.from_agent_id, amount=proposal.amount)
        if told != after:
            raise WrongBalance(
                f"the proposal's balances do not follow: they would be {after[0]} and {after[1]}",
                expected=after,
                told=told,
            )

    def _require_payer(self, transfer: Transfer) -> None:
        if transfer.from_agent_id not in self.parties:
            raise ForgedTransfer(f"{transfer.from_agent_id} pays, and is not a party of the channel")


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What later states rest on.

    Args:
        state: The newest that both have signed; None before the first.
        deposit_a, deposit_b: What each had deposited until then.
    """

    state: SignedState | None = None
    deposit_a: Count = 0
    deposit_b: Count = 0

    @property
    def nonce(self) -> int:
        """Of the state; 0 before the first."""
        return 0 if self.state is None else self.state.nonce

    @property
    def balances(self) -> tuple[int, int]:
        """Of both after the state."""
        return (0, 0) if self.state is None else (self.state.balance_a, self.state.balance_b)

    def moved(self, opening: Opening, state: SignedState) -> "Standing":
        """What stands after the next state.

        Raises:
            ForgedTransfer: It is not signed by both.
            WrongBalance: It does not follow.
        """
        opening.require_state(state)
        if state.nonce <= self.nonce:
            raise WrongBalance(f"nonce {state.nonce} comes after {self.nonce}")
        paid_a, paid_b = opening.paid(self.balances, from_agent_id=state.from_agent_id, amount=state.amount)
        added_a, added_b = state.balance_a - paid_a, state.balance_b - paid_b
        if min(added_a, added_b) < 0:
            raise DoesNotFollow(f"the balances at nonce {state.nonce} do not follow from those at nonce {self.nonce}")
        return Standing(state=state, deposit_a=self.deposit_a + added_a, deposit_b=self.deposit_b + added_b)


class DoesNotFollow(WrongBalance):
    """States that both have signed do not add up: something between them is missing, or money is."""


class ToldChannel(msgspec.Struct, frozen=True, kw_only=True):
    """What a keeper looks at, of a channel as the server tells it: in a join reply, an event's or a call's answer."""

    channel_id: str
    mode: str
    status: str
    agent_a_id: str
    agent_b_id: str
    public_key_a: str
    public_key_b: str
    signing_domain: str
    deposit_a: Count
    deposit_b: Count
    deposited_since_a: Count
    deposited_since_b: Count
    balance_a: Count
    balance_b: Count
    last_nonce: Count
    next_nonce: Count
    pending_proposal: Proposal | None
    last_transfer: SignedState | None
    close_requests: tuple[CloseRequest, ...]
    state_lost: SignedState | None
    cause: str | None
    final_balance_a: Count | None
    final_balance_b: Count | None
    close_signature_a: str | None
    close_signature_b: str | None
    missing_transfers: tuple[SignedState, ...] | UnsetType = UNSET
    missing_after: Count | None = None

    @property
    def opening(self) -> Opening:
        """What is fixed for good."""
        return Opening(**{name: getattr(self, name) for name in Opening.__struct_fields__})

    @property
    def balances(self) -> tuple[int, int]:
        """Of both, as they stand."""
        return self.balance_a, self.balance_b

    @property
    def total(self) -> int:
        """All that is locked."""
        return self.balance_a + self.balance_b

    @property
    def is_whole(self) -> bool:
        """Whether no states are missing that a join would bring."""
        return self.missing_after is None

    def states_after(self, nonce: int) -> Iterable[SignedState]:
        """The doubly signed states that are told and newer than a nonce."""
        last = () if self.last_transfer is None else (self.last_transfer,)
        told = last if isinstance(self.missing_transfers, UnsetType) else self.missing_transfers
        return (state for state in told if state.nonce > nonce)

    def require_whole(self, opening: Opening) -> None:
        """Refuse a channel that does not add up by itself: sums, the last transfer, the proposal, the end.

        Raises:
            WrongBalance, WrongPayout, RolledBack, ForgedTransfer: It does not.
        """
        if self.total != self.deposit_a + self.deposit_b:
            raise WrongBalance(
                "the balances do not sum to the deposits", expected=self.deposit_a + self.deposit_b, told=self.total
            )
        if self.next_nonce != self.last_nonce + 1:
            raise WrongBalance(f"nonce {self.next_nonce} is next, but {self.last_nonce} was the last one")
        last = self.last_transfer
        before = (0, 0) if last is None else (last.balance_a, last.balance_b)
        if self.balances != (before[0] + self.deposited_since_a, before[1] + self.deposited_since_b):
            raise WrongBalance("the balances are not those that both have signed, and what was deposited since")
        if last is not None:
            if last.nonce > self.last_nonce:
                raise RolledBack(f"the last transfer has nonce {last.nonce}, but {self.last_nonce} was the last one")
            opening.require_state(last)
        if self.pending_proposal is not None:
            opening.require_proposal(self.pending_proposal, last_nonce=self.last_nonce, balances=self.balances)
        self._require_end(opening)

    def follow(self, opening: Opening, standing: Standing) -> Standing:
        """What stands after all that is told, from what stood before.

        Raises:
            ForgedTransfer, WrongBalance: It does not follow.
            RolledBack: The server has gone back.
        """
        for state in self.states_after(standing.nonce):
            standing = standing.moved(opening, state)
        if not self.is_whole:
            return standing
        if self.last_transfer != standing.state:
            raise RolledBack(f"the last transfer is not the one at nonce {standing.nonce}, which both have signed")
        until = (self.deposit_a - self.deposited_since_a, self.deposit_b - self.deposited_since_b)
        if until != (standing.deposit_a, standing.deposit_b):
            raise DoesNotFollow("the deposits are not what the signed states say")
        return standing

    def _require_end(self, opening: Opening) -> None:
        """Refuse an end that pays out something else than what the cause says."""
        if self.final_balance_a is None or self.final_balance_b is None:
            return
        finals = (self.final_balance_a, self.final_balance_b)
        if sum(finals) != self.total or (self.cause not in AS_DECIDED and finals != self.balances):
            raise WrongPayout(
                f"{finals[0]} and {finals[1]} are paid out, which is not what was locked",
                expected=self.balances,
                told=finals,
            )
        if self.cause == "joint_close":
            message = opening.close_bytes(self.last_nonce, finals)
            signatures = (self.close_signature_a or "", self.close_signature_b or "")
            for agent_id, signature in zip(opening.parties, signatures, strict=True):
                opening.require_signed(agent_id, message, signature)
