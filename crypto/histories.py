"""The history of a payment channel, checked offline line by line, however long it is.

A receipt proves how a channel has ended; its history proves every step to there: that no nonce was left out or used
twice, and what each transfer has made of the balances. It is exported as JSON Lines: a header, the steps, and the
platform's signature over a chain of digests, which both sides keep up line by line. SIGNING.md ("Histories") gives the
format, and a whole example.
"""

from collections.abc import Iterable, Iterator
from typing import Final, cast

from .canonical import DOCUMENT_NESTING_MAX, canonical_digest, canonical_json
from .channel_parties import MODE, read_amount, read_money, read_parties
from .errors import BadDocument, ReceiptError
from .evidence import DIGEST, ID, SIGNING_DOMAIN, Fields, choice
from .history_steps import ChannelHistory
from .messages import digest
from .receipts import ReceiptReport, require_pinned, require_platform_signed, unpinned

HISTORY_KIND: Final = "payment_history"
"""What the header calls itself; also the kind of document that the platform signs."""

PLATFORM_KIND: Final = "platform"
"""What the last line calls itself."""

_KIND: Final = choice(HISTORY_KIND)
_HEADER_MEMBERS: Final = frozenset(
    (
        *("kind", "id", "signing_domain", "currency", "exponent", "mode", "window_s"),
        *("agent_a_id", "agent_b_id", "public_key_a", "public_key_b"),
    )
)
_LAST_MEMBERS: Final = frozenset(("kind", "steps", "digest", "public_key", "signature"))


class HistoryDigest:
    """The digest of a history, kept up step by step: a chain, whose head stands for all that came before.

    The first head is the digest of the header's canonical JSON; each further one is that of the head before, as hex, a
    line feed, and the step's canonical JSON. The platform signs the last one.

    Args:
        header: The first line, a JSON value.
        steps: How many have been added.

    Raises:
        BadDocument: The header has no canonical JSON.
    """

    def __init__(self, header: object) -> None:
        self._head = canonical_digest(header)
        self.steps = 0

    def add(self, step: object) -> None:
        """Add the next step, a JSON value.

        Raises:
            BadDocument: It has no canonical JSON.
        """
        self._head = digest(self._head.encode("ascii") + b"\n" + canonical_json(step, nesting_max=DOCUMENT_NESTING_MAX))
        self.steps += 1

    @property
    def hexdigest(self) -> str:
        """Of everything so far, 64 lower-case hex digits."""
        return self._head


def verify_history(
    lines: Iterable[object],
    *,
    platform_key: bytes | None = None,
    opener_key: bytes | None = None,
    counterparty_key: bytes | None = None,
) -> ReceiptReport:
    """Check the whole history of a payment channel as far as mathematics goes, in the order of its lines.

    It keeps nothing of a line once the next one is read.

    Args:
        lines: What a JSON parser made of each line. They may be anything: every flaw is a `ReceiptError`, whose
            sentence says in which line. The first is line 1.
        platform_key, opener_key, counterparty_key: The keys that the history must name, 32 bytes each, where they are
            known from elsewhere; None leaves that open, and the report says so.

    Raises:
        ReceiptError: `shape`, `identity`, `key`, `pinned_key`, `number`, `order`, `nonce`, `balances`, `sum`, `payout`,
            `transfer_signature`, `close_signature`, `digest`, `platform_signature`.
    """
    rest = iter(lines)
    header = next(rest, None)
    history = _read_header(header)
    parties = history.parties
    pins = {"platform": platform_key, "opener": opener_key, "counterparty": counterparty_key}
    # Before the steps, which may take minutes.
    pinned = require_pinned(parties.keys, {role: pins[role] for role in parties.keys}, what="history's line 1")
    chain = HistoryDigest(header)
    last = _read_steps(rest, history, chain)
    line = history.steps + 2
    fields = _read_last(last, chain, line=line)
    keys = {"platform": fields.public_key("public_key"), **parties.keys}
    pinned += require_pinned(keys, {"platform": platform_key}, what=f"history's line {line}")
    signed = require_platform_signed(
        fields,
        signing_domain=parties.signing_domain,
        kind=HISTORY_KIND,
        document_id=parties.channel_id,
        document_digest=chain.hexdigest,
    )
    return ReceiptReport(
        kind=HISTORY_KIND,
        id=parties.channel_id,
        checks=(parties.sentence, *history.sentences, signed, *pinned),
        unproven=unpinned(keys, pins, what="history"),
    )


def _read_header(header: object) -> ChannelHistory:
    fields = Fields(header, pointer="Line 1", names=_HEADER_MEMBERS)
    fields.text("kind", _KIND)
    signing_domain, channel_id = fields.text("signing_domain", SIGNING_DOMAIN), fields.text("id", ID)
    parties = read_parties(fields, signing_domain=signing_domain, channel_id=channel_id)
    read_money(fields)
    read_amount(fields, "window_s")
    return ChannelHistory(parties, mode=fields.text("mode", MODE))


def _read_steps(rest: Iterator[object], history: ChannelHistory, chain: HistoryDigest) -> object:
    """Check every step; the platform's line, which is the last one, or None where there is none."""
    for line, value in enumerate(rest, start=2):
        if _is_platforms(value):
            _require_end(rest, line=line)
            return value
        history.add(value, line=line)
        try:
            chain.add(value)
        except BadDocument as error:
            raise ReceiptError(f"Line {line}: expected is a step with canonical JSON.", check="shape") from error
    return None


def _is_platforms(value: object) -> bool:
    return isinstance(value, dict) and cast("dict[object, object]", value).get("kind") == PLATFORM_KIND


def _require_end(rest: Iterator[object], *, line: int) -> None:
    for _ in rest:
        raise ReceiptError(f"Line {line + 1}: nothing comes after the platform's line.", check="order")


def _read_last(last: object, chain: HistoryDigest, *, line: int) -> Fields:
    """The platform's line, once its digest is that of the lines before it."""
    place = f"Line {line}"
    if last is None:
        raise ReceiptError(f"{place}: expected is one more step, or the platform's line.", check="shape")
    if not chain.steps:
        raise ReceiptError(f"{place}: expected is the step opened.", check="order")
    fields = Fields(last, pointer=place, names=_LAST_MEMBERS)
    if read_amount(fields, "steps") != chain.steps:
        raise ReceiptError(f"{place}/steps: there are {chain.steps}.", check="digest")
    if fields.text("digest", DIGEST) != chain.hexdigest:
        raise ReceiptError(f"{place}/digest: the lines before, chained anew, have another one.", check="digest")
    return fields
