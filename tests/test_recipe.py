"""A recipe and its settings: how they are found, joined and refused."""

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import new_class
from typing import Any, NamedTuple

import pytest
from kfp.dsl import HTML, Dataset, Model
from pydantic import Field, ValidationError
from selfloop.errors import UserError
from selfloop.loop import LoopSettings, loop_state, state_of
from selfloop.promote import changing
from selfloop.propose import Frontier
from selfloop.recipe import FRAME, Recipe, find_recipe, load_recipe, recipes
from selfloop.stages import INHERITED, Params, outputs_named, stages
from selfloop.verify.verifiers.exact import Exact


@pytest.fixture
def recipe() -> Recipe[Any]:
    return find_recipe("length-generalization")


def test_overrides_keep_what_they_do_not_name(recipe: Recipe[Any]) -> None:
    settings = recipe.resolve({"finetune": {"lr": 0.1}}, {"finetune": {"steps": 3}, "seed": 4})
    assert (settings.finetune.lr, settings.finetune.steps, settings.seed) == (0.1, 3, 4)
    assert settings.finetune.batch_size == recipe.resolve().finetune.batch_size


@pytest.mark.parametrize("name", ["", "my loop", "-loop", "loop_", "löop", "a/b", "a" * 64])
def test_a_name_that_kubernetes_could_not_take_is_refused(recipe: Recipe[Any], name: str) -> None:
    with pytest.raises(
        UserError, match="cannot be the name of a recipe: use letters and digits, with '-' and '_' between"
    ):
        replace(recipe, name=name)


def test_a_stage_inherits_what_its_parameters_say_unless_it_has_its_own(recipe: Recipe[Any]) -> None:
    of_round = recipe.resolve({"seed": 4, "engine": "transformers", "generate": {"seed": 9}}).for_round(3)
    assert (of_round.finetune.seed, of_round.generate.seed) == (4, 9)
    assert (of_round.evaluate.engine, of_round.verify.environment) == ("transformers", "addition")
    assert (of_round.finetune.round, of_round.number) == (3, 3)
    assert of_round.run_settings.finetune.round == 0
    assert of_round.run_settings is of_round.for_round(4).run_settings.run_settings


def test_four_names_are_inherited_and_no_others() -> None:
    assert INHERITED == ("seed", "round", "environment", "engine", "confirm", "screen", "margin")
    for known in stages().values():
        assert known.params.inherited() <= {*INHERITED} & known.params.model_fields.keys()
    for name in ("policy", "rounds", "origin"):
        with pytest.raises(TypeError, match=f"Odd cannot inherit '{name}': loops hand on seed, round, env"):
            type("Odd", (Params,), {"inherits": frozenset({name}), "__annotations__": {name: str}})
    with pytest.raises(TypeError, match="Odd cannot inherit 'engine'"):
        type("Odd", (Params,), {"inherits": frozenset({"engine"})})


class Cup(Params):
    inherits = frozenset({"seed"})

    seed: int = Field(1, description="It is inherited.")
    round: int = Field(1, description="It could be, and is not.")
    reached: float = Field(0.25, description="A setting of the loop has this name.")


class Saucer(Cup):
    inherits = frozenset({"round"})


class Tea(LoopSettings):
    reached: float = Field(0.5, description="A setting of the loop's own.")
    cup: Cup = Cup()
    saucer: Saucer = Saucer(seed=7)


def test_a_parameter_is_inherited_where_it_says_so_and_was_not_set() -> None:
    of_round = Tea(seed=5, reached=0.75).for_round(4)
    assert of_round.cup == Cup(seed=5, round=1, reached=0.25)
    assert (of_round.saucer.seed, of_round.saucer.round, of_round.saucer.reached) == (7, 4, 0.25)
    assert of_round.run_settings.cup == Cup()


