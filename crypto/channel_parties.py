"""The two parties of a payment channel, and what they sign there, for whoever checks its receipt or its history.

Every signed byte is made anew, from what stands in the document and from nothing else.
"""

from dataclasses import dataclass
from typing import Final

from .errors import ReceiptError
from .evidence import CURRENCY, ID, SIGNATURE, Fields, Form, choice, require_signed
from .keys import fingerprint
from .messages import INTEGER_MAX, close_message, transfer_message

OFFLINE: Final = "offline"
MODE: Final[Form] = choice("online", OFFLINE)
EXPONENT_MAX: Final = 18

JOINT_CLOSE: Final = "joint_close"
FORCE_CLOSE: Final = "force_close"
DISPUTE_TIMEOUT: Final = "dispute_timeout"
OPERATOR: Final = "operator"
CAUSE: Final[Form] = choice(JOINT_CLOSE, FORCE_CLOSE, DISPUTE_TIMEOUT, OPERATOR)
"""What ends a channel that was open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """Who signs.

    Args:
        role: `opener` or `counterparty`.
    """

    role: str
    agent_id: str
    public_key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """What the bytes of a transfer say beside the channel: amounts in minor units, the balances after it."""

    nonce: int
    payer_agent_id: str
    amount: int
    balance_a: int
    balance_b: int
    task_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parties:
    """A channel's two parties: A, the opener, and B, the counterparty."""

    signing_domain: str
    channel_id: str
    opener: Party
    counterparty: Party

    @property
    def keys(self) -> dict[str, bytes]:
        """Each party's key, by its role."""
        return {party.role: party.public_key for party in (self.opener, self.counterparty)}

    @property
    def sentence(self) -> str:
        """Who they are."""
        a, b = self.opener, self.counterparty
        return (
            f"Opener {a.agent_id} (key {fingerprint(a.public_key)}) and counterparty {b.agent_id} "
            f"(key {fingerprint(b.public_key)}) are two agents with a key each."
        )

    def find(self, agent_id: str, *, pointer: str) -> Party:
        """The party that an agent is.

        Raises:
            ReceiptError: `identity`; it is neither.
        """
        for party in (self.opener, self.counterparty):
            if party.agent_id == agent_id:
                return party
        raise ReceiptError(f"{pointer}: this agent is neither the opener nor the counterparty.", check="identity")

    def other(self, agent_id: str) -> Party:
        """The party that a party's agent is not."""
        return self.counterparty if agent_id == self.opener.agent_id else self.opener

    def read_payer(self, fields: Fields) -> str:
        """`from_agent_id`, which is one of the two, where `to_agent_id` is the other.

        Raises:
            ReceiptError: `shape`, `identity`.
        """
        payer = self.find(fields.text("from_agent_id", ID), pointer=f"{fields.pointer}/from_agent_id")
        if fields.text("to_agent_id", ID) != self.other(payer.agent_id).agent_id:
            raise ReceiptError(f"{fields.pointer}/to_agent_id: the payee is the other party.", check="identity")
        return payer.agent_id

    def require_transfer_signed(self, transfer: Transfer, party: Party, fields: Fields, name: str) -> None:
        """Return if a party has signed a transfer.

        Args:
            fields: Where the signature stands.
            name: Of the member that holds it.

        Raises:
            ReceiptError: `shape`, `transfer_signature`.
        """
        message = transfer_message(
            signing_domain=self.signing_domain,
            channel_id=self.channel_id,
            nonce=transfer.nonce,
            payer_agent_id=transfer.payer_agent_id,
            amount=transfer.amount,
            balance_a=transfer.balance_a,
            balance_b=transfer.balance_b,
            task_id=transfer.task_id,
        )
        require_signed(
            public_key=party.public_key,
            message=message,
            signature=fields.text(name, SIGNATURE),
            what=f"{fields.pointer}/{name}, by the {party.role}",
            check="transfer_signature",
        )

    def require_transfer_signed_by_both(self, transfer: Transfer, fields: Fields) -> None:
        """Return if both have signed a transfer, in `signature_a` and `signature_b`.

        Raises:
            ReceiptError: `shape`, `transfer_signature`.
        """
        self.require_transfer_signed(transfer, self.opener, fields, "signature_a")
        self.require_transfer_signed(transfer, self.counterparty, fields, "signature_b")

    def require_close_signed(
        self, party: Party, fields: Fields, name: str, *, nonce: int, finals: tuple[int, int]
    ) -> None:
        """Return if a party has signed a close.

        Args:
            nonce: The channel's last consumed one.
            finals: Of opener and counterparty, in minor units.

        Raises:
            ReceiptError: `shape`, `close_signature`.
        """
        final_balance_a, final_balance_b = finals
        message = close_message(
            signing_domain=self.signing_domain,
            channel_id=self.channel_id,
            nonce=nonce,
            final_balance_a=final_balance_a,
            final_balance_b=final_balance_b,
        )
        require_signed(
            public_key=party.public_key,
            message=message,
            signature=fields.text(name, SIGNATURE),
            what=f"{fields.pointer}/{name}, by the {party.role}",
            check="close_signature",
        )

    def require_close_signed_by_both(self, fields: Fields, *, nonce: int, finals: tuple[int, int]) -> None:
        """Return if both have signed a close, in `signature_a` and `signature_b`.

        Raises:
            ReceiptError: `shape`, `close_signature`.
        """
        self.require_close_signed(self.opener, fields, "signature_a", nonce=nonce, finals=finals)
        self.require_close_signed(self.counterparty, fields, "signature_b", nonce=nonce, finals=finals)


def read_parties(fields: Fields, *, signing_domain: str, channel_id: str) -> Parties:
    """The two parties from `agent_a_id`, `agent_b_id`, `public_key_a` and `public_key_b`.

    Raises:
        ReceiptError: `shape`, `identity`, `key`.
    """
    opener, counterparty = (
        Party(
            role=role, agent_id=fields.text(f"agent_{side}_id", ID), public_key=fields.public_key(f"public_key_{side}")
        )
        for role, side in (("opener", "a"), ("counterparty", "b"))
    )
    if opener.agent_id == counterparty.agent_id:
        raise ReceiptError(f"{fields.pointer}: opener and counterparty are one agent.", check="identity")
    if opener.public_key == counterparty.public_key:
        raise ReceiptError(f"{fields.pointer}: opener and counterparty have one key.", check="key")
    return Parties(signing_domain=signing_domain, channel_id=channel_id, opener=opener, counterparty=counterparty)


def read_money(fields: Fields) -> None:
    """Look at the form of `currency` and `exponent`, which nothing but the platform vouches for.

    Raises:
        ReceiptError: `shape`.
    """
    fields.text("currency", CURRENCY)
    fields.integer("exponent", minimum=0, maximum=EXPONENT_MAX)


def read_amount(fields: Fields, name: str, *, minimum: int = 0) -> int:
    """Minor units, or a nonce: an integer up to 2^53−1.

    Raises:
        ReceiptError: `shape`.
    """
    return fields.integer(name, minimum=minimum, maximum=INTEGER_MAX)
