"""Feeds: what a join's decision puts between a subscription and its topic."""

from agrenting.mailboxes import MailFeed
from agrenting.replays import Replay
from agrenting.subscriptions import Subscription
from channels.handlers import Follow, FollowChannel, FollowMail
from channels.wire import Vsn


def follow(subscription: Subscription, wanted: Follow | FollowMail | FollowChannel) -> None:
    """From now on give a subscription what its join has asked for."""
    connection = subscription.connection
    hub = connection.hub
    match wanted:
        case Follow():
            subscription.is_binary = wanted.is_binary and connection.vsn is Vsn.V2
            if wanted.replays:
                replay = Replay(subscription, wanted, hub.engine.read, hub.engine.settled)
                subscription.feed = replay
                hub.spawn(replay.run())
        case FollowMail():
            mail = MailFeed(subscription, wanted.agent_id)
            subscription.feed = mail
            hub.spawn(mail.run())
        case FollowChannel():
            subscription.feed = hub.private.seat(subscription, wanted)
