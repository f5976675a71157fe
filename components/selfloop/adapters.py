"""Adapter policies: a LoRA adapter and its tokenizer in a directory, and the digest of the base policy that it is for.

``base.json`` names the base by its digest, so an adapter policy's own digest covers its base. Where the base lies on
this machine is no part of the policy: it stands in the sidecar, beside its model id where it came from the Hub.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from selfloop.artifacts import MANIFEST, SIDECAR, check, file_digest, manifest_of, read_json, sidecar_of, write_json
from selfloop.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from selfloop.store import Store

CONFIG, WEIGHTS, BASE = "adapter_config.json", "adapter_model.safetensors", "base.json"
FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
"""The files that make a policy, on the Hub."""


class Parts(NamedTuple):
    """The directory of a policy's whole weights, and that of the adapter on them where it has one."""

    base: Path
    adapter: Path | None


def parts(directory: str | Path) -> Parts:
    """A policy's base and adapter. Raises ``UserError`` where the base of an adapter is not to be had."""
    place = Path(directory)
    if not is_adapter(place):
        return Parts(place, None)
    return Parts(_base_of(place), place)


def is_adapter(directory: Path) -> bool:
    """Whether a directory holds an adapter rather than whole weights."""
    return (directory / CONFIG).is_file()


def check_adapter(place: Path) -> None:
    """Refuse an adapter that lacks its weights, or does not say which base it is for."""
    if not (place / WEIGHTS).is_file():
        raise UserError(f"{place} is an adapter without weights: it has no {WEIGHTS}.")
    if not (place / BASE).is_file():
        raise UserError(
            f"{place} is an adapter that does not say by digest which policy it is for (it has no {BASE}): merge it "
            "into its base with peft's merge_and_unload and give the result."
        )
    if not isinstance(read_json(place, BASE).get("digest"), str):
        raise UserError(f"{place / BASE} names no digest: make the adapter again.")
    if read_json(place, CONFIG).get("peft_type") != "LORA":  # other kinds read further files, pickles among them
        raise UserError(f"{place} is no LoRA adapter: merge it into its base with peft, and give the result.")


def _base_of(place: Path) -> Path:
    check_adapter(place)
    digest = read_json(place, BASE)["digest"]
    noted = sidecar_of(place)
    for near in (noted.get("base", ""), place.with_name(digest)):  # in a store the two lie side by side
        if near and digest_at(near) == digest:
            return Path(near)
    stored = _stored(digest)
    if stored is not None:
        return stored
    hub = noted.get("hub", "")
    if hub:
        from huggingface_hub import snapshot_download

        found = Path(snapshot_download(hub, allow_patterns=list(FILES)))
        if digest_at(found) == digest:
            return found
    there = f"{noted['base']} is not there or not the same" if "base" in noted else "no place is noted"
    raise UserError(
        f"{place} is an adapter for the policy {digest[:12]}, which is not to be found ({there}): set SELFLOOP_STORE "
        "to the store that holds it, or train an adapter on a policy that you have."
    )


def _stored(digest: str) -> Path | None:
    uri = os.environ.get("SELFLOOP_STORE")
    if not uri:
        return None
    from selfloop.store import open_store

    store = open_store(uri)
    return store.get(digest) if store.has(digest) else None


@functools.cache
def _checked(directory: Path) -> str:
    if (directory / MANIFEST).is_file():
        return check(directory).digest
    files = sorted(p for p in directory.rglob("*") if p.is_file() and p.name not in (MANIFEST, SIDECAR))
    named = "".join(f"{path.relative_to(directory)}\0{file_digest(path)}\n" for path in files)
    return hashlib.sha256(named.encode()).hexdigest()


def digest_at(directory: str | Path) -> str:
    """The digest of the policy in a directory, after its files were compared with it once; empty where there is none
    that an adapter could lie on.
    """
    place = Path(directory)
    return _checked(place) if (place / "config.json").is_file() and not is_adapter(place) else ""


def put_base(store: Store, directory: str | Path) -> str:
    """Put the base of an adapter into a store. Returns its URI there; empty for other policies, and for a base that
    is found elsewhere, as on the Hub.
    """
    if not is_adapter(Path(directory)):
        return ""
    base = parts(directory).base
    return store.put(base) if (base / MANIFEST).is_file() else ""


def note_base(directory: str | Path, base: Path) -> None:
    """Note where the base of an adapter lies on this machine, and where on the Hub it came from."""
    noted: dict[str, Any] = {"base": str(base.resolve())}
    if (base / MANIFEST).is_file():
        made = manifest_of(base)
        source = str(made.params.get("source", "")) if made.stage == "fetch_policy" else ""
        if source.count("/") == 1 and not source.startswith((".", "/", "~")) and not set(":#") & set(source):
            noted["hub"] = source
    write_json(directory, sidecar_of(directory) | noted, SIDECAR)


def mounted(model: PreTrainedModel, found: Parts, trainable: bool) -> Any:
    """The adapter on its base. Raises ``UserError`` where it was made for another one."""
    from peft import PeftModel

    try:
        made = PeftModel.from_pretrained(model, str(found.adapter), is_trainable=trainable)
    except (RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())[:160]
        raise UserError(
            f"{found.adapter} is an adapter for another base than {found.base} ({said}): give the one it was made on."
        ) from None
    made.peft_config["default"].base_model_name_or_path = str(found.base)
    return made


def save_adapter(model: Any, directory: str | Path, weights: Mapping[str, Any] | None = None) -> None:
    """Write an adapter without the weights that it is on: the same bytes for the same adapter and base."""
    place, config = Path(directory), model.peft_config["default"]
    base = Path(config.base_model_name_or_path)
    digest = digest_at(base)
    model.save_pretrained(directory, selected_adapters=["default"], save_embedding_layers=False, state_dict=weights)
    (place / "README.md").unlink(missing_ok=True)
    about = json.loads((place / CONFIG).read_text()) | {"base_model_name_or_path": f"sha256:{digest}"}
    if isinstance(about["target_modules"], list):
        about["target_modules"].sort()  # a set, in whatever order this process has
    write_json(place, about, CONFIG)
    write_json(place, {"digest": digest}, BASE)
    note_base(place, base)
