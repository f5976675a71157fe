import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kfp.dsl import Artifact, Dataset
from selfloop.environments import Environment, find_environment
from selfloop.environments.dataset import answer_of, level_of, question_of, text_of
from selfloop.errors import UserError
from selfloop.propose import BaseParams, DrawParams, draw_base, draw_tasks
from selfloop.records import Example, Task, rows, to_batch
from selfloop.split import CONFIRM, GATE, VAULT, draw_items, draw_training

ROWS = [{"question": f"What is {n} plus {n}?", "final": 2 * n, "grade": f"Level {n % 3 + 1}"} for n in range(48)]
COLUMNS = "prompt=question&answer=final&level=grade&check=number"

pytestmark = pytest.mark.usefixtures("own_cache")


def write(place: Path, rows: list[dict[str, object]]) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), place)
    elif place.suffix in (".csv", ".tsv"):
        delimiter = "," if place.suffix == ".csv" else "\t"
        lines = [delimiter.join(map(str, row.values())) for row in rows]
        place.write_text("\n".join([delimiter.join(rows[0]), *lines]) + "\n")
    elif place.suffix == ".json":
        place.write_text(json.dumps(rows))
    else:
        place.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return place


def opened(place: Path, query: str = COLUMNS) -> Environment:
    return find_environment(f"dataset:{place}?{query}")


def everything(environment: Environment, levels: range = range(1, 4)) -> tuple[set[str], set[str]]:
    """The prompts to learn from, and those that are held out, in any part."""
    drawn = {task.prompt for level in levels for task in draw_training(environment, level, 100, 1)}
    items = (draw_items(environment, part, level, 100, 1) for level in levels for part in (GATE, CONFIRM, VAULT))
    return drawn, {item.prompt for of_part in items for item in of_part}


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_a_file_of_any_kind_is_an_environment(tmp_path: Path, suffix: str) -> None:
    environment = opened(write(tmp_path / f"sums.{suffix}", ROWS))
    drawn, kept = everything(environment)
    assert len(drawn) + len(kept) == 48
    assert len(kept) > 8
    assert environment.levels == range(1, 4)
    [task] = environment.tasks(2, 1, seed=3)
    number = int(task.prompt.split()[2])
    assert (task.level, task.answer) == (number % 3 + 1, str(2 * number))
    assert task.prompt.endswith("put the final answer in \\boxed{}.")
    assert environment.check(task, environment.demonstration(task)).ok
    assert environment.check(task, str(2 * number)).ok
    assert not environment.check(task, f"\\boxed{{{2 * number + 1}}}").ok


def test_rows_held_out_are_never_tasks_whatever_the_seed_and_the_order_of_the_rows(tmp_path: Path) -> None:
    drawn, kept = everything(opened(write(tmp_path / "a" / "sums.jsonl", ROWS)))
    assert not drawn & kept
    assert (drawn, kept) == everything(opened(write(tmp_path / "b" / "sums.jsonl", ROWS[::-1])))


