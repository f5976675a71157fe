"""``fetch_policy``: the policy that a loop begins with, from a directory, the Hub, a store or the registry."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Literal, NamedTuple

from kfp.dsl import Model
from pydantic import Field, field_validator

from selfloop.adapters import is_adapter, note_base, parts
from selfloop.artifacts import MANIFEST, SIDECAR, write_json
from selfloop.errors import UserError
from selfloop.policy import CODE, PICKLES, TRUST, check_policy, described, own_code
from selfloop.stage import Params, stage

TOLD = re.compile(r"\A\{# selfloop #\}.*?\{# end #\}", re.DOTALL)
POLICY_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
REMOTE = ("s3://", "models:/")


class FetchParams(Params):
    """Where a policy comes from."""

    reads = frozenset({"source"})

    source: str = Field(
        "scratch",
        description="A directory, here or on S3, a model id of the Hub, models:/NAME@ALIAS; none is 'scratch'.",
    )
    chat: Literal["keep", "drop", "require"] = Field(
        "keep", description="The chat template: as the policy has it, taken away (prompts are plain text), or a must."
    )
    system: str = Field("", description="The system message that every chat begins with; none is the template's own.")
    template: list[str] = Field(
        [], description="Arguments of the chat template, as enable_thinking=false; a value is JSON, or else a text."
    )
    trust_remote_code: bool = Field(False, description="Copy and run the Python files that the policy's maker wrote.")

    @field_validator("template")
    @classmethod
    def _are_arguments(cls, value: list[str]) -> list[str]:
        for each in value:
            argument(each)
        return value


class FetchedPolicy(NamedTuple):
    """The policy, on this machine."""

    policy: Model


@stage()
def fetch_policy(out: FetchedPolicy, params: FetchParams) -> None:
    """Copy a policy from a directory, the Hub, a store or the registry: safetensors, configuration and tokenizer."""
    from huggingface_hub import snapshot_download

    check_source(params.source, params.trust_remote_code)
    not_its_own = [MANIFEST, SIDECAR]  # what was fetched is sealed here: it may have changed since it was sealed there
    not_its_own += [] if params.trust_remote_code else [CODE, TRUST]
    wanted = [*POLICY_FILES, CODE] if params.trust_remote_code else list(POLICY_FILES)
    place = _place_of(params.source)
    if place is not None:
        leave = shutil.ignore_patterns(*PICKLES, *not_its_own, ".*")
        shutil.copytree(place, out.policy.path, dirs_exist_ok=True, ignore=leave)
        if is_adapter(place):
            note_base(out.policy.path, parts(place).base)
    elif params.source.startswith("s3://"):
        from selfloop.store.s3 import S3Store

        S3Store(params.source).copy_to(Path(out.policy.path), wanted, not_its_own)
    else:
        snapshot_download(params.source, local_dir=out.policy.path, allow_patterns=wanted, ignore_patterns=not_its_own)
        shutil.rmtree(Path(out.policy.path, ".cache"), ignore_errors=True)
    if params.trust_remote_code and own_code(Path(out.policy.path)):
        write_json(out.policy.path, {"trust_remote_code": True}, TRUST)
    check_policy(out.policy.path)
    settle_chat(Path(out.policy.path), params.chat)
    if told := told_by(params):
        tell_template(Path(out.policy.path), told)


def settle_chat(place: Path, chat: str) -> None:
    """Keep, drop or demand a policy's chat template, which is a file of its own or a line of the tokenizer's."""
    config = place / "tokenizer_config.json"
    about = described(config) if config.is_file() else {}
    files = [*place.glob("chat_template*"), *place.glob("additional_chat_templates")]
    if chat == "require" and not files and not about.get("chat_template"):
        raise UserError(
            f"{place} has no chat template, which was asked for: give a model that was tuned for chats, or fetch it "
            "with chat=keep, and its prompts are plain text."
        )
    if chat == "drop":
        for path in files:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if about.pop("chat_template", None) is not None:
            write_json(place, about, config.name)


def tell_template(place: Path, told: str) -> None:
    """Let a policy's chat template begin with what it is told, so that whoever asks the policy asks it alike."""
    config, file = place / "tokenizer_config.json", place / "chat_template.jinja"
    about = described(config) if config.is_file() else {}
    template = file.read_text(encoding="utf-8") if file.is_file() else about.get("chat_template")
    if not isinstance(template, str):
        raise UserError(
            f"{place} has no chat template that 'system' and 'template' could be given to: leave them out, or give a "
            "model that was tuned for chats."
        )
    file.write_text(told + TOLD.sub("", template), encoding="utf-8")


def told_by(params: FetchParams) -> str:
    """What a chat template begins with that is told this; a policy that was told something before forgets it."""
    lines = [f"{{% set {name} = {value} %}}" for name, value in map(argument, params.template)]
    if params.system:
        lines.append(f'{{% set messages = [{{"role": "system", "content": {literal(params.system)}}}] + messages %}}')
    return f"{{# selfloop #}}{''.join(lines)}{{# end #}}" if lines else ""


def argument(text: str) -> tuple[str, str]:
    """Name and value, as Jinja writes it, of an argument of a chat template. Raises ``ValueError`` for other texts."""
    name, equals, value = text.partition("=")
    if not (equals and name.isidentifier()):
        raise ValueError(f"an argument of a chat template is NAME=VALUE, not {text!r}.")
    try:
        said = json.loads(value)
    except ValueError:
        said = value
    return name, literal(said)


def literal(value: str | float | bool | None) -> str:
    """A text, a number, true, false or none in Jinja. Raises ``ValueError`` for other values."""
    if isinstance(value, list | dict):
        raise ValueError(f"an argument of a chat template is a text, a number, true, false or null, not {value!r}.")
    return "none" if value is None else json.dumps(value, ensure_ascii=False).replace("#", "\\u0023")


def check_source(source: str, trusted: bool = False) -> None:
    """Refuse what cannot be the source of a policy, before anything starts."""
    if source.startswith(REMOTE):
        return  # whether it is there, is seen when it is fetched
    if Path(source).is_dir():
        check_policy(source, trusted)
        parts(source)
    elif source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise UserError(f"There is no policy at {source}: give a directory, or a model id of the Hub (owner/name).")


def _place_of(source: str) -> Path | None:
    """The directory on this machine that a source names; none of the Hub's, nor of files on S3 that are no artifact."""
    if source.startswith("models:/"):
        from selfloop.lineage import policy_of

        return policy_of(source)
    if source.startswith("s3://"):
        from selfloop.store import is_key, open_store

        bucket, _, key = source.rstrip("/").rpartition("/")
        return open_store(bucket).get(key) if is_key(key) else None
    return Path(source) if Path(source).is_dir() else None