def test_a_class_of_settings_changes_defaults_by_keywords() -> None:
    class Green(Tea, rounds=8, schedule="fixed,patience=6", cup=Cup(round=3)):
        """Another default, without saying the field again."""

    class Jasmine(Green, rounds=9):
        """And another."""

    class Plain(Tea):
        """As its parent."""

    assert [kind().rounds for kind in (Tea, Green, Jasmine, Plain)] == [10, 8, 9, 10]
    assert str(Green().schedule) == str(Jasmine().schedule) == "fixed,patience=6"
    assert (Green().cup.round, Tea().cup.round) == (3, 1)
    assert Green.model_fields["rounds"].description == Tea.model_fields["rounds"].description
    assert Green.fixed() == Tea.fixed() == ["rounds", "form", "origin", "first", "price"]
    assert Green(rounds=2).rounds == 2


def test_a_keyword_that_names_no_setting_or_no_value_of_it_is_refused() -> None:
    with pytest.raises(UserError, match=r"There is no setting of Odd 'round': did you mean 'rounds'\?"):
        new_class("Odd", (Tea,), {"round": 3})
    odd = new_class("Odd", (Tea,), {"rounds": 0})
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        odd()


@pytest.mark.parametrize("known", recipes().values(), ids=lambda known: known.name)
def test_settings_come_back_from_their_plain_values(known: Recipe[Any]) -> None:
    for form in ("", *known.forms):
        settings = known.resolve({"form": form, "seed": 3, "gate": {"confidence": 0.75}})
        plain = json.loads(json.dumps(settings.overrides()))
        assert known.resolve(plain) == settings
        assert known.settings_of(known.run_params(settings.for_round(2))) == settings.for_round(2)


def test_one_parameter_of_a_strategy_can_be_changed(recipe: Recipe[Any]) -> None:
    changed = {"schedule": {"target": 12}}
    for below, schedule in (
        ({}, "frontier,target=12"),
        ({"schedule": {"advance_at": 0.5}}, "frontier,advance_at=0.5,target=12"),
        ({"schedule": "frontier,advance_at=0.75,target=3"}, "frontier,advance_at=0.75,target=12"),
        ({"schedule": Frontier(target=3)}, "frontier,target=12"),
        (recipe.resolve({"schedule": "frontier,target=3"}).overrides(), "frontier,target=12"),
    ):
        assert str(recipe.resolve(below, changed).schedule) == schedule
    assert str(recipe.resolve(changed, {"schedule": "none"}).schedule) == "none"
    assert str(recipe.resolve({"verify": {"verifier": "majority,agreement=0.75"}}, {"verify": {}}).verify.verifier) == (
        "majority,agreement=0.75"
    )
    verify = recipe.resolve({"verify": {"verifier": "majority"}}, {"verify": {"verifier": {"agreement": 0.75}}}).verify
    assert str(verify.verifier) == "majority,agreement=0.75"


@pytest.mark.parametrize(
    ("settings", "loop"),
    [
        ({}, "length-generalization-addition"),
        ({"environment": "reasoning-gym:basic_arithmetic"}, "length-generalization-reasoning-gym-basic_arithmetic"),
        ({"environment": "dataset:/data/of mine/d.jsonl"}, "length-generalization-dataset-d.jsonl"),
        ({"model": "mine", "environment": "reverse"}, "mine"),
        ({"model": ""}, "length-generalization-addition"),
    ],
)
def test_a_loop_is_called_as_a_person_says_or_as_its_recipe_and_environment(
    recipe: Recipe[Any], settings: dict[str, Any], loop: str
) -> None:
    assert recipe.resolve(settings).loop == loop
    assert recipe.resolve(settings).for_round(2).loop == loop


@pytest.mark.parametrize("name", recipes())
def test_what_a_recipe_does_unless_told_is_checked(name: str) -> None:
    recipe = find_recipe(name)
    recipe.check(recipe.resolve())


FORMS = [(recipe, form) for recipe in recipes().values() for form in recipe.forms]


@pytest.mark.slow
@pytest.mark.parametrize(("known", "form"), FORMS, ids=lambda given: getattr(given, "name", given))
def test_every_form_resolves_under_what_a_person_says_and_is_checked(known: Recipe[Any], form: str) -> None:
    settings = known.resolve({"form": form})
    assert settings.form == form
    assert settings != known.resolve()
    known.check(settings)
    assert known.forms[form].summary.endswith(".")
    said = known.resolve({"form": form}, {"environment": "reverse", "gate": {"confidence": 0.75}})
    assert (said.environment, said.gate.confidence, said.form) == ("reverse", 0.75, form)


