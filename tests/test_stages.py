"""A stage's four faces: the plain call, the KFP component, the container's entry point, the documentation."""

import subprocess
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest
import yaml
from kfp import compiler
from kfp.dsl import Artifact, Dataset, Model
from pydantic import Field
from selfloop.__main__ import command
from selfloop.artifacts import manifest_of, read_json, write_json
from selfloop.errors import LAST_WORDS, HaltedError, UserError, ending_plainly
from selfloop.modes import inprocess
from selfloop.modes.inprocess import InProcess, content_key
from selfloop.modes.pods import enter
from selfloop.records import Example, rows, writing
from selfloop.stages import Params, Stage, executed_by, find_stage, outputs_named, stage, stages

from . import forked
from .conftest import sealed_value

pytestmark = pytest.mark.slow


class DoubleParams(Params):
    times: int = Field(2, ge=1, description="How often each row is repeated.")
    mark: Literal["none", "star"] = Field("none", description="What is put behind each completion.")
    levels: list[int] = Field(default_factory=lambda: [1, 2], description="The levels that are repeated.")


class Repeated(NamedTuple):
    repeated: Dataset


@stage()
def repeat_rows(out: Repeated, params: DoubleParams, examples: Dataset) -> None:
    """Repeat each row."""
    mark = "*" if params.mark == "star" else ""
    with writing(out.repeated.path, Example) as table:
        for row in rows(examples.path, Example):
            if row.level in params.levels:
                table.write([row._replace(completion=row.completion + mark)] * params.times)


class Length(NamedTuple):
    seen: Artifact
    proceed: bool = False


@stage()
def is_long(out: Length, params: Params, examples: Dataset) -> bool:
    """Say whether there are examples."""
    return bool(list(rows(examples.path, Example)))


@pytest.fixture
def examples(tmp_path: Path) -> Dataset:
    return make_examples(tmp_path / "examples")


def make_examples(place: Path) -> Dataset:
    class NoParams(Params):
        pass

    class MadeRows(NamedTuple):
        made: Dataset

    @stage()
    def make(out: MadeRows, params: NoParams) -> None:
        """Make two rows."""
        with writing(out.made.path, Example) as table:
            table.write([Example("a", 1, "p", "x", 0), Example("b", 3, "p", "y", 0)])

    made = Dataset(uri=str(place))
    make.into(make.out(made=made), NoParams())
    return made


def test_the_plain_call_runs_and_seals_its_outputs(tmp_path: Path, examples: Dataset) -> None:
    repeated = Dataset(uri=str(tmp_path / "repeated"))
    repeat_rows.into(repeat_rows.out(repeated=repeated), DoubleParams(times=3, mark="star"), examples=examples)
    assert [row.completion for row in rows(repeated.path, Example)] == ["x*", "x*", "x*"]
    manifest = manifest_of(repeated.path)
    assert manifest.params == {"times": 3, "mark": "star", "levels": [1, 2]}
    assert manifest.inputs == {"examples": manifest_of(examples.path).digest}
    assert repeated.metadata["digest"] == manifest.digest


def test_a_returned_value_is_given_back(tmp_path: Path, examples: Dataset) -> None:
    assert (
        is_long.into(is_long.out(seen=Artifact(uri=str(tmp_path / "seen"))), Params(), examples=examples).proceed
        is True
    )


def test_a_call_without_outputs_outside_a_recipe_is_refused(examples: Dataset) -> None:
    with pytest.raises(TypeError, match="outside a recipe"):
        repeat_rows(DoubleParams(), examples=examples)


def test_artifacts_that_do_not_fit_the_signature_are_refused(examples: Dataset) -> None:
    with pytest.raises(TypeError, match="missing: examples; not known: exampels"):
        repeat_rows(DoubleParams(), exampels=examples)  # type: ignore[call-arg]


def test_a_finished_output_is_not_overwritten(tmp_path: Path, examples: Dataset) -> None:
    repeated = Dataset(uri=str(tmp_path / "repeated"))
    repeat_rows.into(repeat_rows.out(repeated=repeated), DoubleParams(), examples=examples)
    with pytest.raises(UserError, match="already holds a finished artifact"):
        repeat_rows.into(repeat_rows.out(repeated=repeated), DoubleParams(), examples=examples)


