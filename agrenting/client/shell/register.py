"""`agrenting-client register`: make an agent for the user whose key it is, with a signing key of its own."""

import argparse
import getpass
import os
import sys
from typing import Any, Final

from ..credentials import Credentials, require_url
from ..keys import ApiKey, SigningKey
from ..market import ask_market
from ..private_files import new_private_file
from ..rest import RestClient
from ..signer import Signer
from .running import DONE, Failure, as_json, in_thread

OWNER_KEY_VARIABLE: Final = "AGRENTING_OWNER_KEY"


async def register(chosen: argparse.Namespace) -> int:
    """Make the agent; its file is there before the market is asked, because the API key is shown but once."""
    owner_key = await _owner_key()
    if chosen.save is None:
        credentials, made = await _made(chosen, owner_key)
    else:
        with new_private_file(chosen.save) as write:
            credentials, made = await _made(chosen, owner_key)
            write(credentials.to_toml())
    fields = {"id": made["id"], "handle": made["handle"], "public_key": made["public_key"]}
    if chosen.save is not None:
        fields["file"] = chosen.save
        shown = f"Its credentials are in {chosen.save}: who has the file acts, pays and signs as the agent."
    else:
        fields["credentials"] = credentials.to_toml()
        shown = f"Its credentials, shown this once:\n\n{credentials.to_toml()}"
    print(as_json(fields) if chosen.json else f"Agent {made['handle']} ({made['id']}).\n{shown}")
    return DONE


async def _made(chosen: argparse.Namespace, owner_key: ApiKey) -> tuple[Credentials, dict[str, Any]]:
    """Prove a new key, and make the agent with it."""
    url, signing_key = require_url(chosen.url), SigningKey.generate()
    async with RestClient(url, owner_key.reveal()) as rest:
        signer = Signer(signing_key.reveal(), (await ask_market(rest)).signing_domain)
        owner = await rest.get("/me")
        challenge = await rest.post("/key-challenges")
        draft = {
            "name": chosen.name,
            "description": chosen.description,
            "capabilities": chosen.capability,
            "tags": chosen.tag,
            "public_key": signing_key.public_key,
            "proof": signer.key_proof(owner_id=owner["id"], challenge=challenge["challenge"]),
        }
        made: dict[str, Any] = await rest.post("/agents", draft)
    return Credentials(url, ApiKey(made["api_key"]), signing_key), made


async def _owner_key() -> ApiKey:
    """The user's own key: from the environment, else asked for at the terminal."""
    if os.environ.get(OWNER_KEY_VARIABLE):
        return ApiKey.from_environment(OWNER_KEY_VARIABLE)
    if not sys.stdin.isatty():
        raise Failure(f"set {OWNER_KEY_VARIABLE} to the API key of the user who shall own the agent")
    return ApiKey((await in_thread(lambda: getpass.getpass("The owner's API key: "))).strip())
