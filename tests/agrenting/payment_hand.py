"""What Alice and Bob send in the machine of payment channels: honest moves, and moves with one lie in them."""

from typing import Any

import hypothesis.strategies as st
import msgspec

from tests.agrenting.payment_model import Ink, Json, Model, Move, Pair, Transfer

PURSE = 10_000
SOCKETS = 2
REST = SOCKETS
"""The last door of each agent."""

BY_REST = {"accept", "decline", "cancel", "deposit", "force_close"}
STRANGER = 2
PAY = "pay"
"""No event of its own: a transfer from its proposal to its end, or a chain."""


PICKS = st.integers(0, 999)
AMOUNTS = st.sampled_from([1, 2, 5, 100, 400, 0, -1])
LIES = st.sampled_from(
    [*[""] * 9, "nonce", "ahead", "channel", "swapped", "forged", "amount", "all", "stale", "garbage"]
)
EVENTS = st.sampled_from(
    [
        *[PAY] * 3,
        *["propose_transfer"] * 5,
        *["acknowledge_transfer"] * 5,
        *["reject_transfer", "submit_transfers", "submit_transfers", "submit_transfers", "close_request"],
        *["close", "dispute", "withdraw_dispute", "force_close", "deposit", "deposit", "accept", "decline", "cancel"],
        "phx_join",
    ]
)


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """A move before it is known how the channel stands; the numbers choose."""

    who: int
    event: str
    amount: int
    lie: str
    pick: int
    door: int
    number: int


WISHES = st.builds(
    Wish,
    who=st.integers(0, 1),
    event=EVENTS,
    amount=AMOUNTS,
    lie=LIES,
    pick=PICKS,
    door=st.integers(0, REST),
    number=st.sampled_from([0, 0, 0, 1]),
)