def test_a_split_of_its_own_is_held_out_and_what_stands_in_both_is_not_trained_on(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", ROWS[:40])
    write(tmp_path / "test.jsonl", ROWS[36:])
    drawn, kept = everything(opened(tmp_path))
    assert (len(drawn), len(kept)) == (36, 12)
    assert not drawn & kept


def test_the_splits_can_be_named(tmp_path: Path) -> None:
    write(tmp_path / "validation.jsonl", ROWS[:6])
    write(tmp_path / "test.jsonl", ROWS[6:12])
    drawn, kept = everything(opened(tmp_path, f"{COLUMNS}&split=test&held_out=validation"))
    assert {int(prompt.split()[2]) for prompt in drawn} == set(range(6, 12))
    assert {int(prompt.split()[2]) for prompt in kept} == set(range(6))


def test_rows_are_drawn_once_each_and_where_there_are_fewer_all_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    environment = opened(write(tmp_path / "sums.jsonl", ROWS))
    some, all_, others = (environment.tasks(1, n, seed) for n, seed in ((5, 7), (100, 7), (5, 8)))
    assert len({task.prompt for task in all_}) == len(all_) == 16
    assert [task.prompt for task in some] == [task.prompt for task in all_[:5]]
    assert [task.prompt for task in some] != [task.prompt for task in others]
    learnt = draw_training(environment, 1, 100, 7)
    assert [task.prompt for task in learnt] == [t.prompt for t in all_ if t.prompt in {task.prompt for task in learnt}]
    said = f"{tmp_path}/sums.jsonl has {len(learnt)} tasks of level 1 to learn from, fewer than the 100 asked for."
    assert said in caplog.messages
    ids = [task.id for task in (*all_, *others)]
    assert len(set(ids)) == len(ids)


def test_without_a_column_of_levels_there_is_one_and_completions_are_compared_with_the_whole_answer(
    tmp_path: Path,
) -> None:
    place = write(tmp_path / "capitals.jsonl", [{"prompt": f"Capital {n}?", "answer": f"City {n}"} for n in range(9)])
    environment = find_environment(f"dataset:{place}")
    assert environment.levels is None
    [task] = environment.tasks(1, 1, seed=0)
    assert task.prompt == f"Capital {task.answer.split()[1]}?"
    assert environment.demonstration(task) == task.answer
    assert environment.check(task, task.answer).ok
    assert not environment.check(task, task.answer + "0").ok


def test_the_instruction_can_be_ones_own_or_none(tmp_path: Path) -> None:
    place = write(tmp_path / "sums.jsonl", ROWS)
    bare, own = (opened(place, f"{COLUMNS}&instruction={text}") for text in ("", "Just+the+number%21"))
    assert bare.tasks(1, 1, 0)[0].prompt.endswith("?")
    assert own.tasks(1, 1, 0)[0].prompt.endswith("?\n\nJust the number!")


def test_check_and_check_batch_agree(tmp_path: Path) -> None:
    environment = opened(write(tmp_path / "sums.jsonl", ROWS))
    tasks = environment.tasks(1, 3, seed=0)
    completions = [environment.demonstration(tasks[0]), environment.demonstration(tasks[0]), ""]
    columns = environment.check_batch(to_batch(Task, tasks), pa.array(completions))
    grades = [environment.check(task, text) for task, text in zip(tasks, completions, strict=True)]
    assert list(zip(*(column.to_pylist() for column in columns), strict=True)) == grades
    assert [grade.ok for grade in grades] == [True, False, False]


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "tsv"])
def test_answers_are_the_file_s_own_text(tmp_path: Path, suffix: str) -> None:
    answers = ["0042", "None", "N/A", "True", "1.50", "2024-05-11", "12345678901234567890123", "1e3"]
    place = write(tmp_path / f"texts.{suffix}", [{"prompt": f"q{n}", "answer": text} for n, text in enumerate(answers)])
    environment = find_environment(f"dataset:{place}")
    drawn = environment.tasks(1, 99, 0)
    assert sorted(task.answer for task in drawn) == sorted(answers)
    assert all(environment.check(task, task.answer).ok for task in drawn)


def test_numbers_of_a_json_file_are_its_own_text(tmp_path: Path) -> None:
    numbers = ["12345678901234567890123", "1.50", "-0.0", "1e3"]
    lines = [f'{{"prompt": "q{n}", "answer": {number}}}\n' for n, number in enumerate(numbers)]
    (tmp_path / "numbers.jsonl").write_text("".join(lines))
    environment = find_environment(f"dataset:{tmp_path}/numbers.jsonl")
    assert {task.answer for task in environment.tasks(1, 9, 0)} == set(numbers)


def test_a_column_may_be_a_part_of_one(tmp_path: Path) -> None:
    made = [{"q": {"text": f"q{n}"}, "a": {"all": [f"a{n}", "b"], "level": n % 2 + 1}} for n in range(9)]
    environment = opened(write(tmp_path / "nested.jsonl", made), "prompt=q.text&answer=a.all.0&level=a.level")
    drawn = environment.tasks(2, 9, 0)
    assert {(task.prompt, task.answer) for task in drawn} == {(f"q{n}", f"a{n}") for n in (1, 3, 5, 7)}
    with pytest.raises(UserError, match=r"row 1 has no text or number in column 'a\.none' but 'None'"):
        opened(tmp_path / "nested.jsonl", "prompt=q.text&answer=a.none").tasks(1, 1, 0)


SYSTEM, USER, ASSISTANT = ({"role": role, "content": role[0]} for role in ("system", "user", "assistant"))


@pytest.mark.parametrize(
    ("chat", "question", "answer"),
    [
        ([USER], "u", None),
        ([USER, ASSISTANT], "u", "a"),
        ([SYSTEM, USER, ASSISTANT], "s\n\nu", "a"),
        ([{"role": "user", "content": [{"type": "text", "text": "p"}, {"type": "text", "text": "q"}]}], "pq", None),
        ([USER, ASSISTANT, USER], None, None),
        ([USER, ASSISTANT, USER, ASSISTANT], None, "a"),
        ([{"from": "human", "value": "u"}], None, None),
        ([], None, None),
        ("text", "text", "text"),
    ],
)
def test_a_column_of_messages_holds_a_question_and_its_answer(
    chat: object, question: str | None, answer: str | None
) -> None:
    assert (text_of(question_of(chat)), text_of(answer_of(chat))) == (question, answer)


def test_a_loop_draws_tasks_and_items_of_different_rows(tmp_path: Path) -> None:
    name = f"dataset:{write(tmp_path / 'sums.jsonl', ROWS)}?{COLUMNS}"
    tasks, items = (Dataset(uri=str(tmp_path / output)) for output in ("tasks", "eval_items"))
    draw_tasks.into(
        draw_tasks.out(tasks=tasks, eval_items=items),
        DrawParams(environment=name, levels=[1, 2], per_level=100, items_per_level=12),
    )
    drawn, judged = ({row.prompt for row in rows(table.path, Task)} for table in (tasks, items))
    assert drawn
    assert judged
    assert not drawn & judged