def test_a_form_is_laid_below_what_a_person_says() -> None:
    agent0 = find_recipe("agent0")
    assert agent0.resolve({"form": "code"}).reinforce.steps == 100
    for overrides in (
        [{"form": "code", "reinforce": {"steps": 7}}],
        [{"reinforce": {"steps": 7}}, {"form": "code"}],
        [{"form": "r-zero"}, {"form": "code"}, {"reinforce": {"steps": 7}}],
    ):
        settings = agent0.resolve(*overrides)
        assert (settings.form, settings.reinforce.steps) == ("code", 7)
        assert str(settings.reinforce.algorithm) == "adpo,trust=0.6"


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        ("r-zro", "There is no form of recipe 'agent0' 'r-zro': did you mean 'r-zero'?"),
        ("greedy", "There is no form of recipe 'agent0' 'greedy': known are: adversary, chains, code, r-zero."),
    ],
)
def test_a_form_of_another_recipe_is_refused_with_those_that_there_are(form: str, sentence: str) -> None:
    with pytest.raises(UserError) as refused:
        find_recipe("agent0").resolve({"form": form})
    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ({"finetune": {"learning_rate": 1}}, "There is no parameter of length-generalization.finetune 'learning_rate'"),
        ({"finetun": {}}, "There is no parameter of length-generalization 'finetun': did you mean 'finetune'?"),
        ({"target": 12}, "parameter of length-generalization 'target': did you mean 'schedule.target'?"),
        ({"confidence": 0.9}, "did you mean 'gate.confidence'?"),
        ({"lr": 0.1}, "did you mean 'pretrain.lr' or 'finetune.lr'?"),
        ({"finetune": {"lr": "fast"}}, "Parameter 'finetune.lr' of length-generalization cannot be 'fast'"),
        (
            {"finetune": {"lr": -1}},
            "Parameter 'finetune.lr' of length-generalization cannot be -1: Input should be",
        ),
        ({"filter": {"when_empty": "wait"}}, "Input should be 'continue' or 'stop'"),
        ({"filter": {"select": ["corect"]}}, "There is no selector 'corect': did you mean 'correct'?"),
        (
            {"schedule": {"targt": 12}},
            "There is no parameter of the schedule 'frontier' 'targt': did you mean 'target'?",
        ),
        ({"schedule": {"target": 0}}, "'target' of the schedule 'frontier' cannot be 0: Input should be greater than"),
        ({"schedule": "fixed,target=12"}, "There is no parameter of the schedule 'fixed' 'target'"),
        ({"schedule": "fixd"}, "There is no schedule 'fixd': did you mean 'fixed'?"),
        ({"schedule": Exact()}, "Exact() is no schedule: give one of curve, fixed, frontier, none, successive."),
        ({"schedule": 3}, "3 is no schedule: give one of curve, fixed, frontier, none, successive."),
        ({"form": "code"}, "Recipe 'length-generalization' has no forms: leave out 'code'."),
        ({"model": "team/adder"}, "Parameter 'model' of length-generalization cannot be 'team/adder': Use letters"),
        ({"model": "adder.moves"}, "no '.moves' at the end."),
        ({"origin": "adder@champion"}, "cannot be 'adder@champion': Give 'start' or a version as NAME/VERSION"),
        ({"origin": "adder/3+"}, "Give 'start' or a version as NAME/VERSION"),
        ({"gate": {"guards": ["lenght"]}}, "There is no guard 'lenght': did you mean 'length'?"),
    ],
)
def test_what_is_unknown_or_out_of_range_is_refused_in_a_sentence(
    recipe: Recipe[Any], override: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError) as refused:
        recipe.resolve(override)
    assert sentence in str(refused.value)


