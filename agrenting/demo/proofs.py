"""What the demo's agents keep as proof, and that it verifies offline, with public keys alone."""

import argparse
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from agrenting.config import Settings
from agrenting.demo.agent import Receipt
from agrenting.demo.desk import DemoFailed
from agrenting.verifying import ROLES, verify

PARTIES: Final = 2
"""How many keep proofs of the same thing."""


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """Something that both parties are to have proofs of.

    Args:
        of: Its id.
        proves: What the two have, for people.
        keys: The public keys that it has to be signed with, in base64, by who has which part in it.
    """

    of: str
    proves: str
    keys: Mapping[str, str]


class Proofs:
    """The proofs that were kept, and those that are still to be verified.

    Args:
        tell: Told of what verifies.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._expected: list[Expected] = []
        self._kept: dict[str, list[Receipt]] = {}

    @property
    def are_missing(self) -> bool:
        """Whether something was not verified yet."""
        return bool(self._expected)

    def expect(self, expected: Expected) -> None:
        """Both parties will keep proofs of something."""
        self._expected.append(expected)

    def keep(self, receipt: Receipt) -> None:
        """One party has kept what proves something."""
        self._kept.setdefault(receipt.of, []).append(receipt)

    def verify(self) -> None:
        """Verify what both parties have proofs of by now, by what `agrenting verify` does.

        Raises:
            DemoFailed: Something does not verify.
        """
        for expected in [one for one in self._expected if len(self._kept.get(one.of, ())) == PARTIES]:
            kept = self._kept.pop(expected.of)
            streams: dict[str, str | None] = {"input": None, "output": None}
            for receipt in kept:
                streams = {name: getattr(receipt, name) or path for name, path in streams.items()}
            files = [path for receipt in kept for path in receipt.paths]
            keys = {f"{role}_key": expected.keys.get(role) for role in ROLES}
            verified = verify(argparse.Namespace(files=files, chunk_bytes=None, **streams, **keys), Settings())
            if verified.exit_code:
                raise DemoFailed(f"{expected.proves} do not verify: {verified.text}")
            self._expected.remove(expected)
            beside = ", against the files of input and output" if any(streams.values()) else ""
            self._tell(f"{expected.proves} verify offline, with public keys alone{beside} (agrenting verify)")
