from typing import Any

import pytest

from channels.documents import LEVELS_MAX, is_same_document, require_document
from tests.channels.roles import refused


def nested(levels: int, *, in_objects: bool = False) -> Any:
    """So many arrays or objects inside each other."""
    value: Any = None
    for _ in range(levels):
        value = {"a": value} if in_objects else [value]
    return value


@pytest.mark.parametrize("value", [None, True, 0, 1.5, "text", [], {}, {"a": [1, {"b": None}]}], ids=repr)
def test_any_json_is_taken(value: Any) -> None:
    require_document("result", value, bytes_max=100)


@pytest.mark.parametrize("in_objects", [False, True], ids=["arrays", "objects"])
def test_nesting_up_to_the_limit_is_taken_and_one_level_more_is_refused(*, in_objects: bool) -> None:
    require_document("result", nested(LEVELS_MAX, in_objects=in_objects), bytes_max=10_000)

    deeper = nested(LEVELS_MAX + 1, in_objects=in_objects)
    refusal = refused(require_document, "result", deeper, bytes_max=10_000)

    assert (refusal.kind, refusal.reason, refusal.context) == ("invalid", "invalid_payload", {"field": "result"})


def test_what_nests_far_too_deeply_is_refused_before_anything_is_written() -> None:
    assert refused(require_document, "details", nested(100_000), bytes_max=10).reason == "invalid_payload"


def test_size_is_counted_in_bytes_of_compact_json() -> None:
    require_document("input", ["é", 1], bytes_max=len('["é",1]'.encode()))

    refusal = refused(require_document, "input", ["é", 1], bytes_max=len('["é",1]'.encode()) - 1)

    assert (refusal.kind, refusal.reason, refusal.context) == ("invalid", "invalid_payload", {"field": "input"})


@pytest.mark.parametrize(
    ("a", "b", "is_same"),
    [
        (None, None, True),
        ({"a": 1, "b": [2]}, {"b": [2], "a": 1}, True),
        ([1, 2], [2, 1], False),
        (True, 1, False),
        (1, 1.0, False),
        (0, None, False),
        ({}, [], False),
    ],
)
def test_documents_are_the_same_if_they_say_the_same(a: Any, b: Any, *, is_same: bool) -> None:
    assert is_same_document(a, b) is is_same
