"""What a server may tell of tasks, new channels and money that cannot be, or is not what was asked for.

What is signed is checked where it is signed, in `sessions.py`, `channel_states.py` and `streams.py`. Here stands what
nobody signs: that a task is the one that was ordered, at the agreed price, and stays so; that its fee follows from its
rate; and that sums are sums.
"""

from typing import Any, Final

import msgspec

from .errors import LyingServer, MalformedAnswer, RolledBack, WrongAnswer, WrongBalance, WrongPayout, WrongPrice

BASIS_POINTS: Final = 10_000

FIXED: Final = (
    *("id", "client_agent_id", "provider_agent_id", "capability", "input", "negotiation_session_id"),
    *("hold_seconds", "channel_id", "created_at", "signing_domain", "currency", "exponent"),
)
"""What of a task never changes after its opening, beside its price."""

PRICES: Final = ("price", "fee", "fee_bps", "net", "stream_price")
"""What a task costs: it never changes either."""

FINAL: Final = frozenset(("completed", "failed", "cancelled"))

_ESCROWS: Final = {
    "pending": {"held"},
    "in_progress": {"held"},
    "disputed": {"held"},
    "completed": {"held", "released"},
    "failed": {"refunded"},
    "cancelled": {"refunded"},
}
"""Where a price can be in each state, as long as no dispute was settled."""

_SETTLED: Final = {
    "client": ("failed", "refunded"),
    "provider": ("completed", "released"),
    "split": ("completed", "split"),
}
"""How a task ends by each decision of a dispute."""


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """How a dispute has ended; `to_provider` is the provider's part before the fee."""

    decision: str
    to_client: int
    to_provider: int
    fee: int


class ToldTask(msgspec.Struct, frozen=True, kw_only=True):
    """What of a task speaks of money, as the server tells it."""

    price: int
    fee: int
    fee_bps: int
    net: int
    status: str
    escrow_status: str
    stream_price: dict[str, Any] | None
    paid: int
    settlement: Settlement | None

    @property
    def fee_of_price(self) -> int:
        """What the rate makes of the whole price."""
        return self.price * self.fee_bps // BASIS_POINTS  # Rounds down, in the provider's favour.


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A task as it was ordered.

    Args:
        client_agent_id, provider_agent_id, capability, input: What for, and between whom.
        price: What it has to cost, in minor units: the agreed amount; None where that is not known.
        price_max: What it may cost at most; None: anything.
        negotiation_session_id: Of the agreement, if there is one.
        hold_seconds: As it was asked for; None: the market's own.
        channel_id, stream_price: Where it is paid as it streams. Members of the price that were not given are not
            compared.
    """

    client_agent_id: str
    provider_agent_id: str
    capability: str
    input: Any = None
    price: int | None = None
    price_max: int | None = None
    negotiation_session_id: str | None = None
    hold_seconds: int | None = None
    channel_id: str | None = None
    stream_price: dict[str, Any] | None = None


def require_ordered(task: dict[str, Any], order: Order) -> None:
    """Refuse a new task that is not what was ordered.

    Args:
        task: The answer to its opening.
        order: What was asked for.

    Raises:
        WrongAnswer: It is another one: of other agents, for something else, or by another agreement.
        WrongPrice: It costs something else than was agreed, or more than it may.
        MalformedAnswer, WrongPayout: As for `require_task`.
    """
    for name in ("client_agent_id", "provider_agent_id", "capability", "negotiation_session_id", "channel_id"):
        _require_same(f"the task's {name}", getattr(order, name), task.get(name), WrongAnswer)
    _require_same("the task's input", _as_json(order.input), task.get("input"), WrongAnswer)
    if order.hold_seconds is not None:
        _require_same("the task's hold_seconds", order.hold_seconds, task.get("hold_seconds"), WrongAnswer)
    told = require_task(task)
    if order.price is not None and told.price != order.price:
        raise WrongPrice(
            f"{order.price} was agreed, and the task's price is {told.price}", expected=order.price, told=told.price
        )
    if order.price_max is not None and told.price > order.price_max:
        raise WrongPrice(
            f"the task costs {told.price}, and {order.price_max} is the most", expected=order.price_max, told=told.price
        )
    _require_stream_price(order, told)


def require_task(task: dict[str, Any]) -> ToldTask:
    """Refuse a task whose money does not add up: price, fee and net, the escrow and what a settlement has paid out.

    Args:
        task: As any reply or event tells it.

    Raises:
        MalformedAnswer: It is no task.
        WrongPrice: Fee or net do not follow from price and rate; or what is paid as it streams has a held price.
        WrongPayout: The escrow does not fit the state, or the settlement the price.
    """
    try:
        told = msgspec.convert(task, ToldTask)
    except msgspec.ValidationError as error:
        raise MalformedAnswer(f"what the server tells of a task cannot be: {error}") from error
    if told.price < 0 or not 0 <= told.fee_bps <= BASIS_POINTS:
        raise WrongPrice(f"a price of {told.price} at a rate of {told.fee_bps} basis points cannot be")
    if told.fee != told.fee_of_price or told.net != told.price - told.fee:
        raise WrongPrice(
            f"the fee of {told.price} is {told.fee_of_price}, not {told.fee}, and {told.net} is said to be left",
            expected=told.fee_of_price,
            told=told.fee,
        )
    if told.stream_price is not None and told.price:
        raise WrongPrice("what is paid as it streams has no held price", expected=0, told=told.price)
    _require_escrow(told)
    return told


def require_later(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Refuse a task that is not the one that it was before.

    Args:
        before: As it was told, and checked.
        after: As it is told now.

    Raises:
        WrongAnswer: Its parties, its input, or something else of what never changes is another.
        WrongPrice: Its price is another.
        RolledBack: It had ended, and goes on; or less of it is paid.
        MalformedAnswer, WrongPayout: As for `require_task`.
    """
    for name in FIXED:
        _require_same(f"the task's {name}", before.get(name), after.get(name), WrongAnswer)
    for name in PRICES:
        _require_same(f"the task's {name}", before.get(name), after.get(name), WrongPrice)
    then, now = require_task(before), require_task(after)
    if now.paid < then.paid:
        raise RolledBack(
            f"{then.paid} was paid for the task, and it is {now.paid} now", expected=then.paid, told=now.paid
        )
    is_over = then.status in {"failed", "cancelled"} or (then.status == "completed" and then.escrow_status != "held")
    if is_over and (now.status, now.escrow_status) != (then.status, then.escrow_status):
        raise RolledBack(
            f"the task had ended as {then.status}, {then.escrow_status}, and is {now.status}, {now.escrow_status} now",
            expected=then.status,
            told=now.status,
        )
    if then.status == "completed" and now.status in {"pending", "in_progress"}:
        raise RolledBack(f"the task was completed, and is {now.status} now", expected=then.status, told=now.status)


