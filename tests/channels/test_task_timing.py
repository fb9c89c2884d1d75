"""Neither side gains by timing: whatever is done at whatever point of a task's life, the money ends where it should.

`RULES` and `SILENCE` are the rules as they are written for people, in words: for every state of a task and every move,
the refusal or the state that it leads to, and where silence ends. The test goes through all moves at every point, and
through all pairs of them in either order, also with timers that are late, and after each lets time pass without end:
no money stays, no timer waits.
"""

import itertools
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from fractions import Fraction
from functools import partial
from typing import Any, Final, NamedTuple

import pytest

from channels.agents import Capability
from channels.ending import ban_task
from channels.errors import Refusal
from channels.handlers import Access, Handler
from channels.ledger import EXTERNAL, FEES, escrow, fee_of
from channels.task_disputes import DecideTask, decide_task
from tests.channels.roles import ALICE, BOB, Player, refused
from tests.channels.stream_play import twin_of
from tests.channels.test_payment_told import OLGA_PLACEHOLDER
