"""Told sessions, and an agent whose answers a test has put there: what the tests of the client's checks stand on."""

import copy
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from agrenting.client import Signer
from agrenting.client.context import AgentContext
from agrenting.client.folder import StateFolder
from agrenting.client.streams import Position
from crypto import canonical_digest, digest, next_digest, session_message
from tests.crypto.bargains import accept, agreement, platform_signs
from tests.crypto.roles import ALICE, DOMAIN, PLATFORM, SESSION_ID, Role

Json = dict[str, Any]
Change = Callable[[Json], object]

OTHER_ID = "99999999-9999-4999-8999-999999999999"


def session_of(amounts: tuple[int, ...] = (600, 1001), *, acceptor: Role | None = ALICE) -> Json:
    """A session that was agreed, as it is told."""
    document = agreement(amounts) if acceptor is None else agreement_accepted(amounts, acceptor)
    fields: Json = copy.deepcopy(document["document"])
    names = ("client_agent_id", "provider_agent_id", "client_public_key", "provider_public_key", "capability")
    return {
        "id": SESSION_ID,
        **{name: fields[name] for name in names},
        "base_max": fields["base_max"],
        "terms": fields["terms"],
        "offers": fields["offers"],
        "session_digest": _session_digest(fields),
        "midpoint": fields["amount"],
        "signing_domain": DOMAIN,
        "status": "agreed",
        "amount": fields["amount"],
        "accepted_by": fields["accepted_by"],
        "accept_signature": fields["accept_signature"],
    }


def agreement_accepted(amounts: tuple[int, ...], acceptor: Role) -> Json:
    """The receipt of an agreement that one side has accepted."""
    receipt = agreement(amounts)
    accept(receipt, acceptor)
    return platform_signs(receipt)


def _session_digest(fields: Json) -> str:
    return digest(
        session_message(
            signing_domain=DOMAIN,
            session_id=SESSION_ID,
            client_agent_id=fields["client_agent_id"],
            provider_agent_id=fields["provider_agent_id"],
            capability=fields["capability"],
            base_max=fields["base_max"],
            terms_digest=canonical_digest(fields["terms"]),
        )
    )


def put(**members: Any) -> Change:
    """Other members."""
    return lambda fields: fields.update(members)


class Desk:
    """An agent's context, with answers that the test has put there."""

    def __init__(self, folder: Path, who: Role = ALICE, domain: str = DOMAIN, platform: Role = PLATFORM) -> None:
        self.folder = StateFolder(folder)
        self.me = SimpleNamespace(id=who.agent_id, public_key=who.public_key_text)
        self.signer = Signer(who.secret_key, DOMAIN)
        self.market = SimpleNamespace(
            signing_domain=domain, platform_public_key=platform.public_key_text, currency="USD", exponent=6
        )
        self.rest = self.connection = self
        self.answer: Any = None

    async def repeat(self, ask: Callable[[], Awaitable[bytes]]) -> bytes:
        """Nothing is ever lost here."""
        return await ask()

    async def file(self, path: str, media_type: str) -> bytes:
        """What was put there."""
        if media_type == "application/jsonl":
            return b"".join(json.dumps(line).encode() + b"\n" for line in self.answer)
        return self.answer if isinstance(self.answer, bytes) else json.dumps(self.answer).encode()

    @property
    def context(self) -> AgentContext:
        """The same, as the client takes it."""
        return cast("AgentContext", self)

    @property
    def kept(self) -> dict[str, bytes]:
        """All that lies in the folder."""
        return {path.name: path.read_bytes() for path in self.folder.path.rglob("*") if path.is_file()}


def position(chunks: tuple[bytes, ...]) -> Position:
    """Behind the last one of some chunks."""
    digest = Position().digest
    for seq, chunk in enumerate(chunks):
        digest = next_digest(digest, seq=seq, chunk=chunk)
    return Position(len(chunks), sum(map(len, chunks)), digest)
