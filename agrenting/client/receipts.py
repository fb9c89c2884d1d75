"""Receipts, fetched and believed only as far as they prove something.

    receipt = await task_receipt(context, task.id, KnownTask(price=1250, output_stream=task.streamed.incoming.position))
    receipt.path          # the copy that is kept: `agrenting verify` reads it

The platform's signature is verified under the key that is pinned for this market, the parties' under the keys that they
have signed with here. What the receipt says is held against what this agent knows itself: ids, amounts, and what it has
sent and received. A copy is kept in the agent's folder; a later receipt that says something else is refused.

Source: crypto/SIGNING.md ("Receipts", "Histories").
"""

import os
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from ._crypto import ReceiptError, ReceiptReport, parse_public_key, verify_history, verify_receipt
from .channel_record import Record, RecordFile
from .context import AgentContext
from .errors import BrokenRecord, ReplayedReceipt, RolledBack, WrongMarket, WrongReceipt
from .known import Document, KnownAgreement, KnownTask, require_known_channel
from .private_files import PRIVATE_MODE, sync_folder

MEDIA_TYPE: Final = "application/agrenting-receipt+json"
HISTORY_MEDIA_TYPE: Final = "application/jsonl"

AGREEMENT: Final = "agreement"
TASK: Final = "task"
PAYMENT_CHANNEL: Final = "payment_channel"
PAYMENT_HISTORY: Final = "payment_history"

GROWING: Final = frozenset(("paid", "paid_up_to", "units"))
"""What of a task may still grow after its end: what is paid for it over a channel."""


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """A receipt that was verified, and of which a copy is kept.

    Args:
        id: Of what it is about.
        document: What happened; its members stand in SIGNING.md.
        checks: One sentence for each thing that it proves.
        unproven: One sentence for each key that nobody but the receipt vouches for.
        path: The copy.
    """

    id: str
    document: Document
    checks: tuple[str, ...]
    unproven: tuple[str, ...]
    path: Path


class TaskReceipt(Receipt, frozen=True, kw_only=True):
    """Of a task that has ended, and that nothing is held for. Amounts are in minor units."""

    @property
    def status(self) -> str:
        """How the task has ended."""
        return str(self.document["status"])

    @property
    def price(self) -> int:
        """What was held."""
        return int(self.document["price"])

    @property
    def to_client(self) -> int:
        """What the client got back of it."""
        return int(self.document["to_client"])

    @property
    def to_provider(self) -> int:
        """What the provider was paid, after the fee."""
        return int(self.document["to_provider"])

    @property
    def fee(self) -> int:
        """The platform's part."""
        return int(self.document["fee"])


class AgreementReceipt(Receipt, frozen=True, kw_only=True):
    """Of a negotiation that was agreed."""

    @property
    def amount(self) -> int:
        """The price that both have signed, in minor units."""
        return int(self.document["amount"])


class ChannelReceipt(Receipt, frozen=True, kw_only=True):
    """Of a payment channel that was closed."""

    @property
    def cause(self) -> str:
        """Why it was closed."""
        return str(self.document["cause"])

    @property
    def finals(self) -> tuple[int, int]:
        """What opener and counterparty were paid, in minor units."""
        return int(self.document["final_balance_a"]), int(self.document["final_balance_b"])


class ChannelHistory(msgspec.Struct, frozen=True, kw_only=True):
    """The history of a payment channel that was verified step by step; the fields are those of a receipt."""

    id: str
    steps: tuple[Document, ...]
    checks: tuple[str, ...]
    unproven: tuple[str, ...]
    path: Path


async def task_receipt(context: AgentContext, task_id: str, known: KnownTask | None = None) -> TaskReceipt:
    """The receipt of a task that has ended, verified, and kept.

    Args:
        context: The agent, which is one of the task's two.
        task_id: The task's.
        known: What the agent knows of the task itself; None: nothing.

    Raises:
        WrongReceipt: It does not verify, or says something else than is known, or than an earlier one did.
        ReplayedReceipt: It verifies, and is of another task.
        WrongMarket: It is another deployment's.
        BrokenRecord: The copy that was kept is damaged.
        RefusedByServer: `not_settled` while the task runs or its price is held, `not_found`.
        Disconnected: The connection is closed.
    """
    receipt, report = await _fetched(context, f"/tasks/{task_id}/receipt", kind=TASK, document_id=task_id, keys={})
    document = receipt["document"]
    _require_party(context, document["client_agent_id"], document["provider_agent_id"])
    if known is not None:
        known.require(document)
    return TaskReceipt(**_kept(context, receipt, report))


