"""Selectors that keep one of several rollouts that are alike: exactly, nearly, by n-grams, by embedding."""

from pathlib import Path

import pytest
import torch
from selfloop.errors import UserError
from selfloop.filter.selectors.diversity import Embedder
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from .conftest import Judged, Keep, group

LONG = "first add the two numbers then carry the one and write down the sum of the tens at the end"


def test_unique_keeps_the_first_of_each_text_of_a_task(keep: Keep) -> None:
    given = [*group("a", ("x", True), ("y", True), ("x", True)), *group("b", ("x", True))]
    made = keep(given, "unique")
    assert [(e.task, e.completion) for e in made.examples] == [("a", "x"), ("a", "y"), ("b", "x")]
    assert made.rejected == {"duplicate": 1}


def test_minhash_finds_near_duplicates_over_all_tasks_of_the_round(keep: Keep) -> None:
    near = LONG.replace("at the end", "at last")
    given = [
        *group("a", (LONG, True), ("something else entirely, and not short either, to tell apart", True)),
        *group("b", (near, True), (LONG, True)),
    ]
    made = keep(given, "minhash,ngram=2,similarity=0.7")
    assert made.texts == [given[0].rollout.completion, given[1].rollout.completion]
    assert made.rejected == {"near duplicate": 2}
    assert keep(given, "minhash,ngram=2,similarity=0.95").texts == [*made.texts, near]


def test_minhash_takes_the_prompt_into_account_where_that_is_asked_for(keep: Keep) -> None:
    given = [row for task in ("apples", "bananas") for row in group(task, ("the sum is 12", True))]
    assert len(keep(given, "minhash,ngram=2").texts) == 1
    assert len(keep(given, "minhash,ngram=2,compared=prompt-and-completion").texts) == 2


@pytest.mark.parametrize(("similarity", "permutations"), [(0.05, 64), (0.95, 64), (0.05, 1024), (0.95, 1024)])
def test_minhash_works_at_every_bound_of_its_parameters(keep: Keep, similarity: float, permutations: int) -> None:
    given = group("a", (LONG, True), (LONG, True), ("3 4 5", True))
    made = keep(given, f"minhash,ngram=2,similarity={similarity},permutations={permutations}")
    assert made.texts == [LONG, "3 4 5"]


@pytest.mark.parametrize("text", ["", "a", "a b"])
def test_texts_shorter_than_an_n_gram_are_compared_as_a_whole(keep: Keep, text: str) -> None:
    made = keep(group("a", (text, True), ("z", True), (text, True)), "minhash,ngram=4")
    assert made.texts == [text, "z"]
    assert keep(group("a", (text, True), ("z", True), (text, True)), "diverse,ngram=4,overlap=0").texts == [text, "z"]


def test_diverse_keeps_what_shares_few_n_grams_with_what_is_kept_of_its_task(keep: Keep) -> None:
    given = [*group("a", ("a b c d", True), ("a b c e", True), ("a x y z", True)), *group("b", ("a b c d", True))]
    made = keep(given, "diverse,ngram=2,overlap=0.5")
    assert [(e.task, e.completion) for e in made.examples] == [("a", "a b c d"), ("a", "a x y z"), ("b", "a b c d")]
    assert made.rejected == {"too like another of its task": 1}
    assert keep(given, "diverse,ngram=2,overlap=0.7").rejected == {}


def test_n_grams_are_of_words_or_of_characters(keep: Keep) -> None:
    given = group("a", ("12345", True), ("12346", True), ("98765", True))
    assert keep(given, "diverse,ngram=2,overlap=0.5").texts == ["12345", "12346", "98765"]
    assert keep(given, "diverse,ngram=2,overlap=0.5,ngram_of=characters").texts == ["12345", "98765"]


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with random weights, in which a text's vector is that of its words."""
    place = tmp_path_factory.mktemp("embedder")
    words = ["[PAD]", "[UNK]", *"abcdefghij"]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    fast.save_pretrained(place)
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=16, **size)).save_pretrained(place)
    return place


def test_an_embedding_is_the_mean_over_a_text_s_tokens_whatever_it_is_padded_with(embedder: Path) -> None:
    embed = Embedder(embedder)
    alone, padded = embed(["a b"])[0], embed(["a b", "c d e f g h i"])[0]
    assert padded == pytest.approx(alone, abs=1e-5)
    assert (alone**2).sum() == pytest.approx(1, abs=1e-5)
    model = BertModel.from_pretrained(embedder).eval()
    with torch.inference_mode():
        mean = model(torch.tensor([[2, 3]])).last_hidden_state[0].mean(0)
    assert alone == pytest.approx((mean / mean.norm()).numpy(), abs=1e-5)


def test_a_text_longer_than_the_model_can_take_is_cut(embedder: Path) -> None:
    embed = Embedder(embedder)
    assert embed(["a " * 40])[0] == pytest.approx(embed(["a " * 16])[0], abs=1e-5)


def attempts() -> list[Judged]:
    return [*group("a", ("a b", True), ("a b ", True), ("h i j", True)), *group("b", ("a b", True))]


def test_diverse_by_embedding_keeps_what_is_far_from_what_is_kept_of_its_task(keep: Keep, embedder: Path) -> None:
    embed = Embedder(embedder)
    near, far = embed(["a b", "a b "]), embed(["a b", "h i j"])
    assert near[0] @ near[1] > 0.999 > 0.9 > far[0] @ far[1]
    made = keep(attempts(), f"diverse-by-embedding,embedder={embedder},cosine=0.95")
    assert [(e.task, e.completion) for e in made.examples] == [("a", "a b"), ("a", "h i j"), ("b", "a b")]
    assert made.rejected == {"too like another of its task": 1}


def test_a_folder_without_safetensors_is_no_embedder(keep: Keep, tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("pickled")
    torch.save({}, place / "pytorch_model.bin")
    with pytest.raises(UserError, match="holds no safetensors: give the folder of a sentence-embedding model"):
        keep(attempts(), f"diverse-by-embedding,embedder={place}")


def test_a_folder_that_is_no_model_is_no_embedder(keep: Keep, tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("odd")
    (place / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="is no embedding model: "):
        keep(attempts(), f"diverse-by-embedding,embedder={place}")
