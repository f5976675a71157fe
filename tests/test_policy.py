import hashlib
import json
import os
import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kfp.dsl import Model
from selfloop.artifacts import check, manifest_of, seal
from selfloop.environments.addition import Addition
from selfloop.errors import UserError
from selfloop.fetch import FetchParams, check_source, fetch_policy
from selfloop.finetune.offline.encoding import Encoded
from selfloop.generate import GenerateParams, draw
from selfloop.generate.engines.vllm import configured_ends
from selfloop.policy import (
    KEPT_LOADED,
    Policy,
    check_policy,
    end_tokens,
    fresh,
    load,
    next_positions,
    position_ids,
    restart_ids,
    restarted,
    save,
    scratch_tokenizer,
)
from selfloop.records import Example, Task
from selfloop.seeds import seed_of
from selfloop.store import open_store

from .byte_policy import CHAT_TOKENS, CHATML, byte_policy


@pytest.fixture
def place(trained: Path, tmp_path: Path) -> Path:
    """A copy of a policy, to damage."""
    return shutil.copytree(trained, tmp_path / "policy", ignore=shutil.ignore_patterns("manifest.json", "sidecar.json"))


def refusal(directory: Path) -> str:
    """The one sentence with which a directory is refused."""
    with pytest.raises(UserError) as refused:
        check_policy(directory)
    sentence = str(refused.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def test_a_policy_passes_its_check(place: Path) -> None:
    check_policy(place)


def test_a_directory_without_configuration_is_refused(place: Path) -> None:
    (place / "config.json").unlink()
    assert refusal(place) == f"{place} is not a policy: it has no config.json."


def test_a_policy_without_weights_is_refused(place: Path) -> None:
    (place / "model.safetensors").unlink()
    assert refusal(place) == f"{place} is a policy without weights: it has no *.safetensors file."


def test_weights_in_a_pickle_are_refused_by_name(place: Path) -> None:
    torch.save(fresh(place).model.state_dict(), place / "pytorch_model.bin")
    (place / "model.safetensors").unlink()
    assert "holds its weights as a pickle (pytorch_model.bin)" in refusal(place)
    with pytest.raises(UserError, match="as a pickle"):
        load(place)


@pytest.mark.parametrize("share", [0, 0.0005, 0.1, 0.5, 0.999])
def test_weights_that_are_cut_off_are_refused_by_name(place: Path, share: float) -> None:
    path = place / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert refusal(place).startswith(f"{path} is cut off or damaged")


def test_a_missing_shard_of_the_weights_is_refused_by_name(place: Path) -> None:
    policy = fresh(place)
    (place / "model.safetensors").unlink()
    policy.model.save_pretrained(place, max_shard_size="5KB")
    shards = sorted(place.glob("*.safetensors"))
    assert len(shards) > 1
    check_policy(place)
    shards[-1].unlink()
    assert shards[-1].name in refusal(place)


def test_fetching_copies_what_a_policy_needs_and_nothing_that_runs(place: Path, tmp_path: Path) -> None:
    for name in ("optimizer.pt", "pytorch_model.bin", ".git-credentials", ".cache/lock"):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text("not to be copied")
    policy = Model(uri=str(tmp_path / "fetched"))
    fetch_policy.into(fetch_policy.out(policy=policy), FetchParams(source=str(place)))
    assert manifest_of(policy.path).files.keys() == {
        "MLmodel",
        "components/tokenizer/tokenizer.json",
        "components/tokenizer/tokenizer_config.json",
        "config.json",
        "generation_config.json",
        "input_example.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert equal_weights(load(policy.path), load(place))


def test_a_policy_of_an_earlier_run_keeps_its_digest_when_it_is_fetched(trained: Path, tmp_path: Path) -> None:
    policy = Model(uri=str(tmp_path / "fetched"))
    fetch_policy.into(fetch_policy.out(policy=policy), FetchParams(source=str(trained)))
    assert policy.metadata["digest"] == manifest_of(trained).digest


@pytest.mark.parametrize("manifest", ['{"name": "of another program"}', None], ids=["foreign", "outdated"])
def test_fetching_seals_what_it_found_whatever_manifest_lay_there(
    place: Path, tmp_path: Path, manifest: str | None
) -> None:
    if manifest is None:
        seal(place, "Model")
        config = json.loads((place / "config.json").read_text())
        (place / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-5}))
    else:
        (place / "manifest.json").write_text(manifest)
    first, second = (Model(uri=str(tmp_path / name)) for name in ("first", "second"))
    fetch_policy.into(fetch_policy.out(policy=first), FetchParams(source=str(place)))
    fetch_policy.into(fetch_policy.out(policy=second), FetchParams(source=first.path))
    assert manifest_of(second.path).stage == "fetch_policy"
    assert manifest_of(second.path).digest == manifest_of(first.path).digest


