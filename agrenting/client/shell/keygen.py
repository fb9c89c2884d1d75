"""`agrenting-client keygen`: make a signing key."""

import argparse

from .._crypto import format_secret_key
from ..keys import SigningKey
from .running import DONE, as_json


async def keygen(chosen: argparse.Namespace) -> int:
    """Make a key, and show it, or keep it in a file."""
    key = SigningKey.generate()
    fields = {"public_key": key.public_key, "did": key.did}
    if chosen.save is None:
        fields = {"secret_key": format_secret_key(key.reveal()), **fields}
        note = "Keep the secret key to yourself: who has it signs as the agent."
    else:
        key.save(chosen.save)
        fields["file"] = chosen.save
        note = "Who has the file signs as the agent."
    lines = "\n".join(f"{name:<11} {value}" for name, value in fields.items())
    print(as_json(fields) if chosen.json else f"{lines}\n\n{note}")
    return DONE
