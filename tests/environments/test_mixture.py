import re
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selfloop.environments import find_environment, named
from selfloop.errors import UserError
from selfloop.records import Task, to_batch
from selfloop.split import part_of

NAME = "mixture:reverse@2-4+countdown@1-2+chain@3"
MIXTURE = find_environment(NAME)
CELLS = [("reverse", 2), ("reverse", 3), ("reverse", 4), ("countdown", 1), ("countdown", 2), ("chain", 3)]
LEVELS = st.integers(1, len(CELLS))


@given(LEVELS, st.integers(0, 2**32))
@settings(max_examples=20)
def test_a_cell_has_the_tasks_of_its_environment_and_is_graded_by_it(level: int, seed: int) -> None:
    name, own = CELLS[level - 1]
    environment = find_environment(name)
    for mixed, plain in ((MIXTURE.tasks, environment.tasks), (MIXTURE.held_out, environment.held_out)):
        given = mixed(level, 3, seed)
        assert [task._replace(level=own) for task in given] == plain(own, 3, seed)
        assert {task.level for task in given} == {level}
        for task in given:
            shown = MIXTURE.demonstration(task)
            assert MIXTURE.check(task, shown).ok
            assert part_of(MIXTURE, task) == part_of(environment, task._replace(level=own))
            assert MIXTURE.check(task, shown + "0") == environment.check(task._replace(level=own), shown + "0")
            assert set(task.prompt + shown) <= set(str(MIXTURE.alphabet))
    assert MIXTURE.guard_suites(level, 2, seed).keys() == environment.guard_suites(own, 2, seed).keys()


@given(st.lists(st.tuples(LEVELS, st.booleans()), max_size=12))
@settings(max_examples=20)
def test_check_and_check_batch_agree_in_whatever_order_cells_stand(rows: list[tuple[int, bool]]) -> None:
    tasks = [MIXTURE.tasks(level, 1, place)[0] for place, (level, _) in enumerate(rows)]
    texts = [MIXTURE.demonstration(task) if right else "1" for task, (_, right) in zip(tasks, rows, strict=True)]
    columns = MIXTURE.check_batch(to_batch(Task, tasks), pa.array(texts, pa.string()))
    grades = [MIXTURE.check(task, text) for task, text in zip(tasks, texts, strict=True)]
    assert list(zip(*(column.to_pylist() for column in columns), strict=True)) == grades


def test_it_offers_one_alphabet_and_as_many_levels_as_cells() -> None:
    assert MIXTURE.levels == range(1, 7)
    assert MIXTURE.offers == {"levels", "alphabet", "plain positions"}
    assert len(set(str(MIXTURE.alphabet))) == len(str(MIXTURE.alphabet))
    assert MIXTURE.special_tokens == ("<new>",)


def test_positions_are_those_of_its_environments_where_they_agree() -> None:
    assert MIXTURE.restarts is None
    assert find_environment("mixture:reverse@2+chain@1").restarts == find_environment("chain").restarts


def test_the_mixture_of_four_domains_is_one() -> None:
    four = find_environment("mixture:reverse@2-6+arithmetic:both@1-5+countdown@1-3+chain@2-8")
    assert four.levels == range(1, 21)
    [task] = four.tasks(8, 1, 3)
    assert four.check(task, f"<op>1+1</op><result>2</result>{task.answer}").ok
    assert four.non_policy_spans("<op>1+1</op><result>2</result>") == [(12, 30)]
    assert four.extract_answer("<op>1+1</op><result>2</result>14") == "14"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("mixture", "'' is no mixture: write environments with their levels, as in mixture:reverse@2-6+countdown@1-3"),
        ("mixture:reverse+countdown", "is no mixture"),
        ("mixture:revers@2", "no environment 'revers': did you mean 'reverse'"),
        ("mixture:countdown@4-6", "cell of level 6 of 'countdown' has no tasks: take it out"),
        ("mixture:countdown@3-2", "cell of level 3 of 'countdown' has no tasks"),
        ("mixture:reverse@2-3+reverse@3", "has level 3 of one environment twice: name it once"),
        (
            "mixture:addition@1+arithmetic:plain@1",
            "alphabets of 'addition' and 'arithmetic:plain' clash: nothing tells",
        ),
        ("mixture:colons:Marked@1+countdown@1", "clash: ':' is one token of the former, and characters of the latter"),
    ],
)
def test_what_is_no_mixture_is_refused(
    name: str, sentence: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path_factory.mktemp("own")
    (place / "colons.py").write_text(
        "from selfloop.environments.reverse import Reverse\n\n\nclass Marked(Reverse):\n    special_tokens = (':',)\n"
    )
    monkeypatch.syspath_prepend(place)
    with pytest.raises(UserError, match=re.escape(sentence)):
        find_environment(name)


def test_a_cell_that_is_no_level_of_a_mixture_is_refused() -> None:
    with pytest.raises(UserError, match="This mixture has the cells 1 to 6, not 7"):
        MIXTURE.tasks(7, 1, 0)


def test_what_a_mixture_is_made_of_counts_for_what_is_made_with_it(tmp_path: Path) -> None:
    assert list(named("mixture:someones:Tasks@1-2+countdown@1").modules) == ["someones"]
    (tmp_path / "here.jsonl").write_text('{"a": "1+1", "b": "2"}\n')
    data = f"dataset:{tmp_path}/here.jsonl?prompt=a&answer=b"
    assert list(named(f"mixture:{data}@1").places) == list(named(data).places) != []