@pytest.mark.parametrize("origin", ["start", "adder/3", "adder/3+12", "my adder.v2/1"])
def test_a_loop_continues_from_a_version(recipe: Recipe[Any], origin: str) -> None:
    assert recipe.resolve({"origin": origin}).origin == origin


def test_an_environment_that_lacks_what_the_loop_asks_for_is_refused(recipe: Recipe[Any]) -> None:
    with pytest.raises(UserError, match="does not offer alphabet"):
        recipe.check(recipe.resolve({"environment": "reasoning-gym:countdown"}))


def test_an_unknown_recipe_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'length-generalization'"):
        find_recipe("length-generalisation")


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Writes a recipe's file, under a name that no other test's has."""
    monkeypatch.setattr(sys, "path", list(sys.path))

    def written(text: str, name: str = "mine") -> Path:
        path = tmp_path / f"{name}_{tmp_path.name.replace('-', '_')}.py"
        path.write_text(text)
        return path

    return written


def test_a_recipe_can_be_a_file(write: Callable[[str], Path], recipe: Recipe[Any]) -> None:
    source = Path(sys.modules[recipe.module].__file__ or "").read_text()
    path = write(source.replace('"length-generalization"', '"mine"'))
    found = find_recipe(str(path))
    assert (found.name, found.target) == ("mine", f"{path.stem}:recipe")
    assert find_recipe(found.target) is found


TWO = """
from selfloop.recipe import Recipe
from selfloop_recipes.sec import Sec, State, improve, start


class Slow(Sec, rounds=3):
    pass