async def agreement_receipt(
    context: AgentContext, session_id: str, known: KnownAgreement | None = None
) -> AgreementReceipt:
    """The receipt of an agreement, verified, and kept.

    Args:
        context: The agent, which is one of the two.
        session_id: The negotiation's.
        known: The session as the agent has checked it, `KnownAgreement.of(session)`; None: nothing is known of it.

    Raises:
        WrongReceipt, ReplayedReceipt, WrongMarket, BrokenRecord: As for `task_receipt`.
        RefusedByServer: `not_agreed`, `not_found`.
        Disconnected: The connection is closed.
    """
    path = f"/negotiations/{session_id}/receipt"
    keys = {}
    if known is not None:
        keys = {"client": known.client_public_key, "provider": known.provider_public_key}
    receipt, report = await _fetched(context, path, kind=AGREEMENT, document_id=session_id, keys=keys)
    document = receipt["document"]
    _require_own_key(context, document, ("client", "provider"))
    if known is not None:
        known.require(document)
    return AgreementReceipt(**_kept(context, receipt, report))


async def channel_receipt(context: AgentContext, channel_id: str, known: Record | None = None) -> ChannelReceipt:
    """The receipt of a closed payment channel, verified, and kept.

    Args:
        context: The agent, which is one of the two.
        channel_id: The channel's.
        known: What the agent has written down of the channel; None: what lies in its folder, if anything.

    Raises:
        WrongReceipt, ReplayedReceipt, WrongMarket: As for `task_receipt`.
        BrokenRecord: The copy that was kept, or the record of the channel, is damaged.
        RefusedByServer: `not_closed`, `not_found`.
        Disconnected: The connection is closed.
    """
    record = _record(context, channel_id) if known is None else known
    path = f"/payment-channels/{channel_id}/receipt"
    receipt, report = await _fetched(
        context, path, kind=PAYMENT_CHANNEL, document_id=channel_id, keys=_channel_keys(record)
    )
    document = receipt["document"]
    _require_party(context, document["agent_a_id"], document["agent_b_id"])
    if record is not None:
        require_known_channel(record, document)
    return ChannelReceipt(**_kept(context, receipt, report))


async def channel_history(context: AgentContext, channel_id: str, known: Record | None = None) -> ChannelHistory:
    """Everything that ever changed a payment channel, verified step by step, and kept. It is read as a whole.

    Args:
        context, channel_id, known: As for `channel_receipt`.

    Raises:
        WrongReceipt: It does not verify, or leaves out what is known.
        ReplayedReceipt: It verifies, and is of another channel.
        RolledBack: It lacks steps that an earlier one had.
        WrongMarket, BrokenRecord: As for `channel_receipt`.
        RefusedByServer: `not_found`.
        Disconnected: The connection is closed.
    """
    record = _record(context, channel_id) if known is None else known
    raw = await _file(context, f"/payment-channels/{channel_id}/history", HISTORY_MEDIA_TYPE)
    lines = [_parsed(line) for line in raw.splitlines()]
    try:
        report = verify_history(lines, platform_key=_platform_key(context), **_as_keys(_channel_keys(record)))
    except ReceiptError as error:
        raise WrongReceipt(str(error), check=error.check) from error
    header, steps = cast("Document", lines[0]), tuple(cast("list[Document]", lines[1:-1]))
    _require_about(context, header, kind=PAYMENT_HISTORY, document_id=channel_id)
    _require_party(context, header["agent_a_id"], header["agent_b_id"])
    reached = steps[-1]["last_nonce"] if steps else 0
    if record is not None and reached < record.last_nonce:
        raise WrongReceipt(
            f"nonce {record.last_nonce} was used, and the history ends at {reached}",
            expected=record.last_nonce,
            told=reached,
        )
    path = context.folder.receipt(PAYMENT_HISTORY, channel_id)
    _require_continues(path, lines)
    _store(path, raw)
    return ChannelHistory(id=channel_id, steps=steps, checks=report.checks, unproven=report.unproven, path=path)


# What comes, and what is about it.


async def _fetched(
    context: AgentContext, path: str, *, kind: str, document_id: str, keys: dict[str, str]
) -> tuple[Document, ReceiptReport]:
    """A receipt that verifies, and is about what was asked for.

    Args:
        keys: What the parties are known to sign with, by their role.
    """
    receipt = _parsed(await _file(context, path, MEDIA_TYPE))
    try:
        report = verify_receipt(receipt, platform_key=_platform_key(context), **_as_keys(keys))
    except ReceiptError as error:
        raise WrongReceipt(str(error), check=error.check) from error
    found = cast("Document", receipt)
    _require_about(context, found, kind=kind, document_id=document_id)
    _require_money(context, found["document"])
    return found, report


