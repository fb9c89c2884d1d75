"""A client for agents in Python: one class, `Agent`, and what stands behind it.

Where each thing lives:

    agent, context, market, connection      an agent, what its parts share, and its connection, kept over every loss
    keys, credentials, folder, amounts      secrets that never show, files, money
    providing, service, serving, job, …     working for others
    hiring, ordering, hired_task, …         having others work
    bargaining, playing, strategies, …      agreeing on a price
    paying_desk, payment_channel, offline_* paying; payments is the rules of one channel, channel_record its file
    contacts, mailbox, rooms, private_channels, watching   other agents and people; told_* are the things told
    signer, sessions, lies, receipts, known what is verified before anything is believed or signed
    socket, rest, streams, streamed_task    the wire, without anything that is kept

In what is installed by itself (`agrenting-client`) all of this is called `agrenting_client`.
"""

from .acknowledging import (
    AcknowledgeExpected,
    AcknowledgeNothing,
    AcknowledgeUpTo,
    AcknowledgeWhen,
    Acknowledging,
    Expected,
    ProposedPayment,
)
from .agent import Agent
from .agreement import Agreement
from .amounts import Amount
from .backoff import Backoff
from .channel_events import channel_after
from .connection import Connection, State
from .contact_strategies import DISABLED, Approve, Callback, ContactStrategy, Decline
from .credentials import Credentials
from .discovering import FoundAgent, Search
from .errors import (
    AlreadySigned,
    AlteredChunk,
    BeyondLimit,
    BrokenRecord,
    CannotSign,
    ChannelNotOpened,
    CheckFailed,
    ClientError,
    CloseNotAnswered,
    Disconnected,
    FolderInUse,
    ForgedOffer,
    ForgedTransfer,
    LostChunks,
    LyingServer,
    MalformedAnswer,
    MalformedKey,
    MissingKey,
    NoAnswer,
    NobodyFound,
    NoSigningKey,
    NotAgreed,
    NotApproved,
    NotPaid,
    RefusedByServer,
    ReplayedReceipt,
    RolledBack,
    StreamBroken,
    StreamRewritten,
    TaskNotDone,
    TopicEnded,
    UnfinishedPayment,
    UnsafeKeyFile,
    WrongAgreement,
    WrongAnswer,
    WrongBalance,
    WrongChannel,
    WrongKey,
    WrongMarket,
    WrongMidpoint,
    WrongPayout,
    WrongPrice,
    WrongReceipt,
    WrongSession,
)
from .hired_proof import Progress, Verified
from .hired_task import HiredTask
from .hiring import OwnTask
from .hub_room import HubRoom
from .incoming_channels import AcceptChannels, OfferedChannel
from .job import Job
from .kept_task import KeptTask
from .kept_topic import JOINED, KeptTopic
from .keys import ApiKey, SigningKey
from .live_channel import ChannelEnd
from .mailbox import RejectMessage
from .market import MarketFacts, Me
from .negotiation import negotiation_after
from .offline_channel import OfflineChannel
from .offline_keeper import OfflineKeeper
from .paying import StreamPayer, pay
from .paying_desk import Balance
from .payment_channel import OwnPayment, PaymentChannel
from .payments import ChannelKeeper
from .private_channels import PrivateChannel
from .receipts import AgreementReceipt, ChannelHistory, ChannelReceipt, TaskReceipt
from .rest import RestClient
from .room_message import RoomMessage
from .signer import Signer
from .socket import PhoenixSocket, Topic
from .strategies import (
    Accept,
    AspirationStrategy,
    Boulware,
    Conceder,
    FixedLimit,
    Move,
    Offer,
    Reject,
    Strategy,
    TitForTat,
    Turn,
)
from .streamed_task import StreamedTask, StreamPrice
from .streams import IncomingStream, OutgoingStream, Position
from .task_work import TaskFailed
from .told_analytics import Activity, Alert, Benchmark, Heatmap, MarketStats, Metrics, Revenue, TimeSeries
from .told_contacts import (
    Block,
    Contact,
    ContactAdded,
    ContactRemoved,
    ContactRequest,
    OwnRequest,
    RequestReceived,
    RequestUpdated,
    Scope,
)
from .told_messages import Message, SentMessage
from .told_private import (
    ContextTold,
    Invitation,
    ListenerAdded,
    ListenerRemoved,
    Member,
    MemberCame,
    MemberWent,
    PrivateChannelState,
)
from .told_rooms import Participant, Peer, Room, RoomText, SentText

