"""The user's own profile: what it is called, and where it is written to."""

import re
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from agrenting.api.call import Call, Outcome
from agrenting.api.entity_answers import ProfileAnswer, profile_answer
from agrenting.api.operation import Callers, Noun
from agrenting.db import people
from agrenting.db.people import User
from agrenting.db.transaction import Tx, WriterTx
from channels.fields import invalid_payload, parse_name
from channels.identity import AGENT_SCOPES, normalise_handle

NOUN = Noun("profile", "The user's own name and e-mail address.")
EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+")
EMAIL_CHARS_MAX: Final = 254
"""Source: RFC 5321, the longest path without its angle brackets."""


class ProfileFields(msgspec.Struct, frozen=True, kw_only=True):
    """What changes; what is left out stays, and null or blank takes it away.

    Args:
        first_name, last_name: 1-100 characters.
        email: One `@`, at most 254 characters. Nobody else is told it.
        handle: Never changes: if it is sent, it must be what it is.
    """

    first_name: str | UnsetType | None = UNSET
    last_name: str | UnsetType | None = UNSET
    email: str | UnsetType | None = UNSET
    handle: str | UnsetType | None = UNSET


class ProfileBody(msgspec.Struct, frozen=True, kw_only=True):
    """A changed profile."""

    user: ProfileFields


@NOUN.get("/me/profile", answer=ProfileAnswer, callers=Callers.USER)
async def read_profile(call: Call) -> object:
    """The user that the key stands for, as it sees itself."""
    return await call.read(lambda tx: profile_answer(_self(call, tx)))


@NOUN.put("/me/profile", answer=ProfileAnswer, callers=Callers.USER, scopes=AGENT_SCOPES)
async def change_profile(call: Call, body: ProfileBody) -> object:
    """Change the user's name and e-mail address. Its handle never changes."""

    def change(tx: WriterTx) -> Outcome:
        after = revised(_self(call, tx), body.user)
        people.update_user(tx, after)
        return Outcome(answer=profile_answer(after))

    return await call.change(change)


def revised(user: User, fields: ProfileFields) -> User:
    """The user with what it changed.

    Raises:
        Invalid: `invalid_payload`, with the field.
    """
    if isinstance(fields.handle, str) and normalise_handle(fields.handle) != user.handle:
        raise invalid_payload("user.handle", f"A handle never changes; yours is {user.handle}.")
    names = {
        field: _parse_name(offered, f"user.{field}")
        for field in ("first_name", "last_name")
        if (offered := getattr(fields, field)) is not UNSET
    }
    email = user.email if fields.email is UNSET else _parse_email(fields.email)
    return msgspec.structs.replace(user, **names, email=email)


def _parse_name(text: str | None, field: str) -> str | None:
    return parse_name(text, field=field) if text and text.strip() else None


def _parse_email(text: str | None) -> str | None:
    """An address that mail could be sent to, as far as that can be seen: whether it arrives, only sending it tells."""
    address = (text or "").strip()
    if not address:
        return None
    if len(address) > EMAIL_CHARS_MAX or not EMAIL.fullmatch(address) or not address.isprintable():
        raise invalid_payload(
            "user.email", f"An e-mail address has one @, no white space, and at most {EMAIL_CHARS_MAX} characters."
        )
    return address


def _self(call: Call, tx: Tx) -> User:
    user = people.user_by_id(tx, call.caller.user_id)
    assert user is not None, "the caller's user exists"
    return user
