"""What a run comes to on a cluster, held to what a real one told: Kubernetes 1.34.4, Argo 4.0.5, KFP 2.17.0."""

from typing import Any, NamedTuple

import pytest
from selfloop.modes import argo, pods
from selfloop.modes.argo import MEASURED, cost, nodes_of, state_of, workflow_of

from .measured import AGENT0, FUSED, LENGTH_GENERALIZATION, PLAYERS, STATE, pipeline

UNFUSED = ("length-generalization", LENGTH_GENERALIZATION, STATE)


class Told(NamedTuple):
    """What was measured; none is what was not."""

    workflow: int | None
    nodes: int
    state: int
    compressed: int | None


TOLD: dict[tuple[str, str, str, int], Told] = {
    (*UNFUSED, 3): Told(183_082, 206, 2_917_871, 313_522),
    ("length-generalization", FUSED, STATE, 2): Told(51_000, 34, 408_292, 38_000),
    ("agent0", AGENT0, PLAYERS, 1): Told(None, 108, 1_490_000, 176_000),
}


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages note on an artifact what they noted when this was measured: its whole digest, and figures."""
    monkeypatch.setattr(argo, "MEASURED", MEASURED._replace(said=192))


def near(measured: int) -> Any:
    return pytest.approx(measured, rel=0.2)


@pytest.mark.usefixtures("noted")
@pytest.mark.parametrize(("of", "told"), TOLD.items(), ids=["three rounds", "two fused rounds", "a round of agent0"])
def test_a_run_comes_to_what_a_real_cluster_told(of: tuple[Any, ...], told: Told) -> None:
    found = cost(*pipeline(*of))
    assert found.nodes == told.nodes
    for size, measured in zip(found, told, strict=True):
        assert measured is None or size == near(measured)


@pytest.mark.parametrize(("rounds", "told"), [(1, 110_000), (25, 950_000), (40, 1_484_496)])
def test_each_round_that_is_planned_stands_in_the_workflow(rounds: int, told: int) -> None:
    """Of 25 rounds the state of the first no longer found room; 40 were refused in the second in which they began."""
    assert workflow_of(*pipeline(*UNFUSED, rounds)) == near(told)


@pytest.mark.usefixtures("noted")
def test_a_run_that_died_in_its_last_driver_comes_to_what_it_came_to() -> None:
    last = "promote-length-generalization"
    nodes = nodes_of(*pipeline(*UNFUSED, 1))
    executor = [node for node in nodes if f".{last}" in node["name"] and f"{last}-driver" not in node["name"]]
    for node in nodes:
        if f"{last}-driver" in node["name"]:
            node["outputs"] = {}
    omitted = {"id": executor[0]["id"], "type": "Skipped", "phase": "Omitted"}
    count, state, _ = state_of([*(node for node in nodes if node not in executor), omitted])
    assert (count, state) == (75, near(950_913))


def test_what_stages_note_on_an_artifact_is_counted() -> None:
    assert MEASURED.said == pods.DIGITS