def test_what_is_no_policy_is_not_fetched(place: Path, tmp_path: Path) -> None:
    (place / "config.json").unlink()
    with pytest.raises(UserError, match=r"it has no config\.json"):
        fetch_policy.into(fetch_policy.out(policy=Model(uri=str(tmp_path / "fetched"))), FetchParams(source=str(place)))
    assert not (tmp_path / "fetched" / "manifest.json").exists()


@pytest.mark.parametrize("source", ["/no/where", "./nowhere", "../no/where", "~/nowhere", "nowhere", "too/many/parts"])
def test_a_source_that_is_not_there_is_refused(source: str) -> None:
    with pytest.raises(UserError, match=f"There is no policy at {source}: give a directory, a model id"):
        check_source(source)


def test_a_policy_in_a_store_is_fetched_from_there(trained: Path, tmp_path: Path) -> None:
    kept = open_store(str(tmp_path / "store")).put(trained)
    fetch_policy.into(fetch_policy.out(policy=Model(uri=str(tmp_path / "fetched"))), FetchParams(source=kept))
    assert check(tmp_path / "fetched").digest == check(trained).digest


@pytest.mark.parametrize("source", ["models:/policy", "models:/a/b/c", "models:/@champion"])
def test_a_source_in_the_registry_that_names_no_version_is_refused(source: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"'{source}' names no version: write models:/NAME@champion"):
        fetch_policy.into(fetch_policy.out(policy=Model(uri=str(tmp_path / "fetched"))), FetchParams(source=source))


def test_a_directory_that_is_no_policy_is_refused_as_a_source(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"it has no config\.json"):
        check_source(str(tmp_path))


def test_a_policy_and_a_model_id_are_taken_as_sources(place: Path) -> None:
    check_source(str(place))
    check_source("owner/name")


tokens = st.lists(st.lists(st.integers(1, 7), max_size=9), min_size=1, max_size=4)


some_tokens = st.lists(st.integers(1, 7), max_size=2)


def expected_positions(row: list[int], at: list[int], after: list[int]) -> list[int]:
    positions: list[int] = []
    for index, token in enumerate(row):
        starts = index == 0 or token in at or row[index - 1] in after
        positions.append(1 if starts else positions[-1] + 1)
    return positions


@given(tokens, some_tokens, some_tokens, st.integers(0, 7), st.integers(0, 3), st.sampled_from(["left", "right"]))
@settings(max_examples=200, deadline=None)
def test_positions_restart_where_they_should_whatever_the_padding(
    rows: list[list[int]], at: list[int], after: list[int], pad: int, more: int, side: str
) -> None:
    longest = max(map(len, rows)) + more
    if longest == 0:
        return
    gaps = [[pad] * (longest - len(row)) for row in rows]
    padded = [gap + row if side == "left" else row + gap for gap, row in zip(gaps, rows, strict=True)]
    real = [
        [0] * len(gap) + [1] * len(row) if side == "left" else [1] * len(row) + [0] * len(gap)
        for gap, row in zip(gaps, rows, strict=True)
    ]
    mask = torch.tensor(real)
    positions = restarted(torch.tensor(padded), mask, at, after)
    assert positions.shape == mask.shape
    for row, counted, of_row in zip(rows, positions, mask, strict=True):
        assert counted[of_row == 1].tolist() == expected_positions(row, at, after)


@given(st.lists(st.integers(0, 7), min_size=1, max_size=9), some_tokens, some_tokens)
def test_positions_counted_on_token_by_token_are_those_of_the_whole_text(
    row: list[int], at: list[int], after: list[int]
) -> None:
    restarts = {"at": at, "after": after}
    position, positions = torch.ones(1, 1, dtype=torch.long), [1]
    for before, token in pairwise(row):
        position = next_positions(restarts, torch.tensor([[before]]), torch.tensor([[token]]), position)
        positions.append(int(position))
    assert positions == expected_positions(row, at, after)


