"""What people decide: promote, approve, roll back."""

from collections.abc import Callable

import pytest
from mlflow import MlflowClient
from selfloop.errors import UserError
from selfloop.lineage.decisions import approve, promote, rollback
from selfloop.lineage.registry import Registry

pytestmark = pytest.mark.slow


@pytest.fixture
def waiting(registry: Registry) -> Registry:
    """Version 4 waits for approval beside the champion 3, version 2 did beside 1, version 5 was halted."""
    for number, parent, verdict in ((2, 1, "pending"), (4, 3, "pending"), (5, 3, "halted")):
        registry.tag(number, {"parent": str(parent), "verdict": verdict, "reason": "guard 'length' ..."})
    return registry


def test_a_person_promotes_with_a_reason(registry: Registry) -> None:
    move = promote("adder", "4", "looked at its answers")
    assert (move.version, move.kind, move.reason) == (4, "promote", "looked at its answers")
    assert "@" in move.by
    assert registry.aliases() == {"champion": 4, "previous": 3}


def test_a_rollback_puts_back_what_was_before_or_what_is_named(registry: Registry) -> None:
    promote("adder", "4", "x")
    assert rollback("adder", None, "bad").version == 3
    assert rollback("adder", None, "worse").version == 1
    assert rollback("adder", "4", "after all").version == 4
    assert [move.kind for move in registry.moves()][-3:] == ["rollback"] * 3


def test_approval_takes_what_waits_for_it(waiting: Registry) -> None:
    assert approve("adder", None, "the lengths are right").version == 4
    assert waiting.moves()[-1].kind == "approve"


@pytest.mark.parametrize(
    ("decide", "sentence"),
    [
        (lambda: promote("adder", "5", "x"), "Version 5 of adder was refused"),
        (lambda: promote("adder", "3", "x"), "is the champion already"),
        (lambda: promote("adder", "4", " "), "needs a reason"),
        (lambda: promote("adder", "77", "x"), "has no version 77"),
        (lambda: approve("adder", "1", "x"), "does not wait for approval"),
        (lambda: approve("adder", "2", "x"), "was compared with version 1, but version 3 is in force"),
        (lambda: rollback("adder", "4", "x"), "was never in force"),
        (lambda: rollback("nobody", None, "x"), "There is nothing to roll nobody back to"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_changed(
    waiting: Registry, decide: Callable[[], object], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        decide()
    assert waiting.aliases()["champion"] == 3
    assert len(waiting.moves()) == 2


def test_a_version_that_no_loop_made_is_refused(registry: Registry, client: MlflowClient) -> None:
    theirs = client.create_model_version("adder", source="s3://theirs/1").version
    with pytest.raises(UserError, match=f"Version {theirs} of adder holds no state of a loop"):
        promote("adder", str(theirs), "x")
    assert registry.aliases()["champion"] == 3


def test_nothing_waits_for_approval(registry: Registry) -> None:
    with pytest.raises(UserError, match="No version of adder waits"):
        approve("adder", None, "x")


def test_a_missing_alias_is_named(client: MlflowClient, registry: Registry) -> None:
    client.delete_registered_model_alias("adder", "previous")
    with pytest.raises(UserError, match="has no alias 'previous': it has champion"):
        promote("adder", "previous", "x")
