"""When money of a task moves, in words: for every move and every state of a task, what comes of it.

These are the rules as they are written for people. test_task_timing.py holds the marketplace against them.
"""

from typing import Final

Rules = dict[str, dict[str, str]]

DUE: Final = ("task_deadline", "task_hold", "task_decision")
"""The timers that end something: a task, a hold, a dispute."""

UNSTARTED = "pending"
STARTED = "started emptied"
"""In progress without output; `emptied`: its output stream was closed without a chunk."""
OUTPUT = "gapped chunks"
"""Output was stored, without its beginning or with it, and is not closed."""
HELD = "held;output held;result"
DISPUTED = "disputed;gapped disputed;chunks disputed;output disputed;result"
SETTLED = "settled;client settled;provider settled;split settled;default"
"""`settled;client`: as an operator or the rules have decided; `settled;default`: for the provider, by the clock."""
ENDED = f"cancelled failed paid {SETTLED}"
RUNNING = f"{UNSTARTED} {STARTED} {OUTPUT} verified"

SHOWN: Final[dict[str, tuple[str, str]]] = {
    "pending": ("pending", "held"),
    **dict.fromkeys(f"{STARTED} {OUTPUT} verified".split(), ("in_progress", "held")),
    **dict.fromkeys(HELD.split(), ("completed", "held")),
    **dict.fromkeys(DISPUTED.split(), ("disputed", "held")),
    "paid": ("completed", "released"),
    "cancelled": ("cancelled", "refunded"),
    "failed": ("failed", "refunded"),
    "settled;client": ("failed", "refunded"),
    "settled;provider": ("completed", "released"),
    "settled;default": ("completed", "released"),
    "settled;split": ("completed", "split"),
}
"""Status and escrow of each state."""

SILENCE: Final[dict[str, str]] = {
    **dict.fromkeys(f"{UNSTARTED} {STARTED} {OUTPUT}".split(), "failed"),
    "verified": "held;output",
    **dict.fromkeys(HELD.split(), "paid"),
    **dict.fromkeys(["disputed;gapped", "disputed;chunks"], "settled;client"),
    **dict.fromkeys(["disputed;output", "disputed;result"], "settled;default"),
}
"""Where the next timer leads: the deadline, the end of the hold, the day of the decision."""

RULES: Final[Rules] = {
    "client cancels": {
        f"{UNSTARTED} {STARTED}": "-> cancelled",
        f"{OUTPUT} verified": "output_delivered",
        DISPUTED: "escrow_locked",
        f"{HELD} {ENDED}": "terminal_state",
    },
    "provider cancels": {
        RUNNING: "-> cancelled",
        DISPUTED: "escrow_locked",
        f"{HELD} {ENDED}": "terminal_state",
    },
    "error": {RUNNING: "-> failed", DISPUTED: "escrow_locked", f"{HELD} {ENDED}": "terminal_state"},
    "complete with a result": {
        f"{UNSTARTED} {STARTED}": "-> held;result",
        OUTPUT: "stream_incomplete",
        "verified": "-> held;output",
        DISPUTED: "escrow_locked",
        f"{HELD} {ENDED}": "terminal_state",
    },
    "complete without a result": {
        f"{UNSTARTED} {STARTED}": "nothing_delivered",
        OUTPUT: "stream_incomplete",
        "verified": "-> held;output",
        DISPUTED: "escrow_locked",
        f"{HELD} {ENDED}": "terminal_state duplicate",
    },
    "release": {
        RUNNING: "not_completed",
        HELD: "-> paid",
        DISPUTED: "escrow_locked",
        "paid settled;provider settled;default": "duplicate",
        "cancelled failed settled;client settled;split": "not_held",
    },
    "dispute": {
        UNSTARTED: "not_started",
        STARTED: "-> settled;client",
        "gapped": "-> disputed;gapped",
        "chunks": "-> disputed;chunks",
        "verified held;output": "-> disputed;output",
        "held;result": "-> disputed;result",
        f"{DISPUTED} {SETTLED}": "dispute_used",
        "cancelled failed paid": "terminal_state dispute_used",
    },
    "progress": {
        UNSTARTED: "-> started",
        f"{STARTED} {OUTPUT} verified": "",
        DISPUTED: "escrow_locked",
        f"{HELD} {ENDED}": "terminal_state",
    },
    "chunk": {
        "pending started gapped chunks": "-> chunks",
        "disputed;gapped disputed;chunks": "-> disputed;chunks",
        "emptied verified disputed;output": "stream_closed",
        "disputed;result": "* stream_closed",
        f"{HELD} {ENDED}": "terminal_state",
    },
    "close": {
        "pending started": "-> emptied",
        "gapped disputed;gapped": "missing_chunks",
        "chunks": "-> verified",
        "disputed;chunks": "-> disputed;output",
        "emptied verified disputed;output": "duplicate",
        "disputed;result": "* duplicate",
        f"{HELD} {ENDED}": "terminal_state duplicate",
    },
    **{
        f"operator decides {decision}": {
            DISPUTED: f"-> settled;{decision}",
            SETTLED: "terminal_state",
            f"{RUNNING} {HELD} cancelled failed paid": "not_disputed",
        }
        for decision in ("client", "provider", "split")
    },
    "client blocks": {UNSTARTED: "-> cancelled", f"{STARTED} {OUTPUT} verified {HELD} {DISPUTED} {ENDED}": "*"},
    "provider blocks": {UNSTARTED: "-> cancelled", f"{STARTED} {OUTPUT} verified {HELD} {DISPUTED} {ENDED}": "*"},
    "client is banned": {
        f"{UNSTARTED} {STARTED} {OUTPUT}": "-> cancelled",
        "verified": "-> disputed;output",
        f"{HELD} {DISPUTED} {ENDED}": "*",
    },
    "provider is banned": {
        f"{UNSTARTED} {STARTED} {OUTPUT}": "-> cancelled",
        "verified held;output": "-> disputed;output",
        "held;result": "-> disputed;result",
        f"{DISPUTED} {ENDED}": "*",
    },
}
"""Move → states → what comes of it.

`-> state`; or the reason that it is refused for, where nothing changes; `duplicate` is an answer that changes nothing
either; of several one; `*` stands for an effect that changes neither the state nor where the money is.
"""

