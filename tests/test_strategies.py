"""Strategies: what a spelling means, what is refused, and strategies of a user's own."""

import pickle
import sys
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kfp.dsl import Artifact, Model
from pydantic import BaseModel, ConfigDict, Field
from selfloop.errors import UserError
from selfloop.recipe import Recipe
from selfloop.settings import Settings
from selfloop.stages import Params, stage
from selfloop.strategies import Strategy, kinds, spelt_list, split, split_list


class Shape(Strategy):
    kind = "shape"
    package = __name__
    round: ClassVar[bool] = False

    def __call__(self, size: float) -> float:
        raise AssertionError(f"{self} has no area")


class Square(Shape):
    """A square.

    Its sides are equal.
    """

    name = "square"
    scale: float = Field(1.0, gt=0, description="What a side is multiplied by.")

    def __call__(self, size: float) -> float:
        return (self.scale * size) ** 2


class Polygon(Shape):
    """Any polygon."""

    name = "polygon"
    corners: list[int] = Field([], description="Angles, in degrees.")
    note: str = Field("plain", description="A word on it.")
    weights: dict[str, float] = Field({}, description="What each side weighs.")
    closed: bool = Field(True, description="Whether it closes.")
    count: int = Field(description="Sides.")


class Nested(Shape):
    """A shape in a shape."""

    name = "nested"
    inner: Shape = Field(Square(), description="What is inside.")


class Colour(Strategy):
    kind = "colour"
    package = __name__


class Red(Colour):
    """Red."""

    name = "red"


class Holder(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    shape: Shape = Field(Square(), description="A shape.")
    more: list[Shape] = Field([], description="Others.")


def test_a_field_takes_a_spelling_or_a_strategy_and_is_written_as_a_spelling() -> None:
    held = Holder.model_validate({"shape": "square,scale=2", "more": ["square", "polygon,count=3,corners=60+60+60"]})
    assert held.shape == Square(scale=2)
    assert held.shape(3) == 36
    written = {"shape": "square,scale=2.0", "more": ["square", "polygon,corners=60+60+60,count=3"]}
    assert held.model_dump(mode="json") == held.model_dump() == written
    assert Holder.model_validate(written) == held


def test_equal_strategies_are_spelt_alike() -> None:
    assert str(Shape.parse("square,scale=1")) == str(Square()) == "square"


def test_a_strategy_may_be_a_parameter_of_another_and_has_its_parameters_behind_a_dot() -> None:
    deep = Nested(inner=Nested(inner=Polygon(count=3, note="a, b")))
    assert str(Nested(inner=Square(scale=2))) == "nested,inner=square,inner.scale=2.0"
    assert str(deep) == "nested,inner=nested,inner.inner=polygon,inner.inner.note=a, b,inner.inner.count=3"
    assert Shape.parse(str(deep)) == deep
    assert Shape.parse("nested,inner=square") == Nested()
    assert Shape.parse("nested,inner.scale=3") == Shape.parse('nested,inner="square,scale=3"')
    assert Nested(inner=Square(scale=3)).changed({"inner": {"scale": 4}}) == Nested(inner=Square(scale=4))
    assert deep.changed({"inner": {"inner": {"count": 5}}}).inner.inner.count == 5  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nested,inner.scale=0", "'scale' of the shape 'square' cannot be '0'"),
        ("nested,inner.scal=2", "There is no parameter of the shape 'square' 'scal': did you mean 'scale'?"),
        ("nested,iner.scale=2", "There is no parameter of the shape 'nested' 'iner.scale': did you mean 'inner'?"),
        ("square,scale.of=2", "There is no parameter of the shape 'square' 'scale.of': did you mean 'scale'?"),
        ("nested,inner=sqare,inner.scale=2", "There is no shape 'sqare': did you mean 'square'?"),
    ],
)
def test_a_part_that_is_not_there_is_refused(text: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        Shape.parse(text)
    assert said in str(caught.value)


def test_another_process_finds_a_strategy_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pickled_shapes.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    for made in (Square(scale=2), Nested(inner=Polygon(count=3)), Shape.parse("pickled_shapes:tall,height=3")):
        assert pickle.loads(pickle.dumps(made)) == made


@given(
    note=st.text(min_size=1),
    corners=st.lists(st.integers()),
    weights=st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False), max_size=3),
    closed=st.booleans(),
)
def test_what_is_spelt_is_read_again(note: str, corners: list[int], weights: dict[str, float], closed: bool) -> None:
    made = Polygon(count=3, note=note, corners=corners, weights=weights, closed=closed)
    assert Shape.parse(str(made)) == made


