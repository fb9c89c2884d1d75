"""Who takes part: Alice hires and opens, Bob is hired and answers, Mallory cheats, the platform keeps receipts.

Alice, Bob and the platform hold the secret keys of RFC 8032's first three tests, as in the vectors and in SIGNING.md.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

from crypto import format_public_key, public_key_of

DOMAIN: Final = "market.test"
SESSION_ID: Final = "11111111-1111-4111-8111-111111111111"


@dataclass(frozen=True)
class Role:
    agent_id: str
    secret_key: bytes

    @property
    def public_key(self) -> bytes:
        return public_key_of(self.secret_key)

    @property
    def public_key_text(self) -> str:
        return format_public_key(self.public_key)


ALICE: Final = Role(
    "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa",
    bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"),
)
BOB: Final = Role(
    "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb",
    bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"),
)
PLATFORM: Final = Role(
    "eeeeeeee-eeee-4eee-8eee-eeeeeeeeeeee",
    bytes.fromhex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7"),
)
MALLORY: Final = Role("dddddddd-dddd-4ddd-8ddd-dddddddddddd", hashlib.sha256(b"Mallory").digest())
