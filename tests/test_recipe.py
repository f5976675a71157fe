import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from selfloop.errors import UserError
from selfloop.recipe import Recipe, find_recipe, recipes


@pytest.fixture
def recipe() -> Recipe[Any]:
    return find_recipe("length-generalization")


def test_overrides_keep_what_they_do_not_name(recipe: Recipe[Any]) -> None:
    settings = recipe.resolve({"finetune": {"lr": 0.1}}, {"finetune": {"steps": 3}, "seed": 4})
    assert (settings.finetune.lr, settings.finetune.steps, settings.seed) == (0.1, 3, 4)
    assert settings.finetune.batch_size == recipe.resolve().finetune.batch_size


def test_a_stage_takes_a_setting_of_the_same_name_unless_it_has_its_own(recipe: Recipe[Any]) -> None:
    bound = recipe.resolve({"seed": 4, "generate": {"seed": 9}}).for_round(3)
    assert (bound.finetune.seed, bound.generate.seed) == (4, 9)
    assert (bound.finetune.round, bound.number) == (3, 3)
    assert bound.unbound.finetune.round == 0


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ({"finetune": {"learning_rate": 1}}, "There is no parameter of length-generalization.finetune 'learning_rate'"),
        ({"finetun": {}}, "There is no parameter of length-generalization 'finetun': did you mean 'finetune'?"),
        ({"finetune": {"lr": "fast"}}, "Parameter 'finetune.lr' of length-generalization cannot be 'fast'"),
        (
            {"finetune": {"lr": -1}},
            "Parameter 'finetune.lr' of length-generalization cannot be -1: Input should be",
        ),
        ({"filter": {"when_empty": "wait"}}, "Input should be 'go on' or 'stop'"),
        ({"filter": {"select": ["corect"]}}, "There is no selector 'corect': did you mean 'correct'?"),
        ({"model": ""}, "Parameter 'model' of length-generalization cannot be '': Use letters"),
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
def test_a_loop_goes_on_from_a_version(recipe: Recipe[Any], origin: str) -> None:
    assert recipe.resolve({"origin": origin}).origin == origin


def test_an_environment_that_lacks_what_the_loop_asks_for_is_refused(recipe: Recipe[Any]) -> None:
    with pytest.raises(UserError, match="does not offer alphabet"):
        recipe.check(recipe.resolve({"environment": "reasoning-gym:countdown"}))


def test_an_unknown_recipe_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'length-generalization'"):
        find_recipe("length-generalisation")


def test_a_recipe_can_be_a_file(tmp_path: Path, recipe: Recipe[Any]) -> None:
    source = Path(sys.modules[recipe.start.__module__].__file__ or "").read_text()
    (tmp_path / "mine.py").write_text(source.replace('name="length-generalization"', 'name="mine"'))
    assert find_recipe(str(tmp_path / "mine.py")).name == "mine"


def test_every_recipe_says_what_it_does() -> None:
    for known in recipes().values():
        assert known.summary.endswith(".")
        assert len(known.summary) > 40


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
