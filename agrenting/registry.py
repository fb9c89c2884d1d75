"""Making organisations, users and agents, and moving money in and out: the same for REST and the command line."""

from datetime import datetime

from agrenting import auth
from agrenting.db import agents, contacts, ledger, people
from agrenting.db.people import Organisation, User
from agrenting.db.transaction import Tx, WriterTx
from agrenting.ids import new_id
from agrenting.membership import befriend, befriend_members, house_context
from channels import ledger as books
from channels.agents import Agent
from channels.contact_book import Origin
from channels.errors import Conflict, Forbidden, Invalid, not_found
from channels.identity import Identity, normalise_handle, numbered_slug, parse_user_handle, slug_from_name
from channels.limits import Market
from channels.registration import AgentDraft, parse_name, register
from channels.told import Told

SLUG_TRIES = 100


def create_organisation(tx: WriterTx, name: str, *, now: datetime) -> Organisation:
    """Make an organisation.

    Raises:
        Invalid: `invalid_payload`: the name is blank or too long.
        Conflict: `name_taken`.
    """
    organisation = Organisation(id=new_id(), name=parse_name(name, field="name"), created_at=now)
    people.insert_organisation(tx, organisation)
    return organisation


def create_user(
    tx: WriterTx, handle: str, *, organisation: str | None, is_operator: bool, now: datetime, market: Market
) -> tuple[User, str, tuple[Told, ...]]:
    """Make a user and its first key.

    Args:
        handle: With or without `@`.
        organisation: The name of an organisation that there is; None for none.

    Returns:
        The user, the key: shown once, and what is told: the members of the organisation are its contacts.

    Raises:
        Invalid: `invalid_handle`, `reserved_handle`, `profane_handle`.
        Conflict: `handle_taken`.
        NotFound: `not_found`: no such organisation.
    """
    organisation_id = None if organisation is None else require_organisation(tx, organisation).id
    others = [] if organisation_id is None else people.members(tx, organisation_id)
    user = User(
        id=new_id(),
        handle=parse_user_handle(handle),
        organisation_id=organisation_id,
        is_operator=is_operator,
        created_at=now,
    )
    people.insert_user(tx, user)
    secret, _ = auth.make_key(
        tx,
        user_id=user.id,
        agent_id=None,
        parent_id=None,
        name="first key",
        scopes=None,
        is_operator=is_operator,
        now=now,
    )
    return user, secret, befriend_members(tx, user, others, house_context(now=now, market=market))


def create_agent(
    tx: WriterTx,
    owner: User,
    draft: AgentDraft,
    *,
    organisation: str | None,
    by_operator: bool,
    maker: Identity | None,
    now: datetime,
    market: Market,
) -> tuple[Agent, str, tuple[Told, ...]]:
    """Make an agent of `owner` and its key. The proof that the owner holds the public key is checked by who calls.

    Args:
        organisation: The name of the owner's organisation, to share the agent with; None for a personal agent.
        maker: Who asks by a key: the agent's key gets no more scopes and no higher caps than that, and its spending
            counts against it too. None for the command line on the data folder.

    Returns:
        The agent, its key: shown once, and what is told: it and its owner are contacts.

    Raises:
        Invalid, Forbidden, Conflict: What `register` refuses, `handle_taken`, `public_key_taken`.
        Forbidden: `not_a_member`: the owner is not of that organisation.
    """
    organisation_id = None
    if organisation is not None:
        organisation_id = require_organisation(tx, organisation).id
        if organisation_id != owner.organisation_id and not by_operator:
            raise Forbidden("not_a_member", "The owner is not of that organisation.")
    agent = register(
        draft,
        agent_id=new_id(),
        owner_id=owner.id,
        handle=free_handle(tx, owner, draft.name),
        organisation_id=organisation_id,
        owner_organisation_id=owner.organisation_id,
        by_operator=by_operator,
        now=now,
        market=market,
    )
    agents.insert(tx, agent)
    maker_key = people.key_by_id(tx, maker.key_id) if maker is not None else None
    secret, _ = auth.make_key(
        tx,
        user_id=owner.id,
        agent_id=agent.id,
        parent_id=None if maker_key is None else maker_key.id,
        name=agent.handle,
        scopes=None if maker is None else maker.scopes - {"admin"},
        is_operator=False,
        now=now,
        max_amount=None if maker_key is None else maker_key.max_amount,
        max_amount_per_day=None if maker_key is None else maker_key.max_amount_per_day,
    )
    context = house_context(now=now, market=market)
    told = befriend(tx, contacts.of_user(owner), contacts.of_agent(agent), Origin.OWNER, context)
    return agent, secret, told


def free_handle(tx: Tx, owner: User, name: str) -> str:
    """`owner/slug` from an agent's name, with a number behind it where the owner has that one already.

    Raises:
        Invalid: `invalid_handle`, `reserved_handle`, `profane_handle`.
        Conflict: `handle_taken`, after a hundred tries.
    """
    slug = slug_from_name(name)
    for number in range(1, SLUG_TRIES + 1):
        handle = f"{owner.handle}/{slug if number == 1 else numbered_slug(slug, number)}"
        if agents.by_handle(tx, handle) is None:
            return handle
    raise Conflict("handle_taken", "This owner has too many agents of that name; choose another one.")


def require_organisation(tx: Tx, name: str) -> Organisation:
    """The organisation of a name.

    Raises:
        NotFound: `not_found`.
    """
    organisation = people.organisation_by_name(tx, name)
    if organisation is None:
        raise not_found("organisation")
    return organisation


def require_user(tx: Tx, handle: str) -> User:
    """The user of a handle, with or without `@`.

    Raises:
        NotFound: `not_found`.
    """
    user = people.user_by_handle(tx, normalise_handle(handle))
    if user is None:
        raise not_found("user")
    return user


def require_agent(tx: Tx, handle: str) -> Agent:
    """The agent of a handle, with or without `@`.

    Raises:
        NotFound: `not_found`.
    """
    agent = agents.by_handle(tx, normalise_handle(handle))
    if agent is None:
        raise not_found("agent")
    return agent


def deposit(tx: WriterTx, agent: Agent, amount: int, *, memo: str, now: datetime) -> int:
    """Put money in for an agent; what it has available then, in minor units.

    Raises:
        Invalid: `invalid_amount`: less than 1.
        Conflict: `money_limit`.
    """
    ledger.post(tx, books.deposit(agent_id=agent.id, amount=require_positive(amount), memo=memo), now=now)
    return ledger.balance(tx, books.available(agent.id))


def payout(tx: WriterTx, agent: Agent, amount: int, *, memo: str, now: datetime) -> int:
    """Take money out for an agent; what it has available then, in minor units.

    Raises:
        Invalid: `invalid_amount`: less than 1.
        Conflict: `insufficient_balance`.
    """
    ledger.post(tx, books.payout(agent_id=agent.id, amount=require_positive(amount), memo=memo), now=now)
    return ledger.balance(tx, books.available(agent.id))


def require_positive(amount: int) -> int:
    """An amount of at least one minor unit.

    Raises:
        Invalid: `invalid_amount`.
    """
    if amount < 1:
        raise Invalid("invalid_amount", "The amount must be at least 1 minor unit.", field="amount")
    return amount
