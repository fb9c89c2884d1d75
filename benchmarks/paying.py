"""Payers and payees: channels whose transfers are all signed beforehand, and the sockets that make them.

Nonces and balances follow from one another, so every signature can be made before the round: what is measured is the
server, not the one who asks it.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
from picows import WSFrame, WSMsgType, WSTransport

from benchmarks.load import Client, Script
from benchmarks.servers import Account
from crypto import public_key_of, sign, transfer_message, verify_signature

DEPOSIT = 10**9
AMOUNT = 1
HEAD_BYTES = 128
"""A frame's refs, topic and event are in front of this."""


@dataclass(frozen=True)
class Signed:
    """One transfer, from the opener to the counterparty, with the signatures of both."""

    nonce: int
    message: bytes
    signature_a: str
    signature_b: str


@dataclass
class Channel:
    """One channel between two agents, from which only the opener pays, and the transfers that are signed for it."""

    id: str
    signing_domain: str
    opener: Account
    counterparty: Account
    signed: deque[Signed] = field(default_factory=deque[Signed])
    nonce: int = 0

    @property
    def topic(self) -> str:
        """Its topic."""
        return f"payment:{self.id}"

    def provide(self, count: int) -> None:
        """Sign, until so many transfers are ready."""
        while len(self.signed) < count:
            self.nonce += 1
            paid = AMOUNT * self.nonce
            message = transfer_message(
                signing_domain=self.signing_domain,
                channel_id=self.id,
                nonce=self.nonce,
                payer_agent_id=self.opener.id,
                amount=AMOUNT,
                balance_a=DEPOSIT - paid,
                balance_b=paid,
                task_id=None,
            )
            by_a, by_b = sign(self.opener.seed, message), sign(self.counterparty.seed, message)
            self.signed.append(Signed(self.nonce, message, by_a, by_b))


def open_channels(url: str, opener: Account, counterparty: Account, count: int, *, mode: str) -> list[Channel]:
    """Channels of the two, open, with all their money on the opener's side."""
    with httpx.Client(base_url=f"{url}/api/v1") as rest:
        domain = rest.get("/meta").raise_for_status().json()["data"]["signing_domain"]
        body = {"counterparty_agent_id": counterparty.id, "deposit": DEPOSIT, "mode": mode}
        opened: list[Channel] = []
        for _ in range(count):
            made = rest.post("/payment-channels", json=body, headers={"x-api-key": opener.key}).raise_for_status()
            id_ = made.json()["data"]["id"]
            path, key = f"/payment-channels/{id_}/accept", {"x-api-key": counterparty.key}
            rest.post(path, json={"deposit": 0}, headers=key).raise_for_status()
            opened.append(Channel(id_, domain, opener, counterparty))
        return opened


def check_alone(transfers: list[Signed], opener: Account, counterparty: Account, seconds: float) -> tuple[float, float]:
    """Pairs of signatures that this processor checks per CPU-second, and per second, doing nothing else.

    Args:
        transfers: Whose signatures have not been checked in this process before: the outcomes of those are kept.
        opener: Who has signed first.
        counterparty: Who has signed second.
        seconds: At most so long.
    """
    keys = public_key_of(opener.seed), public_key_of(counterparty.seed)
    checked, cpu, started = 0, time.thread_time(), time.perf_counter()
    for one in transfers:
        verify_signature(public_key=keys[0], message=one.message, signature=one.signature_a)
        verify_signature(public_key=keys[1], message=one.message, signature=one.signature_b)
        checked += 1
        if time.perf_counter() - started > seconds:
            break
    return checked / (time.thread_time() - cpu), checked / (time.perf_counter() - started)


class Payer(Client):
    """The opener's socket on one channel: proposes the next transfer as soon as it hears that one is complete."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(Script(channel.topic, key=channel.opener.key), 1)
        self.channel = channel
        self.payee = Payee(channel, self.stop)
        self.refusal = ""
        """What the server has refused, to one of the two."""
        self.done: list[Signed] = []
        self.transfer_s: list[float] = []
        """From each proposal's sending until it was heard that it is complete."""
        self.is_idle = asyncio.Event()
        self.is_idle.set()
        self.on_spent = asyncio.Event()
        """Nothing is left that is signed: a round ends then, too."""
        self._front = f'["1","2","{channel.topic}","propose_transfer",'
        self._at = 0.0

    def start(self) -> None:
        """Pay from now on, until told to stop."""
        self.is_pushing = True
        self.is_idle.clear()
        self.push()

    def push(self) -> None:
        """Propose the next transfer."""
        if not self.is_pushing or not self.channel.signed:
            self.stop()
            return
        one = self.channel.signed[0]
        self.payee.expect(one)
        payload = f'{{"amount":{AMOUNT},"nonce":{one.nonce},"signature":"{one.signature_a}"}}'
        self._at = time.perf_counter()
        self.transport.send(WSMsgType.TEXT, f"{self._front}{payload}]".encode())

    def stop(self, refusal: str = "") -> None:
        """Nothing is under way any more."""
        self.refusal = self.refusal or refusal
        self.is_pushing = False
        self.on_spent.set()
        self.is_idle.set()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:  # noqa: ARG002 - picows hands it over
        """Note what is complete, and go on."""
        payload = frame.get_payload_as_bytes()
        if not self.joined.done():
            self.joined.set_result(payload)
        elif b'"transfer_complete"' in payload[:HEAD_BYTES]:
            self.transfer_s.append(time.perf_counter() - self._at)
            self.done.append(self.channel.signed.popleft())
            self.push()
        elif b'"status":"error"' in payload[:HEAD_BYTES]:
            self.stop(payload.decode())


class Payee(Client):
    """The counterparty's socket on one channel: acknowledges each transfer as soon as it is proposed."""

    def __init__(self, channel: Channel, on_refused: Callable[[str], None]) -> None:
        super().__init__(Script(channel.topic, key=channel.counterparty.key), 1)
        self.on_refused = on_refused
        self.acknowledged_s: list[float] = []
        """From each acknowledgement's sending until its reply."""
        self._front = f'["1","2","{channel.topic}","acknowledge_transfer",'
        self._frame = b""
        self._at = 0.0

    def expect(self, one: Signed) -> None:
        """Have the answer to the next proposal ready."""
        payload = f'{{"amount":{AMOUNT},"nonce":{one.nonce},"signature":"{one.signature_b}"}}'
        self._frame = f"{self._front}{payload}]".encode()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Acknowledge what is proposed; note how long the reply took."""
        payload = frame.get_payload_as_bytes()
        if not self.joined.done():
            self.joined.set_result(payload)
        elif b'"propose_transfer"' in payload[:HEAD_BYTES]:
            self._at = time.perf_counter()
            transport.send(WSMsgType.TEXT, self._frame)
        elif b'"phx_reply"' in payload[:HEAD_BYTES]:
            self.acknowledged_s.append(time.perf_counter() - self._at)
            if b'"status":"error"' in payload[:HEAD_BYTES]:
                self.on_refused(payload.decode())
