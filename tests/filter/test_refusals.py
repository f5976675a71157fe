"""What cannot be is refused in a sentence, as early as it can be known; an empty round says why."""

import sys
from pathlib import Path
from typing import Any

import pytest
from selfloop.errors import UserError
from selfloop.filter import FilterParams

from .conftest import Filtered, Keep, group


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"select": ["corect"]}, "There is no selector 'corect': did you mean 'correct'?"),
        ({"select": ["correct", "minhsh"]}, "There is no selector 'minhsh': did you mean 'minhash'?"),
        ({"select": ["nothing", "unique"]}, "let it stand alone in 'select'."),
        ({"select": ["nothing"], "when_empty": "stop"}, "set 'when_empty' to 'continue'."),
        (
            {"select": ["best-worst", "unique", "first-error"]},
            "'best-worst' and 'first-error' make pairs, and the first leaves one rollout a task: select one.",
        ),
        ({"select": ["best-worst", "best-worst"]}, "select one."),
        ({"select": ["correct", "first-error"]}, "'correct' before it leaves no wrong ones: leave 'correct' out."),
        ({"select": "rate,min_rate=0.9,max_rate=0.1"}, "No rate is at least 0.9 and at most 0.1:"),
        ({"select": "length,shortest=9,longest=5"}, "No length is at least 9 and at most 5:"),
        ({"select": "length,bounds=most"}, "'bounds' of the selector 'length' cannot be 'most': Input should be 'at-l"),
        (
            {"select": "diverse-by-embedding"},
            "needs the parameter 'embedder': write diverse-by-embedding,embedder=VALUE.",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(params: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as refused:
        FilterParams(**params)
    assert sentence in str(refused.value)
    assert str(refused.value).rstrip(".?").count(". ") == 0


def test_what_only_looks_odd_is_let_through() -> None:
    FilterParams(select=["correct", "best-worst"])
    FilterParams(select=["first-error", "correct"])
    FilterParams(select=["nothing"])
    FilterParams(select="length,shortest=9,longest=5,bounds=at-least")
    FilterParams(select="diverse-by-embedding,embedder=somewhere")


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user's own."""
    place = tmp_path / "modules"
    place.mkdir()
    (place / "my_selectors.py").write_text(
        "from collections import Counter\n"
        "from selfloop.filter.selecting import Selector, where\n"
        "def short(batch, context, *, longest: int = 9):\n"
        "    return where(batch, batch['tokens'].to_numpy() <= longest, 'too many tokens')\n"
        "class EveryOther(Selector):\n"
        "    def begin(self): return Counting()\n"
        "class Counting:\n"
        "    def __init__(self): self.seen = 0\n"
        "    def __call__(self, batch, context):\n"
        "        import numpy as np\n"
        "        keep = (self.seen + np.arange(batch.num_rows)) % 2 == 0\n"
        "        self.seen += batch.num_rows\n"
        "        return where(batch, keep, 'every other one')\n"
        "def forgetful(batch, context): return batch.slice(0, 1), Counter()\n"
        "def narrow(batch, context): return batch.select(['task']), Counter()\n"
        "number = 3\n"
    )
    monkeypatch.syspath_prepend(place)
    monkeypatch.delitem(sys.modules, "my_selectors", raising=False)
    return "my_selectors"


def test_selectors_of_one_s_own_are_functions_or_classes(keep: Keep, mine: str) -> None:
    given = group("a", *(("x" * n, True) for n in range(1, 7)))
    made = keep(given, f"{mine}:short,longest=4", f"{mine}:EveryOther", "unique")
    assert made.texts == ["x", "xxx"]
    assert [(step["selector"], step["rejected"]) for step in made.funnel] == [
        ("my_selectors:short", {"too many tokens": 2}),
        ("my_selectors:EveryOther", {"every other one": 2}),
        ("unique", {}),
    ]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("forgetful", "took 3 rows, kept 1 and rejected 0: let it return a batch with the columns that it took"),
        ("narrow", "took 3 rows, kept 3 and rejected 0: let it return a batch with the columns"),
        ("number", "'my_selectors:number' is no selector: make it a subclass of selfloop.filter.selecting.Selector"),
        ("absent", "No selector at 'my_selectors:absent'"),
    ],
)
def test_a_selector_of_one_s_own_that_breaks_the_contract_is_refused(
    keep: Keep, mine: str, name: str, sentence: str
) -> None:
    with pytest.raises(UserError) as refused:
        keep(group("a", ("x", True), ("y", True), ("z", False)), f"{mine}:{name}")
    assert sentence in str(refused.value)


def test_a_round_in_which_nothing_is_kept_says_why_and_continues(keep: Keep) -> None:
    before = keep(group("old", ("x", True)), "all").examples
    given = group("a", ("x", False), ("y", False), ("z", True, 0.0))
    made = keep(given, "correct", "length,shortest=2", before=before)
    why = "Nothing kept: of 3 rollouts 2 were rejected by 'correct' (wrong answer)"
    assert (made.examples, made.pool, made.kept) == ([], before, {})
    assert made.metadata["empty"] == why
    assert [step["kept"] for step in made.funnel] == [1, 0]


def test_a_round_that_keeps_something_has_nothing_to_explain(keep: Keep) -> None:
    assert "empty" not in keep(group("a", ("x", True)), "correct").metadata


def test_without_rollouts_a_round_says_so(keep: Keep) -> None:
    made = keep([], "correct", "balance", "budget-by-score")
    assert made.metadata["empty"] == "Nothing kept: there were no rollouts"
    assert [step["in"] for step in made.funnel] == [0, 0, 0]


def test_a_loop_that_should_stops_where_nothing_is_kept(tmp_path: Path) -> None:
    params = FilterParams(when_empty="stop")
    with pytest.raises(UserError) as stopped:
        Filtered(tmp_path, params, group("a", ("x", False), ("y", False)))
    assert str(stopped.value) == (
        "Nothing kept: of 2 rollouts 2 were rejected by 'correct' (wrong answer): let other rollouts pass, or set "
        "'when_empty' to 'continue'."
    )
    assert not (tmp_path / "examples" / "manifest.json").exists()