def test_an_unfinished_output_is_cleared_first(tmp_path: Path, examples: Dataset) -> None:
    place = tmp_path / "repeated"
    place.mkdir()
    (place / "shard-00007.parquet").write_text("left behind by a process that was killed")
    repeat_rows.into(repeat_rows.out(repeated=Dataset(uri=str(place))), DoubleParams(), examples=examples)
    assert [path.name for path in place.glob("*.parquet")] == ["shard-00000.parquet"]


def test_an_altered_input_is_refused_by_name(tmp_path: Path, examples: Dataset) -> None:
    shard = Path(examples.path) / "shard-00000.parquet"
    shard.write_bytes(shard.read_bytes()[:-1] + b"!")
    with pytest.raises(UserError, match=r"shard-00000.parquet was altered after it was sealed"):
        repeat_rows.into(
            repeat_rows.out(repeated=Dataset(uri=str(tmp_path / "repeated"))), DoubleParams(), examples=examples
        )


def test_an_unfinished_input_is_refused_by_name(tmp_path: Path, examples: Dataset) -> None:
    (Path(examples.path) / "manifest.json").unlink()
    with pytest.raises(UserError, match="examples is not a finished artifact"):
        repeat_rows.into(
            repeat_rows.out(repeated=Dataset(uri=str(tmp_path / "repeated"))), DoubleParams(), examples=examples
        )


def test_the_component_has_a_flat_typed_described_signature(tmp_path: Path) -> None:
    component = repeat_rows.component("selfloop/base:1")
    compiler.Compiler().compile(component, str(tmp_path / "component.yaml"))
    spec = yaml.safe_load((tmp_path / "component.yaml").read_text())
    inputs = spec["components"]["comp-repeat-rows"]["inputDefinitions"]
    assert inputs["parameters"]["times"] == {
        "defaultValue": 2.0,
        "description": "How often each row is repeated.",
        "isOptional": True,
        "parameterType": "NUMBER_INTEGER",
    }
    assert inputs["parameters"]["mark"]["parameterType"] == "STRING"
    assert inputs["parameters"]["levels"]["parameterType"] == "LIST"
    assert inputs["artifacts"]["examples"]["artifactType"]["schemaTitle"] == "system.Dataset"


@pytest.mark.parametrize("known", stages().values(), ids=lambda known: known.name)
def test_every_stage_is_a_component_whose_inputs_are_described(known: Stage, tmp_path: Path) -> None:
    component = known.component("selfloop/base:1")
    described = {name: spec.description for name, spec in (component.component_spec.inputs or {}).items()}
    assert {name: described[name] for name in known.params.model_fields} == {
        name: info.description for name, info in known.params.model_fields.items()
    }
    assert component.description.startswith(known.summary)


def test_the_component_enters_the_stage_with_validated_parameters(tmp_path: Path, examples: Dataset) -> None:
    repeated = Dataset(uri=str(tmp_path / "repeated"))
    enter(repeat_rows.target, {"times": 1.0, "levels": [3.0], "examples": examples, "repeated": repeated})
    assert [row.task for row in rows(repeated.path, Example)] == ["b"]
    with pytest.raises(UserError, match=r"Parameter 'times' of repeat_rows cannot be 0: Input should be greater"):
        enter(repeat_rows.target, {"times": 0, "examples": examples, "repeated": repeated})


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UserError("This is wrong:\n  mend it."), 1, "selfloop: This is wrong: mend it.\n"),
        (
            HaltedError.because("A guard halted the loop"),
            3,
            "selfloop halted: A guard halted the loop. The champion st",
        ),
    ],
)
def test_a_mistake_ends_the_process_of_a_stage_with_its_sentence_alone(
    capsys: pytest.CaptureFixture[str], error: UserError, status: int, line: str
) -> None:
    with pytest.raises(SystemExit) as ended, ending_plainly():
        raise error
    said = capsys.readouterr()
    assert (ended.value.code, said.out, said.err.count("\n")) == (status, "", 1)
    assert said.err.startswith(line)
    assert LAST_WORDS.search(said.err)