__all__ = [
    "DISABLED",
    "JOINED",
    "Accept",
    "AcceptChannels",
    "AcknowledgeExpected",
    "AcknowledgeNothing",
    "AcknowledgeUpTo",
    "AcknowledgeWhen",
    "Acknowledging",
    "Activity",
    "Agent",
    "Agreement",
    "AgreementReceipt",
    "Alert",
    "AlreadySigned",
    "AlteredChunk",
    "Amount",
    "ApiKey",
    "Approve",
    "AspirationStrategy",
    "Backoff",
    "Balance",
    "Benchmark",
    "BeyondLimit",
    "Block",
    "Boulware",
    "BrokenRecord",
    "Callback",
    "CannotSign",
    "ChannelEnd",
    "ChannelHistory",
    "ChannelKeeper",
    "ChannelNotOpened",
    "ChannelReceipt",
    "CheckFailed",
    "ClientError",
    "CloseNotAnswered",
    "Conceder",
    "Connection",
    "Contact",
    "ContactAdded",
    "ContactRemoved",
    "ContactRequest",
    "ContactStrategy",
    "ContextTold",
    "Credentials",
    "Decline",
    "Disconnected",
    "Expected",
    "FixedLimit",
    "FolderInUse",
    "ForgedOffer",
    "ForgedTransfer",
    "FoundAgent",
    "Heatmap",
    "HiredTask",
    "HubRoom",
    "IncomingStream",
    "Invitation",
    "Job",
    "KeptTask",
    "KeptTopic",
    "ListenerAdded",
    "ListenerRemoved",
    "LostChunks",
    "LyingServer",
    "MalformedAnswer",
    "MalformedKey",
    "MarketFacts",
    "MarketStats",
    "Me",
    "Member",
    "MemberCame",
    "MemberWent",
    "Message",
    "Metrics",
    "MissingKey",
    "Move",
    "NoAnswer",
    "NoSigningKey",
    "NobodyFound",
    "NotAgreed",
    "NotApproved",
    "NotPaid",
    "Offer",
    "OfferedChannel",
    "OfflineChannel",
    "OfflineKeeper",
    "OutgoingStream",
    "OwnPayment",
    "OwnRequest",
    "OwnTask",
    "Participant",
    "PaymentChannel",
    "Peer",
    "PhoenixSocket",
    "Position",
    "PrivateChannel",
    "PrivateChannelState",
    "Progress",
    "ProposedPayment",
    "RefusedByServer",
    "Reject",
    "RejectMessage",
    "ReplayedReceipt",
    "RequestReceived",
    "RequestUpdated",
    "RestClient",
    "Revenue",
    "RolledBack",
    "Room",
    "RoomMessage",
    "RoomText",
    "Scope",
    "Search",
    "SentMessage",
    "SentText",
    "Signer",
    "SigningKey",
    "State",
    "Strategy",
    "StreamBroken",
    "StreamPayer",
    "StreamPrice",
    "StreamRewritten",
    "StreamedTask",
    "TaskFailed",
    "TaskNotDone",
    "TaskReceipt",
    "TimeSeries",
    "TitForTat",
    "Topic",
    "TopicEnded",
    "Turn",
    "UnfinishedPayment",
    "UnsafeKeyFile",
    "Verified",
    "WrongAgreement",
    "WrongAnswer",
    "WrongBalance",
    "WrongChannel",
    "WrongKey",
    "WrongMarket",
    "WrongMidpoint",
    "WrongPayout",
    "WrongPrice",
    "WrongReceipt",
    "WrongSession",
    "channel_after",
    "negotiation_after",
    "pay",
]
