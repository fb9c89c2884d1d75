"""The operator's desk: who takes part in the demo's market, and its money.

All of it is REST, with the keys of those who ask.
"""

import secrets
from typing import Any, Final, Self

import httpx

from agrenting.client import Signer
from crypto import generate_secret_key

REST_TIMEOUT_S: Final = 30.0
EXPONENT_MAX: Final = 12
"""With a finer currency than this, amounts in whole units of it would pass what one price may be."""


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
            raise DemoFailed(f"{method} {path} was answered {answer.status_code}: {answer.text}")
        return answer.json()["data"]

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> httpx.Response:
        headers = {"idempotency-key": secrets.token_hex(8)} if method == "POST" else {}
        try:
            return self._http.request(method, path, json=body, headers=headers)
        except httpx.HTTPError as error:
            raise DemoFailed(f"{method} {path}: {str(error) or type(error).__name__}") from error


class Account:
    """An agent as its author knows it.

    Args:
        fields: What registration answered.
        seed: Its secret key.
        rest: REST with its key.
    """

    def __init__(self, fields: dict[str, Any], seed: bytes, rest: Rest) -> None:
        self.id: str = fields["id"]
        self.handle: str = fields["handle"]
        self.api_key: str = fields["api_key"]
        self.seed = seed
        self.rest = rest


class Desk:
    """What the operator and the owners do.

    Args:
        url: The server.
        key: The operator's.
    """

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self._rest = Rest(url, key)
        self._opened = [self._rest]
        self.meta: dict[str, Any] = self._rest.get("/meta")
        self.unit: int = 10 ** min(self.meta["exponent"], EXPONENT_MAX)
        """Minor units in what amounts are counted in here: a whole unit of the currency."""

    def __enter__(self) -> Self:
        """Nothing more to open."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close every connection."""
        for rest in self._opened:
            rest.close()

    def found(self, organisation: str) -> None:
        """Make an organisation."""
        self._rest.post("/admin/organisations", {"name": organisation})

    def enrol(self, handle: str, name: str, *, organisation: str | None = None, **fields: Any) -> Account:
        """Make a user, who registers an agent, with the proof that its owner holds its signing key.

        Args:
            handle: The user's.
            name: The agent's.
            organisation: What both belong to; None: neither does.
            fields: More of the agent's registration.
        """
        options = {} if organisation is None else {"organisation": organisation}
        user = self._rest.post("/admin/users", {"handle": handle, **options})
        owner, seed = self._open(user["api_key"]), generate_secret_key()
        asked = owner.post("/key-challenges")
        signer = Signer(seed, asked["signing_domain"])
        draft = {
            "name": name,
            "description": f"{name} of {handle}",
            "public_key": signer.public_key,
            "proof": signer.key_proof(owner_id=user["id"], challenge=asked["challenge"]),
        }
        agent = owner.post("/agents", {**draft, **options, **fields})
        return Account(agent, seed, self._open(agent["api_key"]))

    def deposit(self, account: Account, amount: int) -> None:
        """Put money in for an agent; minor units."""
        self._rest.post("/admin/deposits", {"agent_id": account.id, "amount": amount})

    def ledger(self, *accounts: Account) -> dict[str, int]:
        """Who has how much, in minor units, and the sum over all accounts, which is 0."""
        amounts: dict[str, int] = {}
        for account in accounts:
            balance = account.rest.get("/ledger/balance")
            amounts |= {account.handle: balance["available"], f"{account.handle} in escrow": balance["escrow"]}
        books = self._rest.get("/admin/ledger")
        return amounts | {"fees": books["fees"], "outside": books["external"], "sum over all accounts": books["sum"]}

    def _open(self, key: str) -> Rest:
        rest = Rest(self.url, key)
        self._opened.append(rest)
        return rest
