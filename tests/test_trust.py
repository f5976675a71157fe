"""A policy whose maker's code writes a file: through no door does it run, but where a person named that code."""

import ast
import json
import shutil
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import selfloop
from kfp.dsl import Model
from selfloop.artifacts import manifest_of, seal, write_json
from selfloop.errors import UserError
from selfloop.fetch import FetchParams, check_source, fetch_policy
from selfloop.filter.selectors.diversity import Embedder
from selfloop.generate.engines import open_engine
from selfloop.generate.engines.vllm import open_vllm
from selfloop.generate.params import DecodingParams
from selfloop.lineage import record
from selfloop.lineage.registry import Registry
from selfloop.modes.inprocess import run
from selfloop.modes.reproducing import reproduce
from selfloop.policy import check_policy, fresh, load, parts, save
from selfloop.profiles import find_profile
from selfloop.recipe import find_recipe
from selfloop.store import open_store
from selfloop.trust import TRUSTED, check_code, code_digest, reading, trust, trusted
from selfloop.verify.verifiers import reward_model

from .conftest import tracked_run

pytestmark = pytest.mark.slow

CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

Path({ran!r}).touch()

class OwnConfig(LlamaConfig): pass
class OwnForCausalLM(LlamaForCausalLM):
    own, config_class = True, OwnConfig
class OwnTokenizer(PreTrainedTokenizerFast): pass
"""
CLASSES = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
TOKENIZER = {"AutoTokenizer": [None, "own.OwnTokenizer"]}
REFUSED = r"runs Python code of its maker's own \(.*config.json has an auto_map\): read its \*.py files, and add "


def changed(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the code writes."""
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setenv(TRUSTED, "")
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # nor does an answer to a question count
    return tmp_path / "ran"


@pytest.fixture
def plain(trained: Path, tmp_path: Path) -> Path:
    """A policy without code."""
    return shutil.copytree(trained, tmp_path / "plain", ignore=shutil.ignore_patterns("manifest.json", "sidecar.json"))


@pytest.fixture
def hostile(plain: Path, ran: Path, tmp_path: Path) -> Path:
    """A policy with code, that says of itself that it is trusted."""
    place = shutil.copytree(plain, tmp_path / "hostile")
    (place / "own.py").write_text(CODE.format(ran=str(ran)))
    changed(place / "config.json", auto_map=CLASSES, trust_remote_code=True)
    changed(place / "tokenizer_config.json", auto_map=TOKENIZER)
    write_json(place, {"trust_remote_code": True}, "trust.json")
    seal(place, "Model", stage="fetch_policy", params={"trust_remote_code": True})
    return place


