"""Making a compiled pipeline small changes nothing that it says."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from selfloop.modes.compact import _reduce, merged


def _before(tasks: dict[str, Any], name: str) -> set[str]:
    waits = tasks[name].get("dependentTasks", [])
    return set(waits).union(*(_before(tasks, each) for each in waits))


@given(st.lists(st.sets(st.integers(0, 8)), max_size=9))
def test_a_task_still_waits_for_all_that_it_waited_for(waits: list[set[int]]) -> None:
    tasks = {f"t{n}": {"dependentTasks": [f"t{m}" for m in sorted(of) if m < n]} for n, of in enumerate(waits)}
    before = {name: _before(tasks, name) for name in tasks}
    dag = {"tasks": tasks}
    _reduce(dag)
    assert {name: _before(dag["tasks"], name) for name in tasks} == before
    for task in tasks.values():
        of = task["dependentTasks"]
        assert not any(one in _before(tasks, other) for one in of for other in of), "and for nothing twice"


def _spec(images: list[str]) -> dict[str, Any]:
    return {
        "deploymentSpec": {"executors": {f"exec-{n}": {"image": image} for n, image in enumerate(images)}},
        "components": {f"comp-{n}": {"executorLabel": f"exec-{n}"} for n in range(len(images))},
        "root": {"dag": {"tasks": {f"t{n}": {"componentRef": {"name": f"comp-{n}"}} for n in range(len(images))}}},
    }


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=8))
def test_each_task_runs_what_it_ran(images: list[str]) -> None:
    spec = merged(_spec(images))
    for number, image in enumerate(images):
        component = spec["components"][spec["root"]["dag"]["tasks"][f"t{number}"]["componentRef"]["name"]]
        assert spec["deploymentSpec"]["executors"][component["executorLabel"]] == {"image": image}
    assert len(spec["deploymentSpec"]["executors"]) == len(set(images))
    assert len(spec["components"]) == len(set(images))


def test_executors_of_which_kubernetes_is_asked_different_things_stay_apart() -> None:
    asked = {f"exec-{n}": {"nodeSelector": {"zone": zone}} for n, zone in enumerate("xyx")}
    platform: dict[str, Any] = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": asked}}}}
    spec = merged(_spec(["a", "a", "a"]), platform)
    assert spec["deploymentSpec"]["executors"].keys() == {"exec-0", "exec-1"} == asked.keys()