@given(st.integers(1, 50), st.integers(0, 2**32), st.integers(0, 20))
@settings(max_examples=30, deadline=None)
def test_in_a_sum_both_numbers_count_from_one_and_so_does_the_answer(n: int, seed: int, padding: int) -> None:
    [task] = Addition().tasks(n, 1, seed)
    tokenizer = scratch_tokenizer(Addition.alphabet)
    restarts = restart_ids(Addition.restarts, tokenizer)
    encoded = tokenizer(task.prompt, padding="max_length", max_length=2 * n + 2 + padding, return_tensors="pt")
    [positions] = restarted(encoded["input_ids"], encoded["attention_mask"], restarts["at"], restarts["after"])
    number = list(range(1, n + 1))
    assert positions[padding:].tolist() == [*number, n + 1, *number, 1]


def test_a_policy_keeps_its_position_scheme_on_disk(trained: Path) -> None:
    policy = load(trained)
    encoded = policy.tokenizer("12+34=", return_tensors="pt")
    positions = position_ids(policy, encoded["input_ids"], encoded["attention_mask"])
    assert positions is not None
    assert positions.tolist() == [[1, 2, 3, 1, 2, 1]]


def test_a_policy_without_a_scheme_counts_as_its_library_does(trained: Path) -> None:
    policy = fresh(trained)
    del policy.model.config.position_restarts
    ones = torch.ones(1, 3, dtype=torch.long)
    assert position_ids(policy, ones, ones) is None


