"""What answers look like: the types behind the document's schemas. A test holds every answer against them.

Times are UTC, ISO 8601 with `Z`; money is an integer of minor units.
"""

from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from agrenting.db.people import ApiKey, User
from channels.agents import Agent, AgentStatus, Capability, PricingModel
from channels.messages import Phase as MessagePhase
from channels.negotiation import NegotiationSession
from channels.streams import Checkpoint
from channels.task_state import NOT_TOLD, Task
from channels.task_state import Phase as TaskPhase
from crypto import did_from_public_key, parse_public_key

Duplicate = bool | UnsetType
"""True where the event had taken effect before, and nothing was done now; left out otherwise."""


class Done(msgspec.Struct, frozen=True):
    """It is done; `status` says what."""

    status: str


class AgentAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An agent, as its owner sees it.

    Args:
        handle: `owner/slug`, without `@`.
        did: The public key as did:key; null without one.
        capabilities: What it can be hired for; a null price stands for the base price.
        reputation: 0-5 stars.
        success_rate: Completed of counted tasks, 0-1; null before the first.
    """

    id: str
    owner_id: str
    handle: str
    did: str | None
    name: str
    description: str
    capabilities: tuple[Capability, ...]
    base_price: int | None
    pricing_model: PricingModel
    reputation: float
    tasks_completed: int
    tasks_failed: int
    success_rate: float | None
    status: AgentStatus
    tags: tuple[str, ...]
    is_listed: bool
    is_global: bool
    organisation_id: str | None
    public_key: str | None
    protocol_versions: tuple[str, ...]
    metadata: dict[str, Any]
    created_at: datetime
    updated_at: datetime


def agent_answer(agent: Agent) -> AgentAnswer:
    """An agent as its owner sees it."""
    own = {name: getattr(agent, name) for name in AgentAnswer.__struct_fields__ if name not in {"did", "reputation"}}
    key = agent.public_key
    return AgentAnswer(
        did=None if key is None else did_from_public_key(parse_public_key(key)),
        reputation=agent.reputation_centi / 100,  # Exact to two decimals, as it is stored.
        **own,
    )


class NewAgent(AgentAnswer, frozen=True, kw_only=True):
    """A new agent, and its API key, which is shown this once; null in a replay."""

    api_key: str | None


class AgentHit(msgspec.Struct, frozen=True, kw_only=True):
    """An agent, as others find it.

    Args:
        capabilities: Their names.
        price: For the asked capability, else the base price; null where it cannot be hired for it.
        status: Its presence: online, busy, away or offline.
        contact_required: Whether it must approve the caller before a negotiation or a task.
    """

    id: str
    handle: str
    did: str | None
    name: str
    description: str
    capabilities: tuple[str, ...]
    price: int | None
    base_price: int | None
    pricing_model: PricingModel
    reputation: float
    tasks_completed: int
    success_rate: float | None
    status: str
    tags: tuple[str, ...]
    metadata: dict[str, Any]
    is_contact: bool
    contact_required: bool


class FeatureFlags(msgspec.Struct, frozen=True, kw_only=True):
    """What this server has of what some clients ask for."""

    ff_file_transfer: bool = False
    ff_room_tasks: bool = False


class AgentProfile(msgspec.Struct, frozen=True, kw_only=True):
    """An agent, as it sees itself. `owner_uuid` is its owner's user id."""

    id: str
    name: str
    handle: str
    owner_uuid: str
    feature_flags: FeatureFlags
    description: str
    tags: tuple[str, ...]
    listed_in_directory: bool
    inserted_at: datetime
    updated_at: datetime


class UserAnswer(User, frozen=True, kw_only=True):
    """A user."""


class NewUser(User, frozen=True, kw_only=True):
    """A new user, and its first API key, which is shown this once; null in a replay."""

    api_key: str | None


class KeyAnswer(ApiKey, frozen=True, kw_only=True):
    """An API key without the key itself: `hint` is its beginning. Caps are in minor units; null is without end."""


class NewKey(ApiKey, frozen=True, kw_only=True):
    """A new API key, which is shown this once; null in a replay."""

    api_key: str | None


class SessionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A session. `token` is the same as `session_token`; both are null in a replay."""

    session_token: str | None
    token: str | None
    expires_at: datetime
    agent_id: str | None
    user_id: str
    handle: str
    scopes: tuple[str, ...]


class ChallengeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What to sign, in the bytes of kind `key.proof`, to register a public key; null in a replay."""

    challenge: str | None
    expires_at: datetime
    signing_domain: str


def fields_of(struct: type[msgspec.Struct], left_out: frozenset[str] = frozenset()) -> list[tuple[str, Any]]:
    """The fields of a state, for the answer that shows it; but for those that are not told."""
    return [(field.name, field.type) for field in msgspec.structs.fields(struct) if field.name not in left_out]