class Hand:
    """Makes moves from wishes, as the channels stand.

    Args:
        ink: Signs for both.
        models: Of the two channels; what stands in the list is looked at anew for each move.
    """

    def __init__(self, ink: Ink, models: list[Model]) -> None:
        self.ink = ink
        self.models = models

    def move(self, wish: Wish) -> Move:
        """What somebody sends, honest but for one lie."""
        model = self.models[wish.number]
        if wish.event == PAY:
            event = "propose_transfer" if model.is_online else "submit_transfers"
            return self.move(msgspec.structs.replace(wish, event=event))
        making: Any = getattr(self, f"_make_{wish.event}", None)
        payload: Json = {} if making is None else making(model, wish)
        door = wish.door % SOCKETS if wish.event == "phx_join" else wish.door
        return Move(who=wish.who, event=wish.event, payload=payload, door=REST if wish.event in BY_REST else door)

    def doors(self, move: Move) -> range | tuple[int, ...]:
        """Every door that a move can come through."""
        if move.event in BY_REST:
            return (REST, REST)
        return range(SOCKETS) if move.event == "phx_join" else range(REST + 1)

    def _make_accept(self, model: Model, wish: Wish) -> Json:
        return {"deposit": PURSE + 1 if wish.lie == "all" else wish.amount}

    def _make_decline(self, model: Model, wish: Wish) -> Json:
        return {"reason": "No."}

    def _make_deposit(self, model: Model, wish: Wish) -> Json:
        return {"amount": model.purses[wish.who] + 1 if wish.lie == "all" else wish.amount}

    def _make_propose_transfer(self, model: Model, wish: Wish) -> Json:
        transfer = self._transfer(model, wish, wish.who)
        return {
            "amount": transfer.amount,
            "nonce": transfer.nonce + (wish.lie == "ahead"),
            "signature": self._signature(model, transfer, wish, wish.who),
        }

    def _make_acknowledge_transfer(self, model: Model, wish: Wish) -> Json:
        """The pending proposal, else what was there last, else what might be next."""
        transfer = model.proposal or model.last_transfer or self._transfer(model, wish, 1 - wish.who)
        return {
            "amount": transfer.amount + (wish.lie == "amount"),
            "nonce": transfer.nonce + (wish.lie == "ahead"),
            "signature": self._signature(model, transfer, wish, wish.who),
        }

    def _make_reject_transfer(self, model: Model, wish: Wish) -> Json:
        nonce = model.last_nonce + 1 + (wish.lie == "ahead") - (wish.lie == "nonce")
        return {"reason": "No."} if wish.pick % 2 else {"nonce": nonce}

    def _make_close_request(self, model: Model, wish: Wish) -> Json:
        finals = self.finals(model, wish.pick)
        signature = self._close_signature(model, finals, wish, wish.who)
        return {
            "final_balance_a": finals[0] + (wish.lie == "all"),
            "final_balance_b": finals[1],
            "signature": signature,
        }

    def _make_close(self, model: Model, wish: Wish) -> Json:
        """Mostly one of the two has not signed it: else each channel would soon be over."""
        finals = self.finals(model, wish.pick)
        honest = msgspec.structs.replace(wish, lie="" if wish.pick % 3 else "forged")
        signature_a, signature_b = (
            self._close_signature(model, finals, wish if wish.lie and who == wish.who else honest, who)
            for who in (0, 1)
        )
        if wish.lie == "swapped":
            signature_a, signature_b = signature_b, signature_a
        finals = (finals[0] + (wish.lie == "all"), finals[1])
        return {
            "final_balance_a": finals[0],
            "final_balance_b": finals[1],
            "signature_a": signature_a,
            "signature_b": signature_b,
        }

    def _make_submit_transfers(self, model: Model, wish: Wish) -> Json:
        return {"transfers": self._chain(model, wish)}

    def _make_dispute(self, model: Model, wish: Wish) -> Json:
        if model.is_online or wish.pick % 2:
            return {"reason": "Mine."}
        return {"reason": "There is more.", "evidence": {"transfers": self._chain(model, wish)}}

    def _make_phx_join(self, model: Model, wish: Wish) -> Json:
        """What is known: what was there, mostly, else what both may have signed elsewhere."""
        transfer = model.proposal or model.last_transfer or self._transfer(model, wish, wish.who)
        if wish.pick % 7 == 0:
            transfer = self._transfer(model, wish, wish.who)
        return {"known": {**self._both_signed(model, transfer, wish), **_balances(transfer)}}

    # Its parts.

    def _transfer(self, model: Model, wish: Wish, payer: int) -> Transfer:
        amount = model.balances[payer] + 1 if wish.lie == "all" else wish.amount
        transfer = model.next(payer, amount)
        return msgspec.structs.replace(transfer, nonce=max(transfer.nonce - (wish.lie == "nonce"), 0))

    def _signature(self, model: Model, transfer: Transfer, wish: Wish, who: int) -> str:
        """Over just that transfer, but for a lie."""
        channel_id, (balance_a, balance_b) = model.id, transfer.balances
        match wish.lie:
            case "channel":
                channel_id = self.models[1 - wish.number].id
            case "swapped":
                balance_a, balance_b = balance_b, balance_a
            case "stale":
                balance_a -= 5
            case "forged":
                who = STRANGER
            case "garbage":
                return "AAAA"
        said = msgspec.structs.replace(transfer, balances=(max(balance_a, 0), max(balance_b, 0)))
        said = msgspec.structs.replace(said, amount=max(said.amount + (wish.lie == "amount"), 0))
        return self.ink.sign(who, self.ink.transfer(channel_id, said))

    def _close_signature(self, model: Model, finals: Pair, wish: Wish, who: int) -> str:
        channel_id = self.models[1 - wish.number].id if wish.lie == "channel" else model.id
        nonce = max(model.last_nonce - (wish.lie in {"nonce", "stale"}), 0) + (wish.lie == "ahead")
        if wish.lie == "garbage":
            return "AAAA"
        signer = STRANGER if wish.lie == "forged" else who
        return self.ink.sign(signer, self.ink.close(channel_id, nonce, finals))

    def finals(self, model: Model, pick: int) -> Pair:
        """The balances, or another division of all that there is."""
        total = sum(model.deposits)
        final_a = model.balances[0] if pick % 2 else pick % (total + 1)
        return final_a, total - final_a

    def _chain(self, model: Model, wish: Wish) -> list[Json]:
        """One to four transfers after the last, perhaps with some before them; a lie is about one of them."""
        count, payer = 1 + wish.pick % 4, wish.who
        first = max(1, model.last_nonce - wish.pick % 3 + 1) if wish.pick % 5 == 0 else model.last_nonce + 1
        chain = [
            self._both_signed(model, model.used[nonce], wish)
            for nonce in range(first, model.last_nonce + 1)
            if nonce in model.used
        ]
        balances, nonce = model.balances, model.last_nonce
        for index in range(count):
            nonce += 1
            amount = balances[payer] + 1 if wish.lie == "all" else wish.amount
            moved = amount if payer else -amount
            after = (balances[0] + moved, balances[1] - moved)
            is_about = index == count - 1
            told = wish if is_about else msgspec.structs.replace(wish, lie="")
            skipped = nonce + 1 if is_about and wish.lie in {"ahead", "nonce"} else nonce
            transfer = Transfer(nonce=skipped, payer=payer, amount=amount, balances=after)
            chain.append(self._both_signed(model, transfer, told))
            balances, payer = after, payer if wish.pick % 2 else 1 - payer
        return chain

    def _both_signed(self, model: Model, transfer: Transfer, wish: Wish) -> Json:
        honest = msgspec.structs.replace(wish, lie="")
        return {
            "amount": transfer.amount,
            "nonce": transfer.nonce,
            "from_agent_id": self.ink.ids[transfer.payer],
            "signature_a": self._signature(model, transfer, wish if wish.who == 0 else honest, 0),
            "signature_b": self._signature(model, transfer, wish if wish.who == 1 else honest, 1),
        }


def _balances(transfer: Transfer) -> Json:
    return {"balance_a": max(transfer.balances[0], 0), "balance_b": max(transfer.balances[1], 0)}