@given(st.text("0123456789+=", min_size=1, max_size=30))
@settings(max_examples=50, deadline=None)
def test_a_scratch_tokenizer_has_one_token_a_character(text: str) -> None:
    tokenizer = scratch_tokenizer(Addition.alphabet)
    ids = tokenizer(text)["input_ids"]
    assert len(ids) == len(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer(text + tokenizer.eos_token)["input_ids"] == [*ids, tokenizer.eos_token_id]
    assert len(tokenizer) == len(Addition.alphabet) + 2


MARKS = ("<op>", "</op>", "<op>>")


@given(st.lists(st.sampled_from([*"0123456789+=<>/op", *MARKS]), min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_a_mark_is_one_token_wherever_it_stands_and_decoding_undoes_encoding(pieces: list[str]) -> None:
    tokenizer, text = scratch_tokenizer("0123456789+=<>/op", MARKS), "".join(pieces)
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert tokenizer.convert_ids_to_tokens(ids) == re.findall("<op>>|</op>|<op>|.", text)


def test_a_tokenizer_without_marks_is_the_one_that_it_was() -> None:
    inner = scratch_tokenizer(Addition.alphabet).backend_tokenizer.to_str()
    assert hashlib.sha256(inner.encode()).hexdigest() == (
        "e2323596e17848f00d87ee3c378eb6cff0cc2beb6f836b3aa82d5a12377dac6f"
    )


def equal_weights(a: Policy, b: Policy) -> bool:
    left, right = a.model.state_dict(), b.model.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_what_is_saved_is_loaded_and_saved_again_is_the_same(trained: Path, tmp_path: Path) -> None:
    policy = fresh(trained)
    for name in ("a", "b"):
        save(policy, tmp_path / name)
    save(load(tmp_path / "a"), tmp_path / "again")
    assert equal_weights(policy, load(tmp_path / "again"))
    digests = {seal(tmp_path / name, "Model").digest for name in ("a", "b", "again")}
    assert digests == {manifest_of(trained).digest}


def test_other_weights_have_another_digest(trained: Path, tmp_path: Path) -> None:
    policy = fresh(trained)
    with torch.no_grad():
        next(policy.model.parameters()).view(-1)[0] += 1e-3
    save(policy, tmp_path / "other")
    assert seal(tmp_path / "other", "Model").digest != manifest_of(trained).digest


def test_a_loaded_policy_is_shared_by_digest_and_a_fresh_one_is_not(trained: Path, place: Path) -> None:
    shared = load(trained, "digest of both")
    assert load(place, "digest of both") is shared
    assert load(trained, "another digest").model is not shared.model
    assert fresh(trained).model is not shared.model
    assert not shared.model.training


def test_only_the_last_few_policies_stay_loaded(trained: Path) -> None:
    first = load(trained, "policy 0")
    for number in range(1, KEPT_LOADED):
        load(trained, f"policy {number}")
    assert load(trained, "policy 0") is first  # used last, so it stays longest
    for number in range(KEPT_LOADED, 2 * KEPT_LOADED):
        load(trained, f"policy {number}")
    assert load(trained, "policy 0").model is not first.model


parts = st.lists(st.integers() | st.text(max_size=4), min_size=1, max_size=4)


@given(parts, parts)
def test_different_parts_have_different_seeds_of_63_bits(some: list[int | str], other: list[int | str]) -> None:
    assert (seed_of(*some) == seed_of(*other)) == (some == other)
    assert 0 <= seed_of(*some) < 2**63


def test_seeds_stay_the_same_from_release_to_release() -> None:
    assert seed_of(7, 3, "tasks") == 5027272911841162305


def test_a_token_that_the_model_does_not_know_is_refused_in_a_text_that_holds_it(place: Path) -> None:
    policy = fresh(place)
    policy.tokenizer.add_tokens(["<more>"])
    policy.tokenizer.save_pretrained(place)
    policy = load(place)
    tasks = [Task(prompt, 1, "", prompt, "", max_tokens=2) for prompt in ("1+2=", "1<more>2=")]
    assert len(list(draw(policy, tasks[:1], GenerateParams()))) == 1
    assert len(Encoded(policy, [Example("a", 1, "1+2=", "3", 0)], [0])) == 1
    refused = "holds the token '<more>' of the number 14, and the model knows 14 tokens: take it out of the text"
    with pytest.raises(UserError, match=refused):
        list(draw(policy, tasks, GenerateParams()))
    with pytest.raises(UserError, match=refused):
        Encoded(policy, [Example("a", 1, "1+2=", "3<more>", 0)], [0])


@pytest.mark.parametrize("pad", ["<eos>", "<spare>", None])
def test_a_policy_is_padded_with_a_token_that_its_model_knows(tmp_path: Path, pad: str | None) -> None:
    byte_policy(tmp_path, ("<eos>", "<spare>"), pad=pad or "<spare>", unknown=1)
    if pad is None:
        about = json.loads((tmp_path / "tokenizer_config.json").read_text())
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(about | {"pad_token": None}))
    policy = load(tmp_path)
    tasks = [Task(prompt, 1, "", prompt, "", max_tokens=2) for prompt in ("1", "1+2=")]
    assert len(list(draw(policy, tasks, GenerateParams()))) == 1
    assert policy.tokenizer.pad_token == "<eos>"


@pytest.mark.parametrize(
    ("configured", "ends"),
    [
        ("<|endoftext|>", ["<|im_end|>", "<|endoftext|>"]),
        (["<|endoftext|>", "<|im_end|>"], ["<|im_end|>", "<|endoftext|>"]),
        (None, ["<|im_end|>"]),
    ],
)
def test_what_training_puts_behind_a_text_ends_one(tmp_path: Path, configured: Any, ends: list[str]) -> None:
    place = byte_policy(tmp_path, CHAT_TOKENS, "<|im_end|>", "<|endoftext|>", template=CHATML)
    tokenizer = load(place).tokenizer
    numbers = configured and tokenizer.convert_tokens_to_ids(configured)
    (place / "generation_config.json").write_text(json.dumps({"eos_token_id": numbers} if numbers else {}))
    policy = load(place)
    data = Encoded(policy, [Example("t", 1, "1+2=", "3", 0)], [0])
    assert tokenizer.convert_ids_to_tokens(policy.ends) == ends
    assert end_tokens(tokenizer, configured_ends(place)) == policy.ends
    assert data.tokens[-1] == policy.ends[0]


def test_a_tokenizer_without_an_end_has_that_of_its_configuration() -> None:
    tokenizer = scratch_tokenizer("01")
    tokenizer.eos_token = None
    assert end_tokens(tokenizer, 3) == end_tokens(tokenizer, [3, 3]) == [3]
    assert end_tokens(tokenizer, None) == []


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("config.json", "{", r"config\.json is not JSON \(.*\): copy it again\."),
        ("config.json", "[]", r"config\.json holds no JSON object: copy it again\."),
        ("config.json", "{}", r"cannot be loaded \(ValueError: .*\): copy it again, install what it asks for, or give"),
        ("config.json", '{"model_type": "none-such"}', r"cannot be loaded \(ValueError: .*none-such"),
        ("tokenizer_config.json", "\u00e9", r"tokenizer_config\.json is not JSON"),
        ("tokenizer.json", "{}", r"cannot be loaded \("),
    ],
)
def test_a_policy_that_the_library_cannot_read_is_refused_in_a_sentence(
    place: Path, name: str, text: str, sentence: str
) -> None:
    (place / name).write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=sentence) as refused:
        load(place)
    assert "\n" not in str(refused.value)


