"""``fetch_policy``: the policy that a loop begins with, from a directory, a file, the Hub, a store or the registry."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from kfp.dsl import Model
from pydantic import Field, field_validator

from selfloop import gguf
from selfloop.adapters import FILES, is_adapter, note_base, parts
from selfloop.addresses import check_address
from selfloop.artifacts import MANIFEST, SIDECAR, files_in, write_json
from selfloop.environments import find_environment
from selfloop.errors import UserError
from selfloop.flavour import PROMPT
from selfloop.policy import PICKLES, check_policy, check_weights
from selfloop.revisions import HUB, VERSION, commit_of
from selfloop.split import first_prompt
from selfloop.stages import Params, stage
from selfloop.store import CREDENTIALS, is_key, open_store
from selfloop.trust import CODE, asking, described

TOLD = re.compile(r"\A\{# selfloop #\}.*?\{# end #\}", re.DOTALL)
NOT_ITS_OWN = (MANIFEST, SIDECAR)
"""What was fetched is sealed here: it may have changed since it was sealed elsewhere."""


class FetchParams(Params):
    """Where a policy comes from."""

    inherits = frozenset({"environment"})
    reads = frozenset({"source"})

    source: str = Field(
        "scratch",
        description="A directory, here or on S3, a model id of the Hub, models:/NAME@ALIAS, gguf:FILE or "
        "OWNER/NAME#FILE.gguf; none is 'scratch'.",
    )
    chat: Literal["keep", "drop", "require"] = Field(
        "keep", description="The chat template: as the policy has it, taken away (prompts are plain text), or a must."
    )
    system: str = Field("", description="The system message that every chat begins with; none is the template's own.")
    template: list[str] = Field(
        [], description="Arguments of the chat template, as enable_thinking=false; a value is JSON, or else a text."
    )

    environment: str = Field("", description="The taskset that MLflow's input example is of; none has no example.")

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
    check_source(params.source)
    place, target = _place_of(params.source), Path(out.policy.path)
    if place is not None:
        copy_policy(place, target)
        if is_adapter(place):
            note_base(target, parts(place).base)
    elif gguf.is_gguf(params.source):
        gguf.fetch(params.source, target)
    else:
        download = _from_s3 if params.source.startswith("s3://") else _from_hub
        download(params.source, target, FILES)
        if asking(target):
            download(params.source, target, (CODE,))
    check_policy(target)
    check_weights(target)
    settle_chat(target, params.chat)
    if told := told_by(params):
        tell_template(target, told)
    if params.environment:
        note_prompt(target, first_prompt(find_environment(params.environment)))


def _from_hub(source: str, target: Path, wanted: Sequence[str]) -> None:
    from huggingface_hub import snapshot_download

    snapshot_download(
        source,
        revision=commit_of(source, "model"),
        local_dir=target,
        allow_patterns=list(wanted),
        ignore_patterns=list(NOT_ITS_OWN),
    )
    shutil.rmtree(target / ".cache", ignore_errors=True)


def _from_s3(source: str, target: Path, wanted: Sequence[str]) -> None:
    from selfloop.store.s3 import S3Store

    S3Store(source).copy_to(target, wanted, NOT_ITS_OWN)


def copy_policy(source: Path, target: Path) -> None:
    """Copy the files of a policy that are its own: no pickles, nothing hidden, and Python only where it asks for it.

    Raises ``UserError`` for links out of its folder, devices and the like.
    """
    leave = (*PICKLES, *NOT_ITS_OWN, *([] if asking(source) else [CODE]))
    for path in files_in(source, _whole(source)):
        name = path.relative_to(source)
        if any(part.startswith(".") for part in name.parts) or any(map(name.match, leave)):
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / name)


def _whole(place: Path) -> Path:
    """The folder that a policy's links may not leave: its own, or that of all its revisions in the Hub's cache."""
    revisions = place.resolve().parent
    return revisions.parent if revisions.name == "snapshots" and (revisions.parent / "blobs").is_dir() else place


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


def note_prompt(place: Path, prompt: str) -> None:
    """Note a prompt in the configuration of a policy that has one, for MLflow to show."""
    config = place / "config.json"
    about = described(config) if config.is_file() else {}
    if about and about.get(PROMPT) != prompt:
        write_json(place, about | {PROMPT: prompt}, config.name)


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


def check_source(source: str) -> None:
    """Refuse what cannot be the source of a policy, before anything starts; whether it is there on the Hub, on S3 or in
    the registry is seen when it is fetched.
    """
    if source.startswith("s3://"):
        open_store(source)
    elif source.startswith("models:/"):
        check_address(source, CREDENTIALS)
        if not VERSION.fullmatch(source):
            raise UserError(f"'{source}' names no version: write models:/NAME@champion or models:/NAME/VERSION.")
    elif source.startswith(gguf.PREFIX):
        gguf.check_file(gguf.place_of(source))
    elif source.strip() and Path(source).is_dir():
        check_policy(source)
    elif not HUB.fullmatch(source) and not gguf.is_gguf(source):
        raise UserError(
            f"There is no policy at {source}: give a directory, a model id of the Hub (owner/name), or a GGUF file "
            "(gguf:PATH, owner/name#file.gguf)."
        )


def _place_of(source: str) -> Path | None:
    """The directory on this machine that a source names; none of the Hub's, nor of files on S3 that are no artifact."""
    if source.startswith("models:/"):
        from selfloop.lineage import policy_of

        return policy_of(source)
    if source.startswith("s3://"):
        bucket, _, key = source.rstrip("/").rpartition("/")
        return open_store(bucket).get(key) if is_key(key) else None
    return Path(source) if Path(source).is_dir() else None