def require_released(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Refuse what a release is answered with, where it has not paid just the price.

    Raises:
        WrongPayout: Nothing was released, or a dispute was settled instead.
        WrongAnswer, WrongPrice, RolledBack, MalformedAnswer: As for `require_later`.
    """
    require_later(before, after)
    if after["escrow_status"] != "released" or after["settlement"] is not None:
        raise WrongPayout(
            f"the price was to be released, and is {after['escrow_status']}",
            expected="released",
            told=after["escrow_status"],
        )


def require_channel_ordered(
    channel: dict[str, Any], *, agent_a_id: str, agent_b_id: str, mode: str, window_s: int | None, deposit: int
) -> None:
    """Refuse a new payment channel that is not what was asked for. What is signed in it, `ChannelKeeper` checks.

    Args:
        channel: The answer to its opening.
        agent_a_id, agent_b_id: Who has opened it, and with whom.
        mode, window_s: As they were asked for; `window_s` None: the market's own.
        deposit: What was put in, in minor units.

    Raises:
        WrongAnswer: It is between others, or of another mode or window.
        WrongBalance: Another deposit was taken.
    """
    asked: dict[str, object] = {"agent_a_id": agent_a_id, "agent_b_id": agent_b_id, "mode": mode}
    if window_s is not None:
        asked["window_s"] = window_s
    for name, expected in asked.items():
        _require_same(f"the channel's {name}", expected, channel.get(name), WrongAnswer)
    _require_same("the channel's deposit", deposit, channel.get("deposit_a"), WrongBalance)


def require_balance(balance: dict[str, Any]) -> None:
    """Refuse an agent's money that does not add up.

    Args:
        balance: The answer of `GET /ledger/balance`.

    Raises:
        MalformedAnswer: It is none.
        WrongBalance: The parts do not sum to the total, or one is less than nothing.
    """
    parts = {name: balance.get(name) for name in ("available", "escrow", "channels", "total")}
    for name, value in parts.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise MalformedAnswer(f"the balance's {name} is no amount: {value!r}")
        if value < 0:
            raise WrongBalance(f"the balance's {name} is {value}", told=value)
    total = balance["available"] + balance["escrow"] + balance["channels"]
    _require_same("the balance's total", total, balance["total"], WrongBalance)


def _require_escrow(told: ToldTask) -> None:
    """Refuse an escrow that does not fit the state, and a settlement that does not fit the price."""
    made = told.settlement
    if made is not None:
        _require_settlement(told, made)
        return
    possible = {"none"} if told.price == 0 else _ESCROWS.get(told.status)
    if possible is None:
        raise MalformedAnswer(f"no task is {told.status}")
    if told.escrow_status not in possible:
        raise WrongPayout(
            f"the task is {told.status}, and its price {told.escrow_status}",
            expected=sorted(possible),
            told=told.escrow_status,
        )


def _require_settlement(told: ToldTask, made: Settlement) -> None:
    if _SETTLED.get(made.decision) != (told.status, told.escrow_status):
        raise WrongPayout(
            f"it was settled for the {made.decision}, and the task is {told.status}, {told.escrow_status}",
            expected=_SETTLED.get(made.decision),
            told=(told.status, told.escrow_status),
        )
    fee = made.to_provider * told.fee_bps // BASIS_POINTS  # Rounds down, in the provider's favour.
    if min(made.to_client, made.to_provider) < 0 or made.to_client + made.to_provider != told.price or made.fee != fee:
        raise WrongPayout(
            f"{made.to_client} and {made.to_provider} with a fee of {made.fee} were paid out of {told.price}",
            expected=told.price,
            told=made.to_client + made.to_provider,
        )


def _require_stream_price(order: Order, told: ToldTask) -> None:
    asked, price = order.stream_price, told.stream_price
    if asked is None or price is None:
        _require_same("the task's stream price", asked, price, WrongPrice)
        return
    for name, expected in asked.items():
        _require_same(f"the stream price's {name}", expected, price.get(name), WrongPrice)


def _as_json(value: Any) -> Any:
    """What comes back of a value that was sent: lists for tuples, and so on."""
    return msgspec.json.decode(msgspec.json.encode(value))


def _require_same(what: str, expected: object, told: object, error: type[LyingServer]) -> None:
    if told != expected:
        raise error(f"{what} is {told!r:.200}, and was to be {expected!r:.200}", expected=expected, told=told)