def test_a_value_may_hold_commas_and_a_list_or_mapping_needs_no_quotes() -> None:
    assert split("polygon,note=right, and complete?,count=4") == (
        "polygon",
        {"note": "right, and complete?", "count": "4"},
    )
    assert Shape.parse("polygon,count=2,weights=a:0.5+b:1,closed=false") == Polygon(
        count=2, weights={"a": 0.5, "b": 1.0}, closed=False
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sqare", "There is no shape 'sqare': did you mean 'square'?"),
        ("square,scal=2", "There is no parameter of the shape 'square' 'scal': did you mean 'scale'?"),
        ("square,scale=0", "'scale' of the shape 'square' cannot be '0': Input should be greater than 0."),
        ("square,2", "'square,2' is no strategy: write NAME or NAME,key=value,key=value."),
        ("square,scale=1,scale=2", "'square,scale=1,scale=2' gives 'scale' twice: give it once."),
        ("polygon", "The shape 'polygon' needs the parameter 'count': write polygon,count=VALUE."),
        ("polygon,count=[1", "begins as JSON does and is none"),
        ("red", "There is no shape 'red': known are: nested, polygon, square."),
        (Red(), "Red() is no shape: give one of nested, polygon, square."),
        (3, "3 is no shape"),
        ("no_such_module:thing", "No shape at 'no_such_module:thing'"),
        (f"{__name__}:Red", "is a colour, not a shape"),
        (f"{__name__}:Holder", "is no shape: make it a subclass of"),
    ],
)
def test_what_is_no_strategy_is_refused_in_one_sentence(text: object, said: str) -> None:
    with pytest.raises(UserError) as caught:
        Shape.parse(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


OWN = '''
def tall(size, *, height: float = 2.0):
    """A tall one."""
    return size * height


def flat(width, height, *, scale: float = 1.0):
    """It takes two things."""


def any_size(size, *more):
    """It takes what it is given."""
    return size
'''


def test_a_function_of_ones_own_has_its_keyword_only_arguments_as_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_shapes.py").write_text(OWN)
    monkeypatch.setattr(sys, "path", list(sys.path))
    by_path = Shape.parse(f"{tmp_path / 'own_shapes.py'}:tall,height=3")
    assert by_path(2) == 6
    assert by_path.summary() == "A tall one."
    assert str(by_path) == "own_shapes:tall,height=3.0"
    assert Shape.parse("own_shapes:tall,height=3") == by_path
    with pytest.raises(UserError, match=r"did you mean 'height'\?"):
        Shape.parse("own_shapes:tall,heigth=3")


def test_a_function_that_cannot_be_called_as_its_kind_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_sizes.py").write_text(OWN)
    monkeypatch.setattr(sys, "path", list(sys.path))
    said = r"'.*own_sizes.py:flat' takes \(width, height\), and is called with \(size\): take these"
    with pytest.raises(UserError, match=said):
        Shape.parse(f"{tmp_path / 'own_sizes.py'}:flat")
    assert Shape.parse("own_sizes:any_size")(3) == 3
    with pytest.raises(UserError, match=r"is no colour: make it a subclass of .*test_strategies.Colour\.$"):
        Colour.parse("own_sizes:tall")


def test_members_are_found_with_their_parameters() -> None:
    assert list(Shape.members()) == ["nested", "polygon", "square"]
    assert Square.parameters() == [("scale", "1.0", "What a side is multiplied by.")]
    assert Square.summary() == "A square."
    assert {"shape", "colour"} <= set(kinds())


# Lists


def test_a_list_is_spelt_without_a_character_that_a_shell_reads() -> None:
    made = Holder.model_validate({"more": ["square,scale=2", "polygon,count=3,note=a word", "square"]}).more
    assert spelt_list(made) == "square,scale=2.0+polygon,note=a word,count=3+square"
    assert split_list("square,scale=2+polygon,count=1e+2+own.py:x+./own.py:y") == [
        "square,scale=2", "polygon,count=1e+2", "own.py:x", "./own.py:y"
    ]  # fmt: skip
    assert split_list("") == []


@given(
    st.lists(
        st.builds(
            Polygon,
            count=st.integers(),
            note=st.text('+ab,=[{" ', min_size=1),
            corners=st.lists(st.integers(), max_size=3),
            weights=st.dictionaries(st.text("+a:"), st.floats(allow_nan=False, allow_infinity=False), max_size=2),
        ),
        max_size=4,
    )
)
def test_a_list_that_is_spelt_is_read_again(made: list[Shape]) -> None:
    assert [Shape.parse(each) for each in split_list(spelt_list(made))] == made


class HolderParams(Params):
    shape: Shape = Field(Square(), description="A shape.")
    more: list[Shape] = Field([Square(), Polygon(count=3)], description="Others.")


def test_parameters_take_a_list_as_text_which_may_change_the_default() -> None:
    assert HolderParams.model_validate({"more": "square,scale=3"}).more == [Square(scale=3)]
    assert HolderParams.model_validate({"more": ""}).more == []
    changed = HolderParams.model_validate({"more": "+polygon,note=x"}).more
    assert changed == [Square(), Polygon(count=3, note="x")]


class HolderSettings(Settings):
    hold: HolderParams = HolderParams(more="square,scale=2+polygon,count=3")


class State(NamedTuple):
    champion: Model


def no_round(settings: Any, given: Any) -> Any:
    raise AssertionError(settings, given)


RECIPE = Recipe("holding", HolderSettings, State, no_round, no_round)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["+polygon,note=x"], "square,scale=2.0+polygon,note=x,count=3"),
        (["+square,scale=5", "+polygon,count=4"], "square,scale=5.0+polygon,count=4"),
        (["polygon,count=4", "+square"], "polygon,count=4+square"),
        ([["polygon,count=4"], "+square+polygon,note=y"], "polygon,note=y,count=4+square"),
        (["+square", ""], ""),
    ],
)
def test_what_is_laid_over_settings_changes_the_list_that_is_there(overrides: list[Any], expected: str) -> None:
    resolved = RECIPE.resolve(*({"hold": {"more": each}} for each in overrides))
    assert spelt_list(resolved.hold.more) == expected
    assert RECIPE.resolve(resolved.overrides()) == resolved


class Held(NamedTuple):
    page: Artifact


@stage()
def hold(out: Held, params: HolderParams) -> None:
    """Hold."""


def test_a_component_has_strategies_as_the_texts_that_people_write() -> None:
    assert hold.signature == "(page: Output[Artifact], shape: str = 'square', more: str = 'square+polygon,count=3')"
