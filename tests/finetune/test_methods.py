"""What each method does with examples: weights, pairs, good and bad ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kfp.dsl import Artifact
from selfloop.artifacts import read_json
from selfloop.errors import UserError
from selfloop.finetune import FinetuneParams
from selfloop.finetune.offline.encoding import IGNORED, Encoded, fitted, own
from selfloop.finetune.offline.methods import Method
from selfloop.finetune.offline.trl_data import rejected_sides
from selfloop.policy import Policy, fresh
from selfloop.records import TOOL, Example, segments_of, to_batch
from selfloop.stages import validated

from ..byte_policy import byte_policy
from ..conftest import sealed_value
from .conftest import Finetuned, tried

pytestmark = pytest.mark.slow


def digest(policy: Any) -> str:
    return str(policy.metadata["digest"])


@torch.no_grad()
def likelihoods(policy: Policy, examples: list[Example]) -> torch.Tensor:
    """The log-probability of each completion."""
    batch = Encoded(policy, examples, range(len(examples))).batch(np.arange(len(examples)))
    labels = batch.pop("labels")[:, 1:]
    found = policy.model(**batch).logits[:, :-1].log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    told: torch.Tensor = (found * (labels != IGNORED)).sum(1)
    return told


def gap(policy: Path | str, examples: list[Example]) -> float:
    """How much likelier the good completions are than the bad ones, in nats."""
    told = likelihoods(fresh(policy), examples)
    good = torch.tensor([e.good for e in examples])
    return float(told[good].mean() - told[~good].mean())


def test_a_weight_multiplies_the_loss_of_its_text(trained: Path, finetuned: Finetuned) -> None:
    right = [e for e in tried() if e.good]
    halved = finetuned(trained, "halved", [e._replace(weight=0.5) for e in right])
    plain = finetuned(trained, "plain", right)
    assert halved.metadata["loss"] == pytest.approx(plain.metadata["loss"] / 2, rel=0.2)
    assert halved.metadata["loss"] < plain.metadata["loss"]
    first = {w: finetuned(trained, f"w{w}", [e._replace(weight=w) for e in right], steps=1) for w in (0.5, 1.0)}
    assert first[0.5].metadata["loss"] == pytest.approx(first[1.0].metadata["loss"] / 2, rel=1e-5)


def test_what_weighs_nothing_and_what_is_bad_is_not_imitated(trained: Path, finetuned: Finetuned) -> None:
    right = [e for e in tried() if e.good]
    weightless = [e._replace(weight=0.0, completion="9") for e in right]
    made = [
        finetuned(trained, name, right + more) for name, more in (("a", []), ("b", weightless), ("c", tried()[1::2]))
    ]
    assert len({digest(policy) for policy in made}) == 1


def test_what_the_policy_did_not_write_carries_no_loss(trained: Path) -> None:
    policy = fresh(trained)
    text = Example("a", 1, "1+2=", "3+4=70", 0, segments=segments_of("3+4=70", [(1, 4)], TOOL))
    batch = Encoded(policy, [text], [0]).batch(np.array([0]))
    learnt = batch["labels"][0] != IGNORED
    assert policy.tokenizer.decode(batch["input_ids"][0][learnt]) == "370<eos>"
    assert policy.tokenizer.decode(batch["input_ids"][0]) == "1+2=3+4=70<eos>"


def test_the_worse_side_of_a_pair_learns_no_more_than_the_policy_wrote(trained: Path) -> None:
    policy, parts = fresh(trained), segments_of("7+5=5", [(1, 3)], TOOL)
    pair = Example("a", 1, "1+2=", "3", 0, rejected="7+5=5", rejected_segments=parts)
    batch = Encoded(policy, rejected_sides([pair]), [0]).batch(np.array([0]))
    assert policy.tokenizer.decode(batch["input_ids"][0]) == "1+2=7+5=5<eos>"
    assert policy.tokenizer.decode(batch["input_ids"][0][batch["labels"][0] != IGNORED]) == "7=5<eos>"


def test_a_token_that_reaches_into_what_others_wrote_is_not_the_policy_s() -> None:
    offsets = np.array([[0, 2], [2, 5], [5, 6], [6, 6]])
    assert own(offsets, [(4, 5)]).tolist() == [True, False, True, True]
    assert own(offsets, []).all()


def test_a_text_that_is_too_long_is_cut_at_its_end(trained: Path) -> None:
    policy = fresh(trained)
    data = Encoded(policy, [Example("a", 1, "12+34=", "460", 0), Example("b", 1, "1+2=", "3", 0)], [0, 1], max_length=8)
    batch = data.batch(np.array([0, 1]))
    assert data.cut == 1
    assert policy.tokenizer.decode(batch["input_ids"][0]) == "12+34=46"
    assert policy.tokenizer.decode(batch["labels"][0][6:]) == "46"


def test_an_end_is_learnt_behind_what_was_finished_and_behind_nothing_that_was_cut(trained: Path) -> None:
    policy, parts = fresh(trained), segments_of("7+5=5", [(1, 3)], TOOL)
    cut = Example("a", 1, "1+2=", "3", 0, finished=False, rejected="45", rejected_finished=False)
    texts = [cut, cut._replace(completion="7+5=5", segments=parts), *rejected_sides([cut]), cut._replace(finished=True)]
    batch = Encoded(policy, texts, range(4)).batch(np.arange(4))
    learnt = [row[row != IGNORED] for row in batch["labels"]]
    assert [policy.tokenizer.decode(row) for row in learnt] == ["3", "7=5", "45", "3<eos>"]


def test_a_text_of_which_nothing_is_learnt_gives_way_to_the_others(trained: Path) -> None:
    policy = fresh(trained)
    texts = [Example("a", 1, prompt, "3", 0) for prompt in ("123456789", "1+2=", "1234567", "2+1=")]
    data = Encoded(policy, texts, [0, 1, 0, 2, 3, 0], max_length=8)
    assert data.order.tolist() == [1, 1, 2, 2, 3, 3]
    assert (data.left_out, data.cut) == (3, 2)
    assert Encoded(policy, texts, [1, 2, 3], max_length=8).order.tolist() == [1, 2, 3]


def test_a_pair_of_which_one_side_is_lost_gives_way_too(trained: Path) -> None:
    policy = fresh(trained)
    pairs = [Example("a", 1, "1+2=", "3", 0, rejected=text) for text in ("4", "")]
    pairs[1] = pairs[1]._replace(rejected_finished=False)
    data = Encoded(policy, [*pairs, *rejected_sides(pairs)], [0, 1, 1], paired=True)
    assert (data.order.tolist(), data.left_out) == ([0, 0, 0], 2)


@pytest.mark.parametrize("method", ["sft", "nft", "kto", "dpo"])
def test_nothing_left_to_learn_is_said_with_its_cause(plain: Path, finetuned: Finetuned, method: str) -> None:
    with pytest.raises(UserError, match="Cut at 4 tokens no text has a token left that is learnt: raise max_length"):
        finetuned(plain, "none", tried(), method=method, max_length=4)


def test_a_text_is_cut_at_the_policy_s_own_context(tmp_path: Path) -> None:
    policy = fresh(byte_policy(tmp_path, kind="gpt2", n_positions=16))
    data = Encoded(policy, [Example("a", 1, "What is 1+2?", "Three, I think", 0)], [0])
    assert (data.cut, data.lengths.tolist()) == (1, [16])
    policy.model(**data.batch(data.order))
    with pytest.raises(UserError, match="Cut at 16 tokens no text has a token left that is learnt: give shorter"):
        Encoded(policy, [Example("a", 1, "What is 1+2+3+4?", "10", 0)], [0]).check_learnable()


def test_packed_texts_have_the_same_loss_in_fewer_rows(plain: Path) -> None:
    policy = fresh(plain)
    examples = [e for e in tried([1, 2, 3, 4], 4) if e.good]
    rows = np.arange(len(examples))
    data = Encoded(policy, examples, rows)
    packed, padded = data.packed(rows), data.batch(rows)
    assert len(packed["input_ids"]) < len(padded["input_ids"])
    assert (packed["labels"] != IGNORED).sum() == (padded["labels"] != IGNORED).sum()
    with torch.no_grad():
        losses = [float(policy.model(**batch).loss) for batch in (packed, padded)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_packing_trains_as_padding_does(plain: Path, finetuned: Finetuned) -> None:
    examples = [e._replace(weight=1 + 0.1 * n) for n, e in enumerate(tried([1, 2, 3]))]
    losses = [
        finetuned(plain, f"p{on}", examples, method=f"sft,packing={on}", steps=4).metadata["loss"]
        for on in ("true", "false")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_texts_go_into_as_few_rows_as_first_fit_finds() -> None:
    places, used = fitted(np.array([3, 5, 2, 5]), 5)
    assert used == 3
    assert places[1] == (0, 0)
    assert places[3] == (1, 0)
    assert sorted([places[0], places[2]]) == [(2, 0), (2, 3)]


def test_packing_is_refused_where_it_would_be_wrong(trained: Path, finetuned: Finetuned) -> None:
    with pytest.raises(UserError, match="packing cannot keep this policy's position scheme"):
        finetuned(trained, "packed", tried(), method="sft,packing=true")
    with pytest.raises(UserError, match="There is no parameter of the method 'dpo' 'packing'"):
        validated(FinetuneParams, {"method": "dpo,packing=true"}, "finetune_policy")


def test_a_batch_in_parts_is_the_same_step(trained: Path, finetuned: Finetuned) -> None:
    losses = [finetuned(trained, f"a{n}", tried(), accumulate=n).metadata["loss"] for n in (1, 2, 4)]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)
    with pytest.raises(
        UserError, match="batch_size 8 cannot be shared by 1 processes in 3 parts: give a multiple of 3"
    ):
        finetuned(trained, "a3", tried(), accumulate=3)


def test_an_epoch_sees_each_example_once(trained: Path, finetuned: Finetuned, monkeypatch: pytest.MonkeyPatch) -> None:
    from selfloop.finetune.offline import encoding

    orders = []

    class Watched(Encoded):
        def __init__(self, policy: Any, examples: Any, order: Any, *more: Any) -> None:
            orders.append((len(examples), list(order)))
            super().__init__(policy, examples, order, *more)

    monkeypatch.setattr(encoding, "Encoded", Watched)
    made = finetuned(trained, "epochs", tried(), duration="epochs", epochs=2)
    [(total, order)] = orders
    assert total == 16
    assert sorted(order[:16]) == sorted(order[16:]) == list(range(16))
    assert order[:16] != order[16:]
    assert made.metadata["steps"] == 4


@pytest.mark.parametrize(("method", "lr"), [("dpo", 5e-3), ("nft,normalizer=5.0", 2e-2), ("kto", 2e-2)])
def test_each_method_prefers_the_good_completions_more_than_before(
    plain: Path, finetuned: Finetuned, method: str, lr: float
) -> None:
    made = finetuned(plain, "made", tried(), method=method, steps=12, lr=lr, batch_size=16)
    assert gap(made.path, tried()) > gap(plain, tried()) + 0.1
    assert made.metadata["method"] == method
    assert np.isfinite(made.metadata["loss"])


@pytest.mark.parametrize("method", ["nft", "dpo"])
def test_a_position_scheme_is_kept_by_the_methods_that_can(trained: Path, finetuned: Finetuned, method: str) -> None:
    made = finetuned(trained, method, tried(), method=method, steps=6, lr=5e-3)
    assert gap(made.path, tried()) > gap(trained, tried())


@pytest.mark.parametrize("method", ["nft", "dpo", "kto"])
def test_each_method_can_be_repeated(plain: Path, finetuned: Finetuned, method: str) -> None:
    assert digest(finetuned(plain, "a", tried(), method=method)) == digest(
        finetuned(plain, "b", tried(), method=method)
    )


def test_the_first_loss_of_dpo_is_log_two(plain: Path, finetuned: Finetuned) -> None:
    made = finetuned(plain, "dpo", tried(), method="dpo", steps=1)
    assert made.metadata["loss"] == pytest.approx(np.log(2), rel=1e-5)


@pytest.mark.parametrize(
    ("method", "examples", "needs"),
    [
        ("sft", [e for e in tried() if not e.good], "good ones with a weight"),
        ("nft", tried(rate=1.0), "ones of groups that are partly good"),
        ("dpo", tried(rejected=""), "pairs of a better and a worse completion"),
    ],
)
def test_examples_that_a_method_cannot_use_are_told(
    plain: Path, finetuned: Finetuned, method: str, examples: list[Example], needs: str
) -> None:
    with pytest.raises(UserError, match=f"can be trained on with method '{method}', which needs {needs}"):
        finetuned(plain, "none", examples, method=method)
    handed = finetuned(plain, "as it was", examples, method=method, when_nothing="keep policy")
    assert handed.metadata["steps"] == 0
    assert handed.metadata["examples"]["newest"] == len(examples)
    assert digest(handed) == json.loads((plain / "manifest.json").read_text())["digest"]


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_weights_are_refused_where_a_method_knows_none(plain: Path, finetuned: Finetuned, method: str) -> None:
    with pytest.raises(UserError, match=f"Method '{method}' knows no weights"):
        finetuned(plain, "weighted", tried(weight=0.5), method=method)


def test_a_position_scheme_is_refused_by_kto(trained: Path, finetuned: Finetuned) -> None:
    with pytest.raises(UserError, match="'kto' cannot keep this policy's position scheme"):
        finetuned(trained, "kto", tried(), method="kto")


OWN = '''
from pydantic import BaseModel, Field

from selfloop.finetune.offline.methods import Method
from selfloop.finetune.offline.methods.sft import Sft


class Rounds(BaseModel):
    seen: int = 0


class Cautious(Sft):
    """SFT that takes no wrong completion, and none that is longer than the round's number allows."""

    name = "cautious"
    keeps = Rounds
    first: int = Field(1, ge=1, description="Characters of a completion in the first round.")

    def train(self, given, state):
        allowed = self.first + state.seen
        assert given.examples
        short = [e for e in given.examples if len(e.completion) <= allowed] or given.examples
        order = given.order % len(short)
        return self(given._replace(examples=short, order=order)), Rounds(seen=state.seen + 1)
