"""An agent's money: what it has, and every entry that moved it."""

import csv
import io
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec

from agrenting.api.answers import Balance, Transaction
from agrenting.api.call import Call, Raw
from agrenting.api.operation import Callers, Noun
from agrenting.api.paging import LAST, Page, PageQuery, decode_cursor, page_of
from agrenting.clock import from_ms, to_ms
from agrenting.db import ledger as rows
from channels.ledger import Kind, available

NOUN = Noun("ledger", "Balances and transactions.")
NAME = "transactions"
CSV: Final = "text/csv"
FORMULA_SIGNS: Final = ("=", "+", "-", "@", "\t", "\r")
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class TransactionsQuery(PageQuery, frozen=True, kw_only=True):
    """Which transactions, newest first.

    Args:
        kind: Only those of this kind.
        task_id: Only those for this task.
        channel_id: Only those for this payment channel.
        since: Only those at this time or later; with an offset from UTC.
        until: Only those before this time.
    """

    kind: Kind | None = None
    task_id: str | None = None
    channel_id: str | None = None
    since: Moment | None = None
    until: Moment | None = None


@NOUN.get("/ledger/balance", answer=Balance, callers=Callers.AGENT, scopes=("payments",))
async def read_balance(call: Call) -> object:
    """What the caller has: to spend, held for its tasks as a client, in channels, and all together."""
    amounts = await call.read(lambda tx: rows.balances_of_agent(tx, call.agent_id))
    return Balance(**amounts, currency=call.market.currency, exponent=call.market.exponent)


@NOUN.get(
    "/ledger/transactions",
    answer=Transaction,
    callers=Callers.AGENT,
    scopes=("payments",),
    files={CSV: "The same page as a table; the header X-Next-Cursor asks for the next one."},
)
async def list_transactions(call: Call, query: TransactionsQuery) -> object:
    """List what moved the caller's available money, newest first. With `Accept: text/csv` it is a table."""
    before = decode_cursor(query.cursor, name=NAME, start=LAST)
    found = await call.read(
        lambda tx: rows.transactions(
            tx,
            available(call.agent_id),
            kind=query.kind,
            task_id=query.task_id,
            channel_id=query.channel_id,
            since_ms=None if query.since is None else to_ms(query.since),
            until_ms=None if query.until is None else to_ms(query.until),
            before=before,
            limit=query.limit + 1,
        )
    )
    page = page_of(found, query=query, key=lambda row: row["id"], name=NAME, show=_transaction)
    return as_table(page) if call.accepts(CSV) else page


def _transaction(row: dict[str, Any]) -> Transaction:
    return Transaction(
        id=row["id"],
        kind=row["kind"],
        amount=row["amount"],
        task_id=row["task_id"],
        channel_id=row["channel_id"],
        memo=row["memo"],
        created_at=from_ms(row["created_at_ms"]),
    )


def as_table(page: Page) -> Raw:
    """A page of transactions as CSV. Source: RFC 4180."""
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(Transaction.__struct_fields__)
    for shown in page.items:
        fields = msgspec.to_builtins(shown)
        writer.writerow(
            [
                *(fields[name] for name in ("id", "kind", "amount", "task_id", "channel_id")),
                _inert(fields["memo"]),
                fields["created_at"],
            ]
        )
    next_cursor = page.metadata.next_cursor
    headers = {"Content-Disposition": 'attachment; filename="transactions.csv"'}
    return Raw(
        table.getvalue().encode(), CSV, headers if next_cursor is None else {**headers, "X-Next-Cursor": next_cursor}
    )


def _inert(text: str) -> str:
    """Free text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(FORMULA_SIGNS) else text