def test_a_quantised_policy_says_what_it_asks_for(place: Path) -> None:
    about = json.loads((place / "config.json").read_text())
    quantised = {"quantization_config": {"quant_method": "gptq", "bits": 4}}
    (place / "config.json").write_text(json.dumps(about | quantised))
    with pytest.raises(UserError, match=r"cannot be loaded \(\w+: .*install what it asks for"):
        load(place)


def fetched(source: Path, place: Path) -> Path:
    fetch_policy.into(fetch_policy.out(policy=Model(uri=str(place))), FetchParams(source=str(source)))
    return place


def test_a_link_out_of_a_policy_is_not_followed(place: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    for target in (tmp_path / "secret", Path("../secret"), Path("/etc/passwd"), tmp_path):
        (place / "notes.txt").symlink_to(target)
        with pytest.raises(UserError, match=r"notes.txt is a link that leads out of .*: put the file itself there"):
            fetched(place, tmp_path / "fetched")
        (place / "notes.txt").unlink()
    (place / "notes.txt").symlink_to("config.json")
    copied = fetched(place, tmp_path / "fetched") / "notes.txt"
    assert not copied.is_symlink()
    assert copied.read_text() == (place / "config.json").read_text()


def test_a_revision_in_the_cache_of_the_hub_is_links_to_files_beside_it(place: Path, tmp_path: Path) -> None:
    hub = tmp_path / "hub" / "models--a--b"
    (revision := hub / "snapshots" / "1234").mkdir(parents=True)
    (hub / "blobs").mkdir()
    for path in (path for path in place.iterdir() if path.is_file()):
        shutil.copyfile(path, hub / "blobs" / path.name)
        (revision / path.name).symlink_to(f"../../blobs/{path.name}")
    assert load(fetched(revision, tmp_path / "fetched")).model
    (revision / "notes.txt").symlink_to("../../../../trained")
    with pytest.raises(UserError, match="leads out of"):
        fetched(revision, tmp_path / "again")


def test_devices_pipes_and_files_that_run_as_their_owner_are_refused(place: Path, tmp_path: Path) -> None:
    (file := place / "notes.txt").touch()
    file.chmod(0o4755)
    with pytest.raises(UserError, match="would run with the rights of its owner"):
        fetched(place, tmp_path / "fetched")
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(UserError, match="is no file but a link, a pipe or a device"):
        fetched(place, tmp_path / "fetched")


TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


@pytest.mark.parametrize("inline", [True, False], ids=["in the configuration", "in a file"])
def test_a_chat_template_is_kept_dropped_or_demanded(place: Path, tmp_path: Path, inline: bool) -> None:
    def fetched(name: str, chat: str) -> Policy:
        model = Model(uri=str(tmp_path / name))
        fetch_policy.into(
            fetch_policy.out(policy=model), FetchParams.model_validate({"source": str(place), "chat": chat})
        )
        return load(model.path)

    with pytest.raises(UserError, match="has no chat template, which was asked for: give a model that was tuned"):
        fetched("none", "require")
    if inline:
        config = json.loads((place / "tokenizer_config.json").read_text())
        (place / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": TEMPLATE}))
    else:
        (place / "chat_template.jinja").write_text(TEMPLATE)
    assert fetched("kept", "keep").tokenizer.chat_template == TEMPLATE
    assert fetched("demanded", "require").tokenizer.chat_template == TEMPLATE
    assert fetched("dropped", "drop").tokenizer.chat_template is None
