"""Channels decides it: every rule of the marketplace as pure functions, and the wire as data.

    topic       what is joined and spoken on: "agents:discovery", "negotiation:{session_id}"
    event       what is said on a topic, by name
    payload     what is said with it: an object
    ref         numbers a client's message, so that its reply can be told from others
    join_ref    numbers a join: what is said under an earlier one is stale
    push        a message to or from one socket
    reply       the answer to a push or a join: status and response
    broadcast   one message to all who have joined a topic

A topic module has an access rule, a join and handlers (handlers.py); PROTOCOL.md lists every event of ours.
"""
