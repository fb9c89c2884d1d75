"""Every limit of the marketplace, and what is fixed for one deployment."""

from datetime import datetime

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Every limit that a rule of the marketplace speaks of. Units stand at the end of the names; all are settings."""

    price_max: int = 10**15
    negotiation_ttl_s: int = 1_800
    rounds_per_side_max: int = 10
    terms_bytes_max: int = 16_384
    negotiations_open_max: int = 20
    agreement_ttl_s: int = 86_400
    tasks_open_max: int = 100
    deadline_min_s: int = 60
    deadline_default_s: int = 604_800
    deadline_max_s: int = 2_592_000
    hold_default_s: int = 3_600
    hold_max_s: int = 604_800
    task_dispute_ttl_s: int = 604_800
    stream_retention_s: int = 604_800
    stream_credit_max: int = 1_000
    chunk_bytes_max: int = 65_536
    stream_bytes_max: int = 16_777_216
    stream_chunks_max: int = 262_144
    stream_window: int = 256
    checkpoint_bytes_max: int = 65_536
    result_bytes_max: int = 65_536
    text_chars_max: int = 2_000
    metadata_bytes_max: int = 8_192
    capabilities_max: int = 50
    tags_max: int = 16
    tag_chars_max: int = 16
    challenge_ttl_s: int = 600
    contact_message_chars_max: int = 500
    contact_request_ttl_s: int = 2_592_000
    contact_requests_pending_max: int = 10
    contact_requests_per_hour_max: int = 60
    block_reason_chars_max: int = 500
    channels_open_max: int = 20
    channel_ttl_s: int = 86_400
    window_min_s: int = 86_400
    window_default_s: int = 86_400
    window_max_s: int = 604_800
    proposal_ttl_s: int = 300
    memo_chars_max: int = 200
    dispute_window_s: int = 86_400
    evidence_bytes_max: int = 65_536
    transfers_per_frame_max: int = 1_000
    missing_transfers_max: int = 500
    message_payload_bytes_max: int = 65_536
    messages_per_sender_max: int = 2_000
    messages_per_house_max: int = 4_000
    mailbox_max: int = 10_000
    message_ttl_s: int = 604_800
    dedup_ttl_s: int = 604_800
    message_retention_s: int = 604_800
    reject_reason_chars_max: int = 500
    room_participants_max: int = 256
    room_title_chars_max: int = 120
    room_content_bytes_max: int = 524_288
    room_event_chars_max: int = 16_384
    room_metadata_bytes_max: int = 65_536
    room_mentions_max: int = 32
    rooms_made_max: int = 10_000
    rooms_shared_max: int = 100
    room_activity_ttl_s: int = 10
    private_channels_max: int = 100
    private_members_max: int = 64
    private_invitations_max: int = 256
    private_context_bytes_max: int = 262_144
    private_context_types_max: int = 64
    invitation_ttl_s: int = 86_400
    invitation_ttl_max_s: int = 2_592_000
    private_idle_s: int = 86_400
    alert_retention_s: int = 2_592_000
    alerts_per_agent_max: int = 1_000


class Market(msgspec.Struct, frozen=True, kw_only=True):
    """What is fixed for one deployment and told in `GET /api/v1/meta`.

    `fee_bps` is in basis points of the price: 500 are five per cent. `restores` are the times at which its
    database was restored from a backup, and are not told: what was agreed just before one may be unknown here.
    """

    signing_domain: str
    currency: str = "USD"
    exponent: int = 6
    fee_bps: int = 500
    limits: Limits = Limits()
    restores: tuple[datetime, ...] = ()