def test_a_base_policy_is_shown_answers_as_they_are_asked_for(tmp_path: Path) -> None:
    name = f"dataset:{write(tmp_path / 'sums.jsonl', ROWS)}?{COLUMNS}"
    outputs = {output: Dataset(uri=str(tmp_path / output)) for output in ("examples", "held_out", "replay_pool")}
    draw_base.into(
        draw_base.out(**outputs, progress=Artifact(uri=str(tmp_path / "progress"))),
        BaseParams(environment=name, levels=1, per_level=9),
    )
    examples, kept = (list(rows(outputs[table].path, Example)) for table in ("examples", "held_out"))
    assert all(example.completion.startswith("\\boxed{") for example in examples + kept)
    assert not {example.prompt for example in examples} & {example.prompt for example in kept}


@pytest.mark.parametrize(
    ("name", "text", "query", "sentence"),
    [
        ("a.jsonl", '{"question": "a", "final": 1}', "", "has no column 'prompt': its columns are question, final."),
        ("a.jsonl", '{"prompt": "a", "answer": 1}', "level=hard", "has no column 'hard'"),
        ("a.jsonl", '{"prompt": "a", "answer": "b"}\n{"prompt":', "", "a.jsonl: line 2 is not JSON"),
        ("a.jsonl", "", "", "a.jsonl is empty: give it rows, or take it away."),
        ("a.csv", "prompt,answer\n", "", "a.csv cannot be read as a data set: it holds no rows."),
        (
            "a.jsonl",
            '{"prompt": "a", "answer": "b"}\n{"prompt": "c"}',
            "",
            "row 2 has no text or number in column 'ans",
        ),
        ("a.jsonl", '{"prompt": ["a"], "answer": "b"}', "", "row 1 has no text or number in column 'prompt'"),
        ("a.jsonl", '{"prompt": "a", "answer": "b"}', "level=answer", "the level of row 1 is 'b': levels are whole"),
        ("a.jsonl", '{"prompt": "a", "answer": "b"}', "split=dev", "There is no split of"),
        ("a.jsonl", '{"prompt": "a", "answer": "b"}', "held_out=dev", "There is no split of"),
        ("a.jsonl", '{"prompt": "a", "answer": "b"}', "promt=a", "did you mean 'prompt'?"),
        (
            "a.jsonl",
            '{"prompt": "a", "answer": "b"}',
            "check=nearly",
            "Parameter 'check' of dataset cannot be 'nearly'",
        ),
        ("a.parquet", "no Parquet", "", "a.parquet cannot be read as a data set: "),
        ("a.txt", "words", "", "a.txt is none of .jsonl, .json, .csv, .tsv, .parquet"),
        ("a.jsonl", '{"prompt": "a", "answer": true}', "", "row 1 has no text or number in column 'answer'"),
        ("a.jsonl", '{"prompt": "a", "answer": "\\ud800"}', "", "row 1 has no text or number in column 'answer'"),
        ("a.csv", "prompt,answer\na,1\nb, \n", "check=contains", "row 2 has no text or number in column 'answer'"),
        ("a.csv", "prompt,answer\na,1\nb,N/A\n", "check=number", "a.csv: row 2: The answer 'N/A' is no number"),
        ("a.csv", "prompt,answer\na,1\nb,}{\n", "check=math", "a.csv: row 2 has the answer '}{', by which nothing"),
    ],
)
def test_data_that_cannot_be_used_is_refused_in_a_sentence(
    tmp_path: Path, name: str, text: str, query: str, sentence: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError) as refused:
        opened(tmp_path / name, query).tasks(1, 1, seed=0)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("place", ["nowhere.jsonl", "./nowhere", "/no/where", "nowhere", "a/b/c"])
def test_a_place_that_holds_nothing_is_refused_at_once(place: str) -> None:
    with pytest.raises(UserError, match=f"There is no data set at {place}: give a file, a folder, or an id of the Hub"):
        find_environment(f"dataset:{place}")


def test_a_family_needs_a_place_and_an_empty_folder_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dataset is a family"):
        find_environment("dataset")
    with pytest.raises(UserError, match="doesn't contain any data files"):
        opened(tmp_path).tasks(1, 1, seed=0)


def test_a_level_without_rows_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no train tasks of level 7: it has some of level 1, 2, 3\."):
        opened(write(tmp_path / "sums.jsonl", ROWS)).tasks(7, 1, seed=0)


@pytest.mark.parametrize(
    ("value", "level"), [(3, 3), ("3", 3), ("Level 3", 3), ("Level ?", None), (None, None), ("", None)]
)
def test_a_level_is_a_number_or_ends_in_one(value: object, level: int | None) -> None:
    assert level_of(value) == level
