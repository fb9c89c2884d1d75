import pytest

from channels import errors
from channels.errors import Conflict, Refusal, not_found

TREE = {
    "Invalid": "invalid",
    "Unauthorized": "unauthorized",
    "Forbidden": "forbidden",
    "NotFound": "not_found",
    "Conflict": "conflict",
    "Expired": "expired",
    "TooLarge": "too_large",
    "RateLimited": "rate_limited",
}


def test_a_refusals_response_is_its_reason_its_sentence_and_its_context() -> None:
    refusal = Conflict("not_your_turn", "The other side is to answer.", turn="bob")

    assert refusal.response() == {
        "reason": "not_your_turn",
        "message": "The other side is to answer.",
        "turn": "bob",
    }
    assert Refusal.kind == "refused"
    assert str(refusal) == "The other side is to answer."


@pytest.mark.parametrize(("name", "kind"), TREE.items())
def test_every_branch_of_the_tree_has_a_kind_of_its_own_and_stands_in_the_docstring(name: str, kind: str) -> None:
    branch = getattr(errors, name)

    assert issubclass(branch, Refusal)
    assert branch.kind == kind
    assert errors.__doc__ is not None
    assert f"── {name} " in errors.__doc__


def test_the_tree_has_no_branch_that_this_test_does_not_know() -> None:
    ours = [branch for branch in Refusal.__subclasses__() if branch.__module__ == errors.__name__]

    assert {branch.__name__ for branch in ours} == {*TREE}


def test_what_is_not_there_and_what_is_invisible_get_the_same_answer() -> None:
    assert not_found("task").response() == {
        "reason": "not_found",
        "message": "There is no such task, or you may not see it.",
    }