quick = Recipe("quick", Sec, State, start, improve)
slow = Recipe("slow", Slow, State, start, improve, frozen=("training",))
alike = replace(slow, name="alike")
"""


def test_a_module_may_hold_several_recipes_and_take_what_it_needs_of_another(write: Callable[[str], Path]) -> None:
    path = write(f"from dataclasses import replace\n{TWO}")
    found = {name: find_recipe(f"{path}:{name}") for name in ("quick", "slow", "alike")}
    for name, each in found.items():
        assert (each.name, each.module, each.target) == (name, path.stem, f"{path.stem}:{name}")
        assert each.start.__module__ == "selfloop_recipes.sec"
        assert load_recipe(each.target) is each
    assert (found["quick"].resolve().rounds, found["slow"].resolve().rounds) == (8, 3)


def test_a_recipe_that_no_container_could_find_is_refused_before_anything_starts(recipe: Recipe[Any]) -> None:
    nowhere = replace(recipe, name="nowhere")
    with pytest.raises(UserError, match=r"Recipe 'nowhere' has no name in the module tests.test_recipe: let it stand"):
        nowhere.check(nowhere.resolve())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("def (", "{path}, which should define the recipe, cannot be imported (line 1, SyntaxError: "),
        ("x = 1\n\ny = z", "cannot be imported (line 3, NameError: name 'z' is not defined)."),
        ("import no_such_library", "No recipe at '{path}:recipe': No module named 'no_such_library'."),
        ("from selfloop import nothing_of_the_kind", "cannot be imported (line 1, ImportError: cannot import name"),
        ("1 / 0", "cannot be imported (line 1, ZeroDivisionError: division by zero)."),
        ("pass", "No recipe at '{path}:recipe': module '{stem}' has no attribute 'recipe'."),
        ("recipe = 3", "'{path}:recipe' is not a recipe: make it a selfloop.recipe.Recipe."),
    ],
)
def test_a_file_that_gives_no_recipe_is_refused_in_one_sentence(
    write: Callable[[str], Path], text: str, sentence: str
) -> None:
    path = write(text)
    with pytest.raises(UserError) as refused:
        find_recipe(str(path))
    assert sentence.format(path=path, stem=path.stem) in str(refused.value)
    assert "\n" not in str(refused.value)


class State(NamedTuple):
    champion: Model
    helper: Model
    notes: Dataset


class Page(NamedTuple):
    champion: Model
    told: HTML


class Number(NamedTuple):
    champion: Model
    rounds: int


class Own(NamedTuple):
    champion: Model
    history: Dataset


class Data(NamedTuple):
    notes: Dataset


class Empty(NamedTuple):
    pass


@pytest.mark.parametrize(
    ("state", "given", "sentence"),
    [
        (
            Page,
            {},
            "'told' in the state of recipe 'odd' is HTML, which no round takes from another: make it an Artifact",
        ),
        (Number, {}, "'rounds' in the state of recipe 'odd' is int, which no round takes from another"),
        (Own, {}, "'history' in the state of recipe 'odd' is the frame's own: call it otherwise."),
        (dict, {}, "The state of recipe 'odd' is no NamedTuple with fields: make it one of artifacts."),
        (Empty, {}, "The state of recipe 'odd' is no NamedTuple with fields: make it one of artifacts."),
        (Data, {}, "Recipe 'odd' improves nothing: name a role, or let a Model stand in its state."),
        (State, {"frozen": ("champion", "helper")}, "Recipe 'odd' improves nothing: name a role"),
        (State, {"roles": ("champoin",)}, "where it is a role, 'champoin': did you mean 'champion'?"),
        (State, {"frozen": ("helpr",)}, "where it is a frozen field, 'helpr': did you mean 'helper'?"),
    ],
)
def test_a_recipe_whose_state_no_loop_can_have_is_refused_when_it_is_defined(
    recipe: Recipe[Any], state: type[Any], given: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError) as refused:
        Recipe("odd", recipe.settings, state, recipe.start, recipe.improve, **given)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", sorted({*FRAME, "anchor", "proceed"}))
def test_no_field_of_a_state_has_a_name_of_the_frame(recipe: Recipe[Any], name: str) -> None:
    state = outputs_named("Own", {"champion": Model, name: Dataset})
    with pytest.raises(UserError, match=f"'{name}' in the state of recipe 'odd' is the frame's own: call it otherwise"):
        Recipe("odd", recipe.settings, state, recipe.start, recipe.improve)


def test_the_frame_owns_what_it_carries_and_says_so(recipe: Recipe[Any]) -> None:
    assert {*loop_state(recipe)._fields} - {*recipe.own} == {*FRAME, "anchor", "proceed"}


@pytest.mark.parametrize(
    ("given", "roles"),
    [
        ({}, ("champion", "helper")),
        ({"frozen": ("helper",)}, ("champion",)),
        ({"frozen": ("champion",)}, ("helper",)),
        ({"roles": ("notes", "helper")}, ("notes", "helper")),
    ],
)
def test_the_roles_are_the_models_that_are_not_frozen_unless_they_are_named(
    recipe: Recipe[Any], given: dict[str, Any], roles: tuple[str, ...]
) -> None:
    made = Recipe("two", recipe.settings, State, recipe.start, recipe.improve, **given)
    assert made.roles == roles
    assert list(made.own) == ["champion", "helper", "notes"]
    assert changing(made, state_of(made)).keys() == {*state_of(made)} - {"seed_data", "anchor", *made.frozen}


def test_every_recipe_says_what_it_does_and_stands_under_its_own_module() -> None:
    for known in recipes().values():
        assert known.target == f"{known.module}:recipe"
        assert load_recipe(known.target) is known
        assert known.summary.startswith(known.title)
        assert known.summary.endswith(".")
        assert len(known.summary) > 40


@pytest.mark.slow
def test_listing_and_compiling_need_kfp_and_pydantic_only(tmp_path: Path) -> None:
    """And never the libraries that stages run on."""
    probe = textwrap.dedent("""
        import sys, time
        began = time.perf_counter()
        class Guard:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in set("torch transformers pyarrow mlflow numpy typer rich jinja2 datasets trl "
                                             "accelerate safetensors".split()):
                    raise AssertionError(name + " was imported")
        sys.meta_path.insert(0, Guard())
        from pathlib import Path
        from selfloop.recipe import find_recipe, recipes
        from selfloop.modes.compiling import compile_pipeline
        for recipe in recipes().values():
            compile_pipeline(recipe, recipe.resolve({"rounds": 1}), Path(sys.argv[1]) / "p.yaml")
        print(len(recipes()))
    """)
    done = subprocess.run(
        [sys.executable, "-c", probe, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 1
