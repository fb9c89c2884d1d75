"""The operator's desk: who takes part in the demo's market, and its money.

All of it is REST, with the keys of those who ask.
"""

import secrets
from typing import Any, Final, Self

import httpx

from agrenting.client import Signer
from agrenting.demo.show import major
from crypto import generate_secret_key

REST_TIMEOUT_S: Final = 30.0
EXPONENT_MAX: Final = 12
"""With a finer currency than this, amounts in whole units of it would pass what one price may be."""

LOOK_UPS: Final = 4
"""How many words are looked up, one by one, for one whole unit of the currency."""

STREAMED_WORDS: Final = 20
"""How many are in one stream."""


class DemoFailed(Exception):
    """The story did not come to its end; the sentence says where it broke."""


class Rest:
    """REST with one key; what is refused, or does not answer, ends the demo."""

    def __init__(self, url: str, key: str) -> None:
        self._http = httpx.Client(
            base_url=f"{url}/api/v1",
            headers={"x-api-key": key},
            timeout=REST_TIMEOUT_S,
            trust_env=False,  # The server is on this machine: no proxy stands between.
        )

    def get(self, path: str) -> Any:
        """Read; the answer's `data`."""
        return self._data("GET", path)

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Create or do, once; the answer's `data`."""
        return self._data("POST", path, body)

    def post_unless(self, code: str, path: str, body: dict[str, Any]) -> None:
        """Do something, unless it is refused with this code."""
        answer = self._ask("POST", path, body)
        if not answer.is_success and answer.json()["error"]["code"] != code:
            raise _failed("POST", path, answer)

    def refusal(self, path: str, body: dict[str, Any]) -> str:
        """Try what has to be refused; the code of the refusal.

        Raises:
            DemoFailed: It was not refused.
        """
        answer = self._ask("POST", path, body)
        if answer.is_success:
            raise DemoFailed(f"POST {path} should have been refused")
        return str(answer.json()["error"]["code"])

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _data(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = self._ask(method, path, body)
        if not answer.is_success:
            raise _failed(method, path, answer)
        return answer.json()["data"]

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> httpx.Response:
        headers = {"idempotency-key": secrets.token_hex(8)} if method == "POST" else {}
        try:
            return self._http.request(method, path, json=body, headers=headers)
        except httpx.HTTPError as error:
            raise DemoFailed(f"{method} {path}: {str(error) or type(error).__name__}") from error


def _failed(method: str, path: str, answer: httpx.Response) -> DemoFailed:
    return DemoFailed(f"{method} {path} was answered {answer.status_code}: {answer.text}")


class Owner:
    """A user, who answers whoever asks one of its agents for contact.

    Args:
        fields: What its making answered.
        rest: REST with its key.
    """

    def __init__(self, fields: dict[str, Any], rest: Rest) -> None:
        self.id: str = fields["id"]
        self.handle: str = fields["handle"]
        self.api_key: str = fields["api_key"]
        self.rest = rest

    def request(self, request_id: str) -> dict[str, Any]:
        """A pending request to one of its agents.

        Raises:
            DemoFailed: There is none of that id.
        """
        pending: list[dict[str, Any]] = self.rest.get("/me/contacts/requests?whose=agents")
        found = [request for request in pending if request["id"] == request_id]
        if not found:
            raise DemoFailed(f"{self.handle} does not see the contact request that its agent has left to it")
        return found[0]

    def approve(self, request_id: str, *, kinds: tuple[str, ...], max_price: int) -> None:
        """Approve a request, for sessions of these kinds, up to a price in minor units, unless it has been answered.

        Whoever is logged in at the page as this owner may have been quicker: their answer holds.
        """
        scope = {"kinds": kinds, "max_price": max_price}
        self.rest.post_unless("request_resolved", f"/me/contacts/requests/{request_id}/approve", {"scope": scope})

    def reject(self, request_id: str) -> None:
        """Reject a request."""
        self.rest.post(f"/me/contacts/requests/{request_id}/reject")


class Account:
    """An agent as its author knows it.

    Args:
        fields: What registration answered.
        seed: Its secret key.
        rest: REST with its key.
        owner: Whose it is.
    """

    def __init__(self, fields: dict[str, Any], seed: bytes, rest: Rest, owner: Owner) -> None:
        self.id: str = fields["id"]
        self.handle: str = fields["handle"]
        self.api_key: str = fields["api_key"]
        self.seed = seed
        self.rest = rest
        self.owner = owner


class Desk:
    """What the operator and the owners do.

    Args:
        url: The server.
        key: The operator's.
    """

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self.key = key
        self._rest = Rest(url, key)
        self._opened = [self._rest]
        self.meta: dict[str, Any] = self._rest.get("/meta")
        self.unit: int = 10 ** min(self.meta["exponent"], EXPONENT_MAX)
        """Minor units in what amounts are counted in here: a whole unit of the currency."""
        self.look_up_price = max(1, self.unit // LOOK_UPS)  # Rounds down, and is never nothing.
        """What a word costs by itself, in minor units."""
        self.word_price = max(1, self.unit // STREAMED_WORDS)  # Likewise.
        """What it costs in a stream of them."""

    def __enter__(self) -> Self:
        """Nothing more to open."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close every connection."""
        for rest in self._opened:
            rest.close()

    def enrol(self, handle: str, name: str, **fields: Any) -> Account:
        """Make a user, who registers an agent.

        Args:
            handle: The user's.
            name: The agent's.
            fields: More of the agent's registration.
        """
        return self.register(self.welcome(handle), name, **fields)

    def welcome(self, handle: str) -> Owner:
        """Make a user."""
        user = self._rest.post("/admin/users", {"handle": handle})
        return Owner(user, self._open(user["api_key"]))

    def register(self, owner: Owner, name: str, **fields: Any) -> Account:
        """Register a user's agent, with the proof that its owner holds its signing key.

        Args:
            owner: Whose it is.
            name: The agent's.
            fields: More of its registration.
        """
        seed, asked = generate_secret_key(), owner.rest.post("/key-challenges")
        signer = Signer(seed, asked["signing_domain"])
        draft = {
            "name": name,
            "description": f"{name} of {owner.handle}",
            "public_key": signer.public_key,
            "proof": signer.key_proof(owner_id=owner.id, challenge=asked["challenge"]),
        }
        agent = owner.rest.post("/agents", {**draft, **fields})
        return Account(agent, seed, self._open(agent["api_key"]), owner)

    def money(self, amount: int) -> str:
        """An amount of minor units for people."""
        return major(amount, currency=self.meta["currency"], exponent=self.meta["exponent"])

    def deposit(self, account: Account, amount: int) -> None:
        """Put money in for an agent; minor units."""
        self._rest.post("/admin/deposits", {"agent_id": account.id, "amount": amount})

    def ledger(self, *accounts: Account) -> dict[str, int]:
        """Where all money is, in minor units: with these agents, held, or gone; and the sum over all accounts: 0."""
        amounts = {account.handle: account.rest.get("/ledger/balance")["available"] for account in accounts}
        books = self._rest.get("/admin/ledger")
        named = {"held in tasks": "escrow", "locked in channels": "channels", "fees": "fees", "outside": "external"}
        places = {name: books[place] for name, place in named.items()}
        return amounts | places | {"sum over all accounts": books["sum"]}

    def _open(self, key: str) -> Rest:
        rest = Rest(self.url, key)
        self._opened.append(rest)
        return rest