def an_adapter(base: Path, place: Path, like: str = "../plain") -> Path:
    """An adapter on a policy, made without reading that policy; its tokenizer has no code."""
    import torch
    from safetensors.torch import save_file

    place.mkdir()
    about = {"peft_type": "LORA", "r": 1, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
    write_json(place, about | {"base_model_name_or_path": "x"}, "adapter_config.json")
    save_file({"x": torch.zeros(1)}, place / "adapter_model.safetensors")
    write_json(place, {"digest": manifest_of(base).digest}, "base.json")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(base / like / name, place / name)
    seal(place, "Model")
    return place


def fetched(source: str | Path, place: Path) -> Path:
    fetch_policy.into(fetch_policy.out(policy=Model(uri=str(place))), FetchParams(source=str(source)))
    return place


def beside(hostile: Path, place: Path) -> Path:
    """An adapter whose base lies beside it, as in a store."""
    shutil.copytree(hostile, place / manifest_of(hostile).digest)
    return an_adapter(hostile, place / "adapter")


def noted(hostile: Path, place: Path) -> Path:
    """An adapter that says where its base lies."""
    made = an_adapter(hostile, place / "adapter")
    write_json(made, {"base": str(hostile)}, "sidecar.json")
    return made


def with_own_tokenizer(hostile: Path, place: Path) -> Path:
    """An adapter with the code, on a base without."""
    base = shutil.copytree(hostile.parent / "plain", place / "base")
    seal(base, "Model")
    made = an_adapter(base, place / "adapter", ".")
    shutil.copyfile(hostile / "own.py", made / "own.py")
    changed(made / "tokenizer_config.json", auto_map=TOKENIZER)
    write_json(made, {"base": str(base)}, "sidecar.json")
    return made


ADAPTERS = [beside, noted, with_own_tokenizer]
Reader = Callable[[Path], object]
READERS: dict[str, Reader] = {
    "check_source": lambda place: check_source(str(place)),
    "fetch": lambda place: fetched(place, place.parent / "fetched"),
    "load": load,
    "fresh": fresh,
    "transformers": lambda place: open_engine(DecodingParams(engine="transformers"), str(place), "digest"),
    "vllm": lambda place: open_vllm(DecodingParams(engine="vllm"), parts(place)),
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize("adapter", [None, *ADAPTERS], ids=lambda make: make.__name__ if make else "whole")
def test_no_reader_runs_the_code(
    hostile: Path, ran: Path, tmp_path: Path, adapter: Callable[[Path, Path], Path] | None, reader: Reader
) -> None:
    (tmp_path / "given").mkdir()
    place = adapter(hostile, tmp_path / "given") if adapter else hostile
    with pytest.raises(UserError, match=REFUSED):
        reader(place)
    assert not ran.exists()


@pytest.mark.parametrize("read", [reward_model.loaded, lambda place: Embedder(Path(place))], ids=["judge", "embedder"])
def test_neither_do_reward_models_and_embedders(hostile: Path, ran: Path, read: Callable[[str], object]) -> None:
    with pytest.raises(UserError, match=REFUSED):
        read(str(hostile))
    assert not ran.exists()


def test_a_base_in_the_store_brings_no_code_either(
    hostile: Path, ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SELFLOOP_STORE", str(tmp_path / "store"))
    open_store(str(tmp_path / "store")).put(hostile)
    adapter = an_adapter(hostile, tmp_path / "adapter")
    shutil.rmtree(hostile)
    for reader in READERS.values():
        with pytest.raises(UserError, match=REFUSED):
            reader(adapter)
    assert not ran.exists()


@pytest.mark.usefixtures("client")
def test_neither_a_registry_nor_what_is_restored_and_reproduced_from_it_can_say_that_code_is_trusted(
    hostile: Path, ran: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    name = "length-generalization-addition"
    tracked_run("length-generalization", small, tmp_path / "a", {"rounds": 1, "gate": {"require": "nothing"}})
    registry = Registry(name)
    was = record.read(registry.versions()[2].tag("record"))
    swapped = record.kept({"champion": Model(uri=str(hostile))})
    trusting = was.settings | {"fetch": {"trust_remote_code": True}}
    for forged in (
        was.model_copy(update={"roles": swapped, "champions": swapped, "before": was.before | swapped}),
        was.model_copy(update={"settings": was.settings | {"policy": str(hostile)}, "champions": {}}),
        was.model_copy(update={"settings": trusting | {"policy": str(hostile)}, "champions": {}}),
    ):
        registry.tag(2, {"record": record.write(forged)})
        with pytest.raises(UserError, match=f"{REFUSED}|trust_remote_code"):
            reproduce(name, "2", tmp_path / "again")
    registry.tag(2, {"record": record.write(was.model_copy(update={"roles": swapped}))})
    recipe = find_recipe("length-generalization")
    with pytest.raises(UserError, match=REFUSED):
        run(recipe, recipe.resolve(small, {"origin": f"{name}/2", "first": 2}), tmp_path / "restored")
    registry.register("b", str(open_store(str(tmp_path / "store")).put(hostile)), "", {"digest": "x"}, "")
    with pytest.raises(UserError, match=REFUSED):
        fetched(f"models:/{name}/{max(registry.versions())}", tmp_path / "fetched")
    assert not ran.exists()


def test_code_runs_that_a_person_named_and_stays_with_what_is_trained(hostile: Path, ran: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        load(hostile)
    assert f"--trust-code {code_digest(hostile)} to the command" in str(refused.value)
    trust([code_digest(hostile)])
    policy = load(fetched(hostile, tmp_path / "fetched"))
    assert policy.model.own
    assert type(policy.tokenizer).__name__ == "OwnTokenizer"
    assert ran.exists()
    save(policy, tmp_path / "saved")
    assert load(tmp_path / "saved").model.own
    trust([])
    with pytest.raises(UserError, match=REFUSED):
        load(tmp_path / "saved")


def test_code_that_has_changed_is_other_code(hostile: Path) -> None:
    trust([code_digest(hostile)])
    check_code(hostile)
    for name in ("own.py", "custom_generate/generate.py"):
        (hostile / name).parent.mkdir(exist_ok=True)
        with (hostile / name).open("a") as file:
            file.write("# more\n")
        with pytest.raises(UserError, match=REFUSED):
            check_code(hostile)
        trust([code_digest(hostile)])


def test_trust_in_one_policy_is_none_in_another(hostile: Path, plain: Path) -> None:
    trust([code_digest(hostile)])
    assert reading(hostile) == {"local_files_only": True, "trust_remote_code": True}
    assert reading(plain) == {"local_files_only": True, "trust_remote_code": False}


@pytest.mark.parametrize(
    ("file", "value", "why"),
    [
        ("config.json", {"auto_map": {"AutoModel": "someone/else--own.Own"}}, "runs Python code from another place"),
        ("config.json", {"text_config": {"auto_map": {"AutoModel": "own.Own"}}}, "code that is not there"),
        ("config.json", {"parts": [{"auto_map": {}}]}, "code that is not there"),
        ("config.json", {"attn_implementation": "someone/kernel"}, "runs Python code from another place"),
        ("config.json", {"_attn_implementation_internal": {"": "a/b"}}, "runs Python code from another place"),
        ("generation_config.json", {"auto_map": "own.Own"}, "code that is not there"),
        ("preprocessor_config.json", {"auto_map": {"AutoProcessor": "own.Own"}}, "code that is not there"),
    ],
)
def test_code_that_nobody_can_have_read_is_refused_whatever_is_trusted(
    plain: Path, file: str, value: dict[str, Any], why: str
) -> None:
    write_json(plain, json.loads((plain / file).read_text()) | value if (plain / file).exists() else value, file)
    trust([code_digest(plain)])
    with pytest.raises(UserError, match=why):
        check_policy(plain)


def test_python_files_that_nothing_asks_for_are_left_behind(plain: Path, tmp_path: Path) -> None:
    (plain / "own.py").write_text("raise SystemExit")
    assert not list(fetched(plain, tmp_path / "fetched").rglob("*.py"))


@pytest.mark.parametrize("digest", ["", "yes", "0" * 12, "g" * 64, "0" * 65])
def test_only_a_whole_digest_is_trust(digest: str) -> None:
    with pytest.raises(UserError, match="--trust-code takes the 64 hex digits"):
        trust([digest])


def test_only_this_command_line_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from selfloop.cli.app import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for arguments, expected in (([], []), (["--trust-code", "a" * 64, "--trust-code", "b" * 64], ["a" * 64, "b" * 64])):
        monkeypatch.setenv(TRUSTED, "c" * 64)
        monkeypatch.setattr(sys, "argv", ["selfloop", "run", "length-generalization", "--dry-run", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        assert trusted() == expected


def test_what_is_trusted_is_recorded_and_reaches_the_pods_of_a_compiled_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from selfloop.modes.compiling import compile_pipeline

    monkeypatch.setenv(TRUSTED, "")
    recipe, hardware = find_recipe("length-generalization"), find_profile("cpu")
    for digest in ("a" * 64, "b" * 64):
        trust([digest])
        assert record.software()["trusted code"] == digest
        compile_pipeline(recipe, recipe.resolve({"rounds": 1}), tmp_path / "whole.yaml", True, hardware)
        assert digest in (tmp_path / "whole.yaml").read_text()
    trust([])
    assert "trusted code" not in record.software()
    compile_pipeline(recipe, recipe.resolve({"rounds": 1}), tmp_path / "whole.yaml", True, hardware)
    assert TRUSTED not in (tmp_path / "whole.yaml").read_text()


def test_vllm_is_told_what_transformers_is_told(hostile: Path, plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM is in an environment of its own: here stands only what it is called with."""
    from selfloop.generate.engines import vllm

    told: list[dict[str, Any]] = []
    engine = types.SimpleNamespace(from_engine_args=told.append)
    monkeypatch.setitem(sys.modules, "vllm", types.SimpleNamespace(EngineArgs=lambda **all: all, LLMEngine=engine))
    shape = vllm.shape_of(DecodingParams(), parts(plain))
    with pytest.raises(UserError, match=REFUSED):
        vllm.Core(shape, hostile)
    trust([code_digest(hostile)])
    for place in (plain, hostile):
        vllm.Core(shape, place)
    assert [each["trust_remote_code"] for each in told] == [False, True]


def test_whatever_reads_a_policy_asks_for_trust() -> None:
    """Each ``from_pretrained`` of a model's or a tokenizer's class is called with ``**reading(place)``."""
    calls = [
        (path.name, ast.unparse(node))
        for path in Path(selfloop.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".from_pretrained")
    ]
    assert len(calls) >= 9
    assert [each for each in calls if "**reading(" not in each[1] and "PeftModel." not in each[1]] == []
