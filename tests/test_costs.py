"""What a loop spends, and the budget that ends it."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from selfloop.costs import Budget, Price, ends, parsed, per_point, priced, quantity, spent_in
from selfloop.errors import UserError
from selfloop.lineage.rounds import find_origin
from selfloop.machine import cores
from selfloop.profiles import find_profile
from selfloop.recipe import find_recipe
from selfloop.report.history import read_moments, write_moments
from selfloop.report.sections.cost import costs

from .conftest import tracked_run

LENGTH = "length-generalization"
QUICK: dict[str, Any] = {"rounds": 3, "pretrain": {"steps": 2, "decay_steps": 1}}


def moment(round: int, drawn: int, seconds: float = 1.0, **more: Any) -> dict[str, Any]:
    call = {"stage": "generate", "began": float(round), "seconds": seconds, "drawn": drawn, "trained": 0, "usd": 0.0}
    return {"round": round, "stages": [call | {"peak_bytes": 1}], **more}


@given(st.integers(10, 99), st.integers(0, 99), st.integers(1, 400))
def test_a_loop_whose_rounds_are_alike_never_exceeds_its_budget(each: int, start: int, limit: int) -> None:
    moments = [moment(0, start), moment(1, each)]
    while not ends(Budget(tokens=limit), moments):
        moments.append(moment(len(moments), each))
        assert spent_in(moments).tokens <= limit
    assert spent_in(moments).tokens + each > limit, "it ends no round too soon"


@given(st.lists(st.integers(0, 100), min_size=1, max_size=9))
def test_a_round_is_taken_to_come_to_the_dearest_of_the_last_three(drawn: list[int]) -> None:
    moments = [moment(number, amount) for number, amount in enumerate(drawn)]
    next_ = max(drawn[1:][-3:], default=0)
    assert not ends(Budget(tokens=sum(drawn) + next_ + 0.5), moments)
    assert not sum(drawn) or ends(Budget(tokens=max(sum(drawn) + next_ - 0.5, 0.1)), moments)


def test_what_was_spent_before_the_rounds_that_are_kept_stays_known(tmp_path: Path) -> None:
    moments = [moment(number, 10, 2.0, gained=0.01) for number in range(90)]
    write_moments(tmp_path, moments)
    kept = read_moments(tmp_path)
    assert len(kept) < 90
    assert spent_in(kept) == spent_in(moments)
    assert per_point(kept) == pytest.approx({"tokens": 10, "hours": 2 / 3600})
    shown = costs(kept)
    assert shown is not None
    assert next(iter(shown["by_round"])).startswith("start to ")


def test_money_is_that_of_all_that_a_stage_holds() -> None:
    call = moment(1, 5, 1800.0)["stages"][0] | {"cpus": 4, "gpus": 2}
    [known] = priced([call], Price(gpu_hour=3.0, cpu_hour=0.1))
    assert known["usd"] == pytest.approx(0.5 * (2 * 3.0 + 4 * 0.1))
    assert quantity("usd", known["usd"]) == "3.20 USD"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"budget": "tokens"}, "Write it as tokens=1e9,hours=12,usd=40"),
        ({"budget": "days=3"}, "There is no 'days' in a budget: give tokens or hours or usd"),
        ({"budget": "hours=0"}, "'hours' is '0', and is to be a number: Input should be greater than 0"),
        ({"budget": "usd=5"}, "needs prices"),
        ({"price": "gpu_hour=-1"}, "'gpu_hour' is '-1'"),
    ],
)
def test_a_budget_that_is_none_is_refused_in_a_sentence(given: dict[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said.replace("(", r"\(")):
        find_recipe(LENGTH).resolve(given)


def test_a_profile_brings_its_prices(tmp_path: Path) -> None:
    place = tmp_path / "ours.toml"
    place.write_text('extends = "one-gpu"\n[price]\ngpu_hour = 2.5\n')
    recipe = find_recipe(LENGTH)
    settings = recipe.resolve(find_profile(str(place)).settings_for(recipe), {"budget": "usd=40"})
    assert parsed(Price, settings.price) == Price(gpu_hour=2.5)


@pytest.mark.slow
def test_what_a_loop_spent_goes_on_where_it_continues(
    tmp_path: Path, small: dict[str, Any], client: MlflowClient
) -> None:
    before = tracked_run(LENGTH, small, tmp_path / "first", QUICK, {"rounds": 1, "price": "cpu_hour=1"})
    spent = spent_in(read_moments(before.history.path))
    assert spent.usd == pytest.approx(spent.hours * cores(), rel=1e-6)
    [whole] = [each for each in client.search_runs(["1"]) if "mlflow.parentRunId" not in each.data.tags]
    assert whole.data.metrics["cost.drawn"] == spent.drawn
    [round] = [each for each in client.search_runs(["1"]) if "mlflow.parentRunId" in each.data.tags]
    assert round.data.metrics["cost.finetune_policy.trained"] > 0
    onwards = {"origin": find_origin(f"{LENGTH}-addition@champion").pinned, "first": 2, "rounds": 2}
    with pytest.raises(UserError, match=f"no budget for another round: {spent.tokens:,} tokens of the budget"):
        tracked_run(LENGTH, small, tmp_path / "next", QUICK, onwards, {"budget": f"tokens={spent.tokens}"})