LATE: Final[Rules] = {
    **{move: {RUNNING: "expired"} for move in ("client cancels", "provider cancels", "error", "progress")},
    **{move: {RUNNING: "expired"} for move in ("complete with a result", "complete without a result")},
    "dispute": {f"{STARTED} {OUTPUT} verified {HELD}": "expired"},
    "chunk": {RUNNING: "expired", DISPUTED: "expired stream_closed"},
    "close": {RUNNING: "expired duplicate", DISPUTED: "expired duplicate"},
    **{f"operator decides {decision}": {DISPUTED: "expired"} for decision in ("client", "provider", "split")},
    **{f"{who} blocks": {UNSTARTED: "-> failed"} for who in ("client", "provider")},
    **{
        f"{who} is banned": {
            f"{UNSTARTED} {STARTED} {OUTPUT}": "-> failed",
            "verified": "-> held;output",
            HELD: "-> paid",
        }
        for who in ("client", "provider")
    },
}
"""The same where a timer is due that has not run yet; where it says nothing, RULES hold."""

FREE: Final[Rules] = {
    "client cancels": {RUNNING: "-> cancelled"},
    "release": {"cancelled failed paid": "not_held"},
    "dispute": {f"{STARTED} {OUTPUT} verified": "not_held"},
    "client is banned": {"verified": "-> cancelled"},
    "provider is banned": {"verified": "-> cancelled"},
}
"""The same where the task costs nothing, so that nothing is held."""

FREE_AND_LATE: Final[Rules] = {
    **{
        move: {RUNNING: "expired"} for move in ("client cancels", "complete with a result", "complete without a result")
    },
    "dispute": FREE["dispute"],
}
"""Both."""

POINTS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "before the start": ("pending", ()),
    "before the start, with input": ("pending", ("input",)),
    "after progress": ("started", ("progress",)),
    "after an empty output": ("emptied", ("close",)),
    "after a chunk ahead of a gap": ("gapped", ("gap",)),
    "after 1 chunk of 3": ("chunks", ("chunk",)),
    "after 2 chunks of 3": ("chunks", ("chunk", "chunk")),
    "after 3 chunks of 3": ("chunks", ("chunk", "chunk", "chunk")),
    "after verified output": ("verified", ("chunk", "chunk", "close")),
    "after completion, held": ("held;output", ("chunk", "close", "complete without a result")),
    "after completion with a result alone, held": ("held;result", ("complete with a result",)),
    "after the deadline with verified output": ("held;output", ("chunk", "close", "due")),
    "after release": ("paid", ("complete with a result", "release")),
    "after the hold": ("paid", ("chunk", "close", "complete with a result", "due")),
    "after an end without work": ("failed", ("progress", "due")),
    "disputed in the middle": ("disputed;chunks", ("chunk", "dispute")),
    "disputed after completion": ("disputed;output", ("chunk", "close", "complete with a result", "dispute")),
    "disputed with a result alone": ("disputed;result", ("complete with a result", "dispute")),
    "taken back by a dispute": ("settled;client", ("progress", "dispute")),
}
"""Points of a task's life: the state, and how it came about."""

CLOCK = ("almost due", "due", "late")
"""Nearly the time of the next timer; that time; and the same with a timer that does not run yet."""