async def _file(context: AgentContext, path: str, media_type: str) -> bytes:
    return await context.connection.repeat(lambda: context.rest.file(path, media_type))


def _parsed(raw: bytes) -> object:
    try:
        return msgspec.json.decode(raw)
    except (ValueError, RecursionError) as error:
        raise WrongReceipt(f"this is no receipt: {error}", check="shape") from error


def _require_about(context: AgentContext, receipt: Document, *, kind: str, document_id: str) -> None:
    if (receipt["kind"], receipt["id"]) != (kind, document_id):
        raise ReplayedReceipt(
            f"the receipt of {kind} {document_id} was asked for, and one of {receipt['kind']} {receipt['id']} came",
            expected=document_id,
            told=receipt["id"],
        )
    if receipt["signing_domain"] != context.market.signing_domain:
        raise WrongMarket(
            "the receipt is another deployment's",
            expected=context.market.signing_domain,
            told=receipt["signing_domain"],
        )


def _require_money(context: AgentContext, document: Document) -> None:
    market = context.market
    expected, told = (market.currency, market.exponent), (document["currency"], document["exponent"])
    if told != expected:
        raise WrongMarket(f"the receipt speaks of another money: {told[0]}", expected=expected, told=told)


def _require_party(context: AgentContext, *agent_ids: str) -> None:
    if context.me.id not in agent_ids:
        raise ReplayedReceipt("the receipt is of others", expected=context.me.id, told=agent_ids)


def _require_own_key(context: AgentContext, document: Document, roles: tuple[str, str]) -> None:
    """Refuse a document that is of others, or that gives this agent another key."""
    _require_party(context, *(document[f"{role}_agent_id"] for role in roles))
    own = context.me.public_key if context.signer is None else context.signer.public_key
    told = next(document[f"{role}_public_key"] for role in roles if document[f"{role}_agent_id"] == context.me.id)
    if own is not None and told != own:
        raise WrongReceipt("this agent signs with another key", expected=own, told=told)


# What is known.


def _platform_key(context: AgentContext) -> bytes:
    return parse_public_key(context.market.platform_public_key)


def _as_keys(keys: dict[str, str]) -> dict[str, Any]:
    return {f"{role}_key": parse_public_key(key) for role, key in keys.items()}


def _record(context: AgentContext, channel_id: str) -> Record | None:
    """What lies in the agent's folder of a channel."""
    signer, path = context.signer, context.folder.channel(channel_id)
    if signer is None or not path.exists():
        return None
    return RecordFile(path, Record(agent_id=context.me.id, public_key=signer.public_key)).record


def _channel_keys(record: Record | None) -> dict[str, str]:
    opening = None if record is None else record.opening
    return {} if opening is None else {"opener": opening.public_key_a, "counterparty": opening.public_key_b}


# What is kept.


def _kept(context: AgentContext, receipt: Document, report: ReceiptReport) -> dict[str, Any]:
    """Keep a copy of a receipt, unless an earlier one says something else."""
    path = context.folder.receipt(receipt["kind"], receipt["id"])
    document = receipt["document"]
    if path.exists():
        before = _read(path)
        if not _follows(before, receipt):
            raise WrongReceipt(f"the receipt says something else than the copy that was kept in {path}")
    _store(path, msgspec.json.format(msgspec.json.encode(receipt)) + b"\n")
    return {
        "id": report.id,
        "document": document,
        "checks": report.checks,
        "unproven": report.unproven,
        "path": path,
    }


def _follows(before: Document, after: Document) -> bool:
    """Whether a receipt says what an earlier one said, or what may have come of it."""
    then, now = before.get("document", {}), after["document"]
    if after["kind"] != TASK:
        return bool(then == now)
    may_grow = now["stream_price"] is not None
    return all(
        then.get(name) == value or (may_grow and name in GROWING and then.get(name, 0) <= value)
        for name, value in now.items()
    )


def _require_continues(path: Path, lines: list[object]) -> None:
    """Refuse a history that is not the one that was kept, gone on."""
    if not path.exists():
        return
    before = [_parsed(line) for line in path.read_bytes().splitlines()][:-1]
    if lines[: len(before)] != before:
        raise RolledBack(f"the history lacks steps that the copy in {path} has, or has others")


def _read(path: Path) -> Document:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise BrokenRecord(f"{path} is no receipt any more; move it away: {error}") from error


def _store(path: Path, encoded: bytes) -> None:
    """Put a file in the place of what was there, whole; once this returns it survives a loss of power."""
    draft = path.with_name(f"{path.name}.new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_MODE), "wb") as file:
        file.write(encoded)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_folder(path.parent)