def _container(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return forked.run("-m", "selfloop", *words, cwd=cwd)


def test_the_container_runs_a_stage_from_its_command_line(tmp_path: Path) -> None:
    words = [
        "--examples",
        "e",
        "--held-out",
        "h",
        "--replay-pool",
        "k",
        "--progress",
        "c",
        "--levels",
        "2",
        "--per-level",
        "5",
    ]
    done = _container("draw_base", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list(rows(tmp_path / "e", Example))) == 10
    assert manifest_of(tmp_path / "c").stage == "draw_base"


def test_the_container_refuses_a_wrong_parameter_in_one_sentence(tmp_path: Path) -> None:
    words = ["--examples", "e", "--held-out", "h", "--replay-pool", "k", "--progress", "c", "--levels", "none"]
    done = _container("draw_base", *words, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("selfloop: Parameter 'levels' of draw_base cannot be 'none'")
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_container_prints_what_a_stage_returns(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        textwrap.dedent('''
            from typing import NamedTuple

            from kfp.dsl import Artifact
            from selfloop.stages import Params, stage

            class Seen(NamedTuple):
                seen: Artifact
                is_ready: bool

            @stage()
            def ready(out: Seen, params: Params) -> bool:
                """Say yes."""
                return True
        ''')
    )
    done = _container("mine:ready", "--seen", "s", cwd=tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, "true")


def test_the_container_documents_every_parameter(tmp_path: Path) -> None:
    shown = "".join(_container("generate_rollouts", "--help", cwd=tmp_path).stdout.split())  # lines break anywhere
    for name, info in find_stage("generate_rollouts").params.model_fields.items():
        assert f"--{name.replace('_', '-')}" in shown
        assert "".join(str(info.description).split()) in shown


def test_the_documentation_gives_type_default_and_description() -> None:
    assert repeat_rows.rows() == [
        ("times", "int", "2", "How often each row is repeated."),
        ("mark", '"none" or "star"', '"none"', "What is put behind each completion."),
        ("levels", "List[int]", "[1, 2]", "The levels that are repeated."),
    ]


def _define(annotation: Any, **about: Any) -> None:
    from pydantic import create_model

    model = create_model("Odd", __base__=Params, odd=(annotation, Field(**about)))
    Stage("odd", "nowhere:odd", lambda: None, model, {}, outputs_named("Made", {"made": Model}))


@pytest.mark.parametrize(
    ("annotation", "sentence"),
    [
        (int | None, "Parameter 'odd' of stage 'odd' is int | None, which KFP cannot express: name the special case"),
        (Path, "which KFP cannot express: use int, float, str, bool"),
        (DoubleParams, "which KFP cannot express: use int, float, str, bool"),
        (list[list[int]], "which KFP cannot express: use int, float, str, bool"),
        (Literal[1, "one"], "which KFP cannot express: use int, float, str, bool"),
        (dict[int, str], "which KFP cannot express: use int, float, str, bool"),
    ],
)
def test_a_parameter_that_kfp_cannot_express_is_refused_at_definition(annotation: Any, sentence: str) -> None:
    with pytest.raises(TypeError) as refused:
        _define(annotation, description="Odd.")
    assert sentence in str(refused.value)


def test_a_parameter_without_a_description_is_refused_at_definition() -> None:
    with pytest.raises(TypeError, match="'odd' of stage 'odd' has no description"):
        _define(int)


class Renamed(NamedTuple):
    history: Artifact
    levels: Artifact
    proceed: bool


@stage()
def rename_rows(out: Renamed, params: DoubleParams, history: Artifact, times: Dataset, parts: list[Dataset]) -> bool:
    """Have an input and an output of one name, an output and a parameter, and an input and a parameter."""
    write_json(out.history.path, [*read_json(history.path), params.times])
    write_json(out.levels.path, [len(list(rows(each.path, Example))) for each in (times, *parts)])
    return True


def test_inputs_outputs_and_parameters_are_namespaces_of_their_own(tmp_path: Path, examples: Dataset) -> None:
    made = rename_rows.into(
        Renamed(Artifact(uri=str(tmp_path / "after")), Artifact(uri=str(tmp_path / "levels")), proceed=False),
        DoubleParams(times=4),
        history=sealed_value(tmp_path / "history", [3]),
        times=examples,
        parts=[make_examples(tmp_path / "more")],
    )
    assert read_json(made.history.path) == [3, 4]
    assert read_json(made.levels.path) == [2, 2]
    assert made.proceed is True
    assert set(manifest_of(made.history.path).inputs) == {"history", "times", "parts"}


def test_names_are_told_apart_where_kfp_and_the_command_line_have_one_namespace(tmp_path: Path) -> None:
    assert rename_rows.flat.inputs == {"history": "history", "times": "times_in", "parts": "parts"}
    assert rename_rows.flat.outputs == {"history": "next_history", "levels": "next_levels"}
    component = rename_rows.component("selfloop/base:1").component_spec
    assert {*component.inputs} == {"history", "times_in", "parts", "times", "mark", "levels"}
    assert {*component.outputs} == {"next_history", "next_levels", "Output"}
    flags = {flag for option in command(rename_rows).params for flag in option.opts}
    assert flags == {"--history", "--times-in", "--parts", "--times", "--mark", "--levels"} | {
        "--next-history",
        "--next-levels",
    }


def test_a_pod_finds_its_artifacts_by_flat_names(tmp_path: Path, examples: Dataset) -> None:
    given = {"history": sealed_value(tmp_path / "history", []), "times_in": examples, "times": 5}
    given |= {"parts_0": make_examples(tmp_path / "p0"), "parts_1": make_examples(tmp_path / "p1")}
    given |= {name: Artifact(uri=str(tmp_path / name)) for name in ("next_history", "next_levels")}
    assert enter(rename_rows.target, given) is True
    assert read_json(tmp_path / "next_history") == [5]
    assert read_json(tmp_path / "next_levels") == [2, 2, 2]


def test_what_is_still_named_twice_is_refused_at_definition() -> None:
    kinds = {"rows": Dataset, "next_rows": Dataset}
    with pytest.raises(TypeError, match="more than one input, output or parameter named 'next_rows'"):
        Stage("odd", "nowhere:odd", lambda: None, Params, {"rows": Dataset}, outputs_named("Odd", kinds))


def test_an_output_is_an_artifact_or_the_bool_that_is_returned() -> None:
    with pytest.raises(TypeError, match="Output 'count' of stage 'odd' must be an artifact, or its only bool"):
        Stage("odd", "nowhere:odd", lambda: None, Params, {}, outputs_named("Odd", {"count": int}))

    def silent(out: Length, params: Params, examples: Dataset) -> None:
        """Return nothing."""

    with pytest.raises(TypeError, match="'silent' must return a bool where one of its outputs is a bool"):
        stage()(silent)


class Joined(NamedTuple):
    joined: Artifact


@stage()
def join_values(out: Joined, params: Params, first: Artifact, second: Artifact | None = None) -> None:
    """Put two values into a list, or leave one alone in it."""
    write_json(out.joined.path, [read_json(each.path) for each in (first, second) if each is not None])


def _joined(place: Path, *values: Artifact) -> Artifact:
    made = join_values.into(Joined(Artifact(uri=str(place))), Params(), *values)
    return made.joined


def test_an_input_that_may_be_none_may_be_left_out(tmp_path: Path) -> None:
    one, two = sealed_value(tmp_path / "one", 1), sealed_value(tmp_path / "two", 2)
    assert join_values.optional == {"second"}
    assert join_values.inputs == {"first": Artifact, "second": Artifact}
    assert read_json(_joined(tmp_path / "alone", one).path) == [1]
    assert read_json(_joined(tmp_path / "both", one, two).path) == [1, 2]
    assert set(manifest_of(tmp_path / "alone").inputs) == {"first"}
    assert set(manifest_of(tmp_path / "both").inputs) == {"first", "second"}
    with pytest.raises(TypeError, match="missing: first; not known: none"):
        join_values(Params(), second=two)  # type: ignore[call-arg]


def test_none_for_an_input_that_is_not_optional_is_refused_with_its_name(examples: Dataset) -> None:
    nothing: Any = None
    with executed_by(Untouched()), pytest.raises(UserError) as refused:
        repeat_rows(DoubleParams(), examples=nothing)
    assert str(refused.value) == (
        "Stage 'repeat_rows' cannot do without 'examples', and is given none: choose a schedule that draws tasks, or "
        "another recipe."
    )


def test_what_is_left_out_is_handed_to_no_executor(tmp_path: Path) -> None:
    one, two = sealed_value(tmp_path / "one", 1), sealed_value(tmp_path / "two", 2)
    driver = InProcess(tmp_path / "run")
    with executed_by(driver):
        made = [
            join_values(Params(), first=one),
            join_values(Params(), first=one, second=None),
            join_values(Params(), one, two),
        ]
    assert [read_json(each.joined.path) for each in made] == [[1], [1], [1, 2]]
    assert made[0].joined.uri == made[1].joined.uri, "none and nothing are the same call"


def test_a_finished_stage_is_told_by_the_whole_of_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the keys of two calls begin alike: neither is taken for the other, nor thrown away."""
    given = [sealed_value(tmp_path / str(number), number) for number in (1, 2)]

    def alike(*call: Any) -> str:
        return f"{0:012}{content_key(*call)[12:]}"

    monkeypatch.setattr(inprocess, "content_key", alike)
    driver = InProcess(tmp_path / "run")
    with executed_by(driver):
        made = [join_values(Params(), first=each).joined for each in (*given, *given)]
    assert [read_json(each.path) for each in made] == [[1], [2], [1], [2]]
    assert [each.uri for each in made[:2]] == [each.uri for each in made[2:]], "each is found finished"
    assert len({each.uri for each in made}) == 2


def test_what_is_left_out_is_another_call_than_what_is_given(tmp_path: Path) -> None:
    one, two, three = (sealed_value(tmp_path / str(number), number) for number in (1, 2, 3))
    given = ({"first": one}, {"first": one, "second": two}, {"first": one, "second": three}, {"first": two})
    assert len({content_key(join_values, Params(), inputs) for inputs in given}) == len(given)


def test_a_component_declares_those_inputs_that_it_is_given() -> None:
    sides = {given: join_values.sides(given) for given in (("first",), ("first", "second"))}
    assert sides == {
        ("first",): ["first: Input[Artifact]", "joined: Output[Artifact]"],
        ("first", "second"): ["first: Input[Artifact]", "second: Input[Artifact]", "joined: Output[Artifact]"],
    }


def test_a_pod_is_entered_with_and_without_an_optional_input(tmp_path: Path) -> None:
    one, two = sealed_value(tmp_path / "one", 1), sealed_value(tmp_path / "two", 2)
    for name, given in (("alone", {}), ("both", {"second": two})):
        enter(join_values.target, {"first": one, "joined": Artifact(uri=str(tmp_path / name)), **given})
    assert [read_json(tmp_path / name) for name in ("alone", "both")] == [[1], [1, 2]]


def test_the_command_asks_for_what_is_not_optional(tmp_path: Path) -> None:
    required = {option.name: option.required for option in command(join_values).params}
    assert required == {"first": True, "second": False, "joined": True}
    one = sealed_value(tmp_path / "one", 1)
    command(join_values)(["--first", one.path, "--joined", str(tmp_path / "alone")], standalone_mode=False)
    assert read_json(tmp_path / "alone") == [1]


class BarredError(Exception):
    """What ends a run in these tests."""


def bar(out: Joined) -> None:
    """End the run where a list has more than one value."""
    if len(read_json(out.joined.path)) > 1:
        raise BarredError


barring = replace(join_values, target=f"{__name__}:barring", concludes=bar)


def test_a_stage_that_concludes_ends_the_run_once_its_outputs_are_sealed(tmp_path: Path) -> None:
    one, two = sealed_value(tmp_path / "one", 1), sealed_value(tmp_path / "two", 2)
    driver = InProcess(tmp_path / "run")
    with executed_by(driver):
        assert read_json(barring(Params(), one).joined.path) == [1]
        for _ in ("when it ran", "when it was found finished"):
            with pytest.raises(BarredError):
                barring(Params(), one, two)
    finished = {path.parent for path in tmp_path.glob("run/*/*/joined/manifest.json")}
    assert sorted(read_json(place) for place in finished) == [[1], [1, 2]]
    assert not list(tmp_path.glob("run/*/*.partial"))


def test_a_pod_of_a_stage_that_concludes_leaves_its_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = sealed_value(tmp_path / "one", 1), sealed_value(tmp_path / "two", 2)
    monkeypatch.setenv("SELFLOOP_STORE", str(tmp_path / "store"))
    enter(barring.target, {"first": one, "joined": Artifact(uri=str(tmp_path / "alone"))})
    for place in ("ran", "recalled"):
        with pytest.raises(BarredError):
            enter(barring.target, {"first": one, "second": two, "joined": Artifact(uri=str(tmp_path / place))})
    assert [read_json(tmp_path / place) for place in ("alone", "ran", "recalled")] == [[1], [1, 2], [1, 2]]


class Untouched:
    """An executor that is not to be asked."""

    def call(self, stage: Stage, params: Params, inputs: dict[str, Any]) -> Any:
        raise AssertionError(stage.name)

    map = call


def test_one_artifact_under_two_inputs_is_refused_with_both_names(tmp_path: Path, examples: Dataset) -> None:
    history = sealed_value(tmp_path / "history", [])
    with executed_by(Untouched()):
        with pytest.raises(UserError, match="'rename_rows' is given the same artifact as 'times' and as 'parts'"):
            rename_rows(DoubleParams(), history=history, times=examples, parts=[examples])
        with pytest.raises(UserError, match="'rename_rows' is given the same artifact as 'history' and as 'times'"):
            rename_rows(DoubleParams(), history=examples, times=examples, parts=[])