'''


def test_a_method_of_ones_own_has_parameters_and_remembers_rounds(
    plain: Path, tmp_path: Path, finetuned: Finetuned, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_method.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    method, state = "own_method:Cautious,first=2", sealed_value(tmp_path / "none", {})
    for number in (1, 2):
        finetuned(plain, f"round {number}", tried(), method=method, state=state)
        state = Artifact(uri=str(tmp_path / f"round {number} state"))
        assert read_json(state.path) == {"method": {"strategy": method, "seen": number}}
    with pytest.raises(UserError, match="'first' of the method 'own_method:Cautious' cannot be '0'"):
        Method.parse("own_method:Cautious,first=0")


def test_what_a_method_can_use_follows_from_its_traits() -> None:
    examples = to_batch(Example, [e._replace(weight=w) for w in (0.0, 1.0) for e in tried(count=1, levels=[1])])
    usable = {name: kind().usable(examples).to_pylist() for name, kind in Method.members().items()}
    assert usable == {
        "sft": [False, False, True, False],
        "self-distilled": [False, False, True, False],
        "nft": [True, True, True, True],
        "dpo": [True, False, True, False],
        "kto": [False, False, True, True],
    }
    assert {name for name, kind in Method.members().items() if kind.learns_from_wrong} == {"nft", "kto"}
    assert {name for name, kind in Method.members().items() if kind.needs_pairs} == {"dpo"}
