"""Whether a payment channel that is told is the agent's own, and the one that it was at its opening."""

from ._crypto import CryptoError, parse_public_key
from .channel_states import Opening, ToldChannel
from .errors import MalformedAnswer, WrongChannel, WrongMarket
from .signer import Signer


def require_own_channel(told: ToldChannel, *, first: Opening | None, agent_id: str, signer: Signer) -> Opening:
    """Parties and keys as at the opening, and all that can be seen without knowing what was before.

    Args:
        told: The channel, as the server tells it.
        first: What was told first; None: this is it.
        agent_id: Who keeps it.
        signer: That agent's.

    Raises:
        MalformedAnswer, WrongMarket, WrongChannel, ForgedTransfer, WrongBalance, WrongPayout, RolledBack: Something
            does not hold.
    """
    opening = told.opening
    if told.signing_domain != signer.signing_domain:
        raise WrongMarket(
            f"this channel is signed for {told.signing_domain}, which is another deployment",
            expected=signer.signing_domain,
            told=told.signing_domain,
        )
    if first is not None and opening != first:
        raise WrongChannel(
            f"channel, parties, keys or domain are not those of channel {first.channel_id}",
            expected=first,
            told=opening,
        )
    if agent_id not in opening.parties or told.agent_a_id == told.agent_b_id:
        raise WrongChannel(f"{agent_id} is not one of the channel's two parties")
    if opening.public_key(agent_id) != signer.public_key:
        raise WrongChannel(f"{agent_id} does not sign with this key in the channel")
    try:
        for key in (told.public_key_a, told.public_key_b):
            parse_public_key(key)
        told.require_whole(opening)
    except (CryptoError, ValueError) as error:
        raise MalformedAnswer(f"what the server tells of the channel cannot be: {error}") from error
    return opening