NegotiationAnswer = msgspec.defstruct(
    "NegotiationAnswer",
    [
        *fields_of(NegotiationSession),
        ("session_id", str),
        ("turn", str | None),
        ("next_round", int),
        ("midpoint", int | None),
        ("agreement_id", str | None),
        ("signing_domain", str),
        ("currency", str),
        ("exponent", int),
        ("duplicate", Duplicate, UNSET),
    ],
    namespace={
        "__doc__": "A negotiation, whole. `turn` is the agent to act next; null while either may, and once it ended."
    },
    kw_only=True,
)


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """How far one direction has come. `next_seq` is the first missing chunk; `total_size` is in bytes."""

    next_seq: int
    total_size: int
    digest: str
    complete: bool
    verified: bool
    checksum: str | None


class Streams(msgspec.Struct, frozen=True, kw_only=True):
    """Both directions: `input` flows from client to provider, `output` from provider to client."""

    input: Stream
    output: Stream


TaskAnswer = msgspec.defstruct(
    "TaskAnswer",
    [
        *fields_of(Task, NOT_TOLD),
        ("task_id", str),
        ("net", int),
        ("units", int | None),
        ("paid_up_to", int | None),
        ("streams", Streams),
        ("signing_domain", str),
        ("currency", str),
        ("exponent", int),
        ("checkpoint", Checkpoint | UnsetType | None, UNSET),
        ("duplicate", Duplicate, UNSET),
    ],
    namespace={
        "__doc__": "A task, whole. `net` is what the provider gets of the price, less the fee. `units` of the output"
        " are stored and `paid_up_to` are paid, where it is paid as it streams. `checkpoint` is there only where its"
        " provider reads it."
    },
    kw_only=True,
)


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """What every event of a running task answers.

    Args:
        units, paid_up_to: Units of the output that are stored, and that are paid; null for a held price.
    """

    task_id: str
    status: TaskPhase
    started_at: datetime | None
    units: int | None
    paid_up_to: int | None


class ChunkAnswer(Moved, frozen=True, kw_only=True):
    """A chunk is stored. `next_seq` is the first missing one: all before it are safe, and `digest` is over them."""

    seq: int
    next_seq: int
    total_size: int
    digest: str
    duplicate: Duplicate = UNSET


class StreamClosed(Stream, frozen=True, kw_only=True):
    """A stream is closed, and its checksum verified."""

    task_id: str
    status: TaskPhase
    started_at: datetime | None
    units: int | None
    paid_up_to: int | None
    duplicate: Duplicate = UNSET


class ProgressAnswer(Moved, frozen=True, kw_only=True):
    """How far the work is, as it was told."""

    percent: int
    message: str | None


class CheckpointAnswer(Moved, frozen=True, kw_only=True):
    """A checkpoint is stored."""

    seq: int
    duplicate: Duplicate = UNSET


class StoredChunk(msgspec.Struct, frozen=True, kw_only=True):
    """A stored chunk, in base64."""

    seq: int
    chunk: str
    encoding: Literal["base64"] = "base64"


class MessageAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A message in the mailbox.

    Args:
        payload: Any JSON; follows from `type`.
        from_agent_id: Who wrote it, or whose doing the marketplace announces; null: the marketplace itself.
        from_market: Whether the marketplace wrote it. No agent can make a message look like that.
    """

    id: str
    type: str
    payload: Any
    from_agent_id: str | None
    protocol_version: str
    inserted_at: datetime
    from_market: bool


class WholeMessage(MessageAnswer, frozen=True, kw_only=True):
    """A message, and what has become of it.

    Args:
        dedup_key: As its sender has named it; null for its receiver.
        reason: Of its rejection.
        updated_at: When its status changed last.
        expires_at: Unanswered, it is over then.
    """

    to_agent_id: str
    dedup_key: str | None
    status: MessagePhase
    reason: str | None
    updated_at: datetime
    expires_at: datetime


class SentMessage(WholeMessage, frozen=True, kw_only=True):
    """A message that was sent. `duplicate`: it had been sent with this dedup_key before."""

    duplicate: Duplicate = UNSET


class MessageAcknowledged(msgspec.Struct, frozen=True, kw_only=True):
    """The message is not delivered again."""

    message_id: str
    status: str
    duplicate: Duplicate = UNSET


class MessageRejected(MessageAcknowledged, frozen=True, kw_only=True):
    """The message is not delivered again; its sender is told the reason."""

    reason: str


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent has: to spend, held for its tasks as a client, in channels, and all together."""

    available: int
    escrow: int
    channels: int
    total: int
    currency: str
    exponent: int


class Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of an agent's ledger. `amount` is what came in; negative is what went out."""

    id: str
    kind: str
    amount: int
    task_id: str | None
    channel_id: str | None
    memo: str
    created_at: datetime


class Movement(msgspec.Struct, frozen=True, kw_only=True):
    """Money that came in or went out; `available` is what the agent has to spend then."""

    agent_id: str
    handle: str
    amount: int
    available: int
    rail: str


class LedgerSummary(msgspec.Struct, frozen=True, kw_only=True):
    """All money, by where it is. `external` is what came from outside with its sign turned; `sum` is always 0."""

    agents: int
    escrow: int
    channels: int
    fees: int
    external: int
    sum: int
    currency: str
    exponent: int
