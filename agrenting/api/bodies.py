"""What bodies look like where REST takes more than the wire: money in both forms, proofs, names and handles."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from agrenting.api.money import Money
from channels.hiring import OpenTask
from channels.negotiation import Accept, MakeOffer
from channels.registration import AgentDraft, AgentPatch, parse_money
from channels.task_state import StreamPrice


class OfferBody(msgspec.Struct, frozen=True, kw_only=True):
    """A signed offer. `round`, if given, must be the next one."""

    amount: Money
    signature: str
    round: int | None = None

    def request(self, exponent: int) -> MakeOffer:
        """As the wire takes it."""
        amount = parse_money(self.amount, exponent=exponent)
        return MakeOffer(amount=amount, signature=self.signature, round=self.round)


class AcceptBody(msgspec.Struct, frozen=True, kw_only=True):
    """A signed acceptance of the midpoint."""

    amount: Money
    signature: str

    def request(self, exponent: int) -> Accept:
        """As the wire takes it."""
        return Accept(amount=parse_money(self.amount, exponent=exponent), signature=self.signature)


class StreamPriceBody(msgspec.Struct, frozen=True, kw_only=True):
    """What each unit of the output costs that is paid as it streams.

    Args:
        amount: Of one unit; at least the list price, and at least 1 minor unit.
        per: A unit is one chunk, or `unit_bytes` bytes begun.
        unit_bytes: For `bytes` only; no chunk has more.
        credit: Units that may be delivered ahead of their payment.
    """

    amount: Money
    per: Literal["chunk", "bytes"]
    unit_bytes: int | None = None
    credit: int = 1

    def price(self, exponent: int) -> StreamPrice:
        """As the wire takes it."""
        amount = parse_money(self.amount, exponent=exponent, field="stream_price.amount")
        return StreamPrice(amount=amount, per=self.per, unit_bytes=self.unit_bytes, credit=self.credit)


class TaskBody(msgspec.Struct, frozen=True, kw_only=True):
    """A new task: by an agreement, at the list price, or paid as it streams; exactly one of the three.

    Args:
        input: Any JSON, at most 64 KiB; more goes through the input stream.
        negotiation_session_id: The agreement.
        max_price: A ceiling: the list price is held, which may be lower.
        deadline: With an offset from UTC, 60 seconds to 30 days ahead; 7 days ahead unless given.
        hold_seconds: How long the price is held after completion, up to 7 days; an hour unless given. Not where the
            output is paid as it streams.
        channel_id: The payment channel of the two that the output is paid over as it streams.
        stream_price: What each unit of the output costs then.
        private_channel: The two get a private channel of their own until the task ends.
    """

    provider_agent_id: str
    capability: str
    input: Any = None
    negotiation_session_id: str | None = None
    max_price: Money | None = None
    deadline: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    hold_seconds: int | None = None
    channel_id: str | None = None
    stream_price: StreamPriceBody | None = None
    private_channel: bool = False

    def request(self, exponent: int) -> OpenTask:
        """As the wire takes it."""
        max_price = self.max_price
        if max_price is not None:
            max_price = parse_money(max_price, exponent=exponent, field="max_price")
        return OpenTask(
            provider_agent_id=self.provider_agent_id,
            capability=self.capability,
            input=self.input,
            negotiation_session_id=self.negotiation_session_id,
            max_price=max_price,
            deadline=self.deadline,
            hold_seconds=self.hold_seconds,
            channel_id=self.channel_id,
            stream_price=None if self.stream_price is None else self.stream_price.price(exponent),
            private_channel=self.private_channel,
        )


class KeyProof(msgspec.Struct, frozen=True, kw_only=True):
    """That the one who registers a public key holds its secret half: a challenge, signed (SIGNING.md, `key.proof`)."""

    challenge: str
    signature: str


class NewAgentBody(AgentDraft, frozen=True, kw_only=True):
    """A new agent.

    Args:
        name: 1-100 characters; the handle comes from it.
        description: 1-2,000 characters.
        capabilities: At most 50.
        base_price: For the capabilities without a price; without both, a capability cannot be hired.
        tags: At most 16 of at most 16 characters.
        is_listed: Whether strangers find it, once it has a tag.
        is_global: Whether it is one for all; only operators may say so.
        public_key: Ed25519, 32 bytes in base64.
        did: The same key as did:key; one of the two is enough.
        metadata: An object of at most 8 KiB.
        proof: Needed with a public key, and only then.
        organisation: The name of the owner's organisation, whose members shall all see it; without it, personal.
        owner: The handle of the user that it belongs to, where an operator registers it for somebody else.
    """

    proof: KeyProof | None = None
    organisation: str | None = None
    owner: str | None = None


class AgentPatchBody(AgentPatch, frozen=True, kw_only=True):
    """Changes to an agent: what is left out stays, a null key takes the key away. A new key needs its `proof`."""

    proof: KeyProof | None = None


class NewKeyBody(msgspec.Struct, frozen=True, kw_only=True):
    """A new API key. It never has more scopes or higher caps than the key that makes it.

    Args:
        name: 1-100 characters, for people to tell keys apart.
        scopes: Without them, those of the key that makes it, but for `admin`.
        max_amount: What it may spend in one operation; without it, the cap of the key that makes it; null: no cap.
        max_amount_per_day: What it may spend in a UTC day; as above.
    """

    name: str
    scopes: tuple[str, ...] | UnsetType = UNSET
    max_amount: Money | UnsetType | None = UNSET
    max_amount_per_day: Money | UnsetType | None = UNSET


class NewOrganisationBody(msgspec.Struct, frozen=True, kw_only=True):
    """A new organisation; its name has 1-100 characters and is unique."""

    name: str


class OrganisationBody(msgspec.Struct, frozen=True, kw_only=True):
    """The name of the organisation that a user is to be a member of; null for none."""

    organisation: str | None


class NewUserBody(msgspec.Struct, frozen=True, kw_only=True):
    """A new user.

    Args:
        handle: 3-40 of a-z, 0-9, ., - and _, a letter or digit at both ends; with or without `@`.
        organisation: The name of one that there is.
        is_operator: Whether it may run the marketplace.
    """

    handle: str
    organisation: str | None = None
    is_operator: bool = False


class MovementBody(msgspec.Struct, frozen=True, kw_only=True):
    """Money for an agent, or from it: name the agent by id or by handle.

    Args:
        amount: At least 1 minor unit.
        memo: At most 200 characters, for the list of transactions.
    """

    amount: Money
    agent_id: str | None = None
    handle: str | None = None
    memo: str = ""
