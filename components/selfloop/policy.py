"""Policies on disk and in memory: a Hugging Face directory with safetensors weights, a configuration, a tokenizer.

A policy may also be a LoRA adapter on another one (``adapters``): ``parts`` tells the two apart, ``load`` merges them.
"""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from selfloop import machine
from selfloop.adapters import Parts as Parts
from selfloop.adapters import check_adapter, is_adapter, mounted, note_base, save_adapter
from selfloop.adapters import parts as parts
from selfloop.artifacts import MANIFEST, SIDECAR
from selfloop.chats import encode as encode
from selfloop.errors import UserError
from selfloop.links import link
from selfloop.trust import asking, check_code, code_files, described, reading

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from selfloop.environments import Restarts

PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
EXPONENTS = {
    "F64": ("<u8", 0x7FF0_0000_0000_0000),
    "F32": ("<u4", 0x7F80_0000),
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
    "F8_E5M2": ("u1", 0x7C),
    "F8_E4M3": ("u1", 0x7F),
}
"""By the type of a tensor, as safetensors names it: the integers of its width, and the bits that are all set where a
number is infinite or none (IEEE 754; the last type has no infinity, and one pattern that is no number).
"""
PIECE_BYTES = 2**24
KEPT_LOADED = 2
SMALL = 5_000_000
UNBOUNDED = 2**31
# peft and TRL ask for this name, of which transformers says to whoever trains that it goes: nobody here can change that
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)


@contextmanager
def loading(directory: str | Path) -> Iterator[None]:
    """Say in a sentence why the library cannot read a policy: what its files hold, and what they ask for."""
    import torch

    try:
        yield
    except (UserError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # the library, and those that it calls, raise whatever they like
        said = " ".join(str(error).split())[:300].rstrip(".")
        raise UserError(
            f"The policy in {directory} cannot be loaded ({type(error).__name__}: {said}): copy it again, install what "
            "it asks for, or give another policy."
        ) from error


def hand_on(source: str | Path, target: str | Path) -> None:
    """Give a policy a second place, to be sealed there as what another stage made: links where that works."""
    leave = shutil.ignore_patterns(MANIFEST, SIDECAR)
    shutil.copytree(source, target, copy_function=link, ignore=leave, dirs_exist_ok=True)
    if is_adapter(Path(source)):
        note_base(target, parts(source).base)


def weight_bytes(directory: str | Path) -> int:
    """The bytes of a policy's weights; of an adapter policy, those of its base."""
    return sum(path.stat().st_size for path in parts(directory).base.glob("*.safetensors"))


class Policy(NamedTuple):
    """A model and its tokenizer, in memory."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    def encode(self, prompts: Sequence[str]) -> list[list[int]]:
        """The tokens of prompts as this policy is asked: each as a user's message where it has a chat template."""
        return encode(self.tokenizer, prompts)

    @property
    def ends(self) -> list[int]:
        """The tokens that end a text; training puts the first of them behind one."""
        places = (getattr(self.model, "generation_config", None), self.model.config)  # a classifier has only the latter
        known = (getattr(place, "eos_token_id", None) for place in places)
        return end_tokens(self.tokenizer, next((each for each in known if each is not None), None))

    @property
    def context(self) -> int:
        """The tokens that a text may have; as good as no limit for a policy that counts positions in its own way."""
        limit = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return UNBOUNDED if limit is None or limit < 1 or restarts_of(self) is not None else limit

    def check_known(self, tokens: Sequence[int]) -> None:
        """Refuse tokens that the model does not know: a tokenizer may have more, which no text should hold."""
        known, most = self.model.get_input_embeddings().weight.shape[0], max(tokens, default=0)
        if most >= known:
            raise UserError(
                f"A text holds the token {self.tokenizer.convert_ids_to_tokens(int(most))!r} of the number {most}, and "
                f"the model knows {known} tokens: take it out of the text, or put the model's own tokenizer there."
            )


def end_tokens(tokenizer: PreTrainedTokenizerBase, configured: int | Sequence[int] | None) -> list[int]:
    """The tokens that end a text: the tokenizer's own, then those that a configuration names, as TRL has them."""
    known = [configured] if isinstance(configured, int) else configured or []
    own = tokenizer.eos_token_id
    return list(dict.fromkeys([*([] if own is None else [own]), *known]))


def check_room(prompt: Sequence[int], limit: int, context: int) -> None:
    """Refuse a prompt that leaves no room for an answer of so many tokens."""
    left = context - len(prompt)
    if limit > left:
        remedy = f"set max_tokens to at most {left}" if left > 0 else "give shorter prompts"
        raise UserError(
            f"A prompt of {len(prompt)} tokens and an answer of up to {limit} do not fit the policy's context of "
            f"{context} tokens: {remedy}."
        )


_loaded: OrderedDict[str, Policy] = OrderedDict()


def check_policy(directory: str | Path) -> None:
    """Refuse a directory that is no policy: ``UserError`` names the file that is missing, pickled or cut off.

    One whose maker's own Python code would have to run is refused too, unless a person trusts that code. Of an adapter
    the base is checked as well.
    """
    from safetensors import SafetensorError, safe_open

    place = Path(directory)
    if is_adapter(place):
        check_adapter(place)
        check_policy(parts(place).base)
    elif not (place / "config.json").is_file():
        raise UserError(f"{place} is not a policy: it has no config.json.")
    check_code(place)
    weights = sorted(place.glob("*.safetensors"))
    if not weights:
        pickles = [path.name for pattern in PICKLES for path in place.glob(pattern)]
        if pickles:
            raise UserError(
                f"{place} holds its weights as a pickle ({pickles[0]}), which can run code when it is read: "
                "save it with save_pretrained, which writes safetensors."
            )
        raise UserError(f"{place} is a policy without weights: it has no *.safetensors file.")
    for path in weights:
        try:
            with safe_open(path, framework="numpy") as file:
                file.keys()
        except SafetensorError as error:
            raise UserError(f"{path} is cut off or damaged ({error}): copy it again.") from None
    for index in place.glob("*.safetensors.index.json"):
        missing = set(described(index).get("weight_map", {}).values()) - {path.name for path in weights}
        if missing:
            raise UserError(f"{place / min(missing)} is missing although {index.name} lists it: copy it again.")


def check_weights(directory: str | Path) -> None:
    """Refuse a policy with a weight that is no number, which its file and its name tell: it is read through once, in
    pieces. Of an adapter the base is checked as well.
    """
    for place in filter(None, parts(directory)):
        for path in sorted(place.glob("*.safetensors")):
            name = _not_finite(path)
            if name is not None:
                raise UserError(
                    f"The weights {name} in {path} are not finite (NaN or infinity): such a policy answers nothing, "
                    "give one whose training went well."
                )


def _not_finite(path: Path) -> str | None:
    """The first tensor of a file with a weight that is no number."""
    import numpy as np

    with path.open("rb") as file:
        tensors = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        first = file.tell()
        for name, about in tensors.items():
            kind, exponent = EXPONENTS.get(about.get("dtype"), ("", 0))
            if not kind:
                continue
            begins, ends = about["data_offsets"]
            file.seek(first + begins)
            for at in range(begins, ends, PIECE_BYTES):
                bits = np.frombuffer(file.read(min(PIECE_BYTES, ends - at)), kind)
                if bool(((bits & exponent) == exponent).any()):
                    return str(name)
    return None


def check_writes(directory: str | Path) -> None:
    """Refuse a policy that writes no text, such as a reward model."""
    kinds = described(parts(directory).base / "config.json").get("architectures") or []
    if any("SequenceClassification" in kind for kind in kinds):
        raise UserError(f"{directory} is a reward model, which writes no text: give a policy that does.")


def load(directory: str | Path, digest: str | None = None) -> Policy:
    """A policy from its directory; with a ``digest``, the one that is loaded already where there is one.

    What is loaded is shared between stages: whoever changes weights works on ``fresh``. An adapter is merged into its
    base.
    """
    if digest is not None and digest in _loaded:
        _loaded.move_to_end(digest)
        return _loaded[digest]
    policy = fresh(directory)
    if parts(directory).adapter is not None:
        policy = Policy(policy.model.merge_and_unload().eval(), policy.tokenizer)
    if digest is not None:
        _loaded[digest] = policy
        while len(_loaded) > KEPT_LOADED:
            _loaded.popitem(last=False)
    return policy


def fresh(directory: str | Path) -> Policy:
    """A policy of one's own, to train; an adapter lies on its base, and is what may change."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    check_policy(directory)
    check_writes(directory)
    found = parts(directory)
    with loading(directory):
        model = AutoModelForCausalLM.from_pretrained(found.base, use_safetensors=True, **reading(found.base))
        tokenizer = AutoTokenizer.from_pretrained(directory, **reading(directory))
    settle_padding(model, tokenizer)
    settle_threads(model)
    if found.adapter is not None:
        model = mounted(model, found, trainable=True)
    return Policy(model.eval().to(device()), tokenizer)


def settle_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Give a tokenizer that pads with nothing, or with what the model does not know, a token to pad with."""
    known = model.get_input_embeddings().weight.shape[0]
    pads, ends = tokenizer.pad_token_id, tokenizer.eos_token_id
    if pads is None or pads >= known:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(ends if ends is not None and ends < known else 0)


def device() -> str:
    """Where policies compute: the first GPU, where there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def settle_threads(model: PreTrainedModel) -> None:
    """Run small policies on one thread: more gain nothing, and the result does not depend on the number of cores."""
    import torch

    torch.set_num_threads(1 if model.num_parameters() < SMALL else machine.cores())


def save(policy: Policy, directory: str | Path, weights: Mapping[str, torch.Tensor] | None = None) -> None:
    """Write weights (safetensors), configuration and tokenizer; of an adapter on a base, the adapter.

    ``weights`` are given where this process holds only a part of the model's. Raises ``UserError`` where a weight is no
    number: no such policy is a candidate.
    """
    check_finite(policy.model.state_dict() if weights is None else weights)
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    if hasattr(policy.model, "peft_config"):
        save_adapter(policy.model, directory, weights)
    else:
        policy.model.save_pretrained(directory, state_dict=weights)
    for name in ("is_local", "local_files_only"):  # how it was loaded is no part of the policy
        policy.tokenizer.init_kwargs.pop(name, None)
    policy.tokenizer.save_pretrained(directory)
    if asking(directory):
        _copy_code(Path(policy.model.config._name_or_path), Path(directory))


def check_finite(weights: Mapping[str, torch.Tensor]) -> None:
    """Refuse weights that are no numbers, by name: what a training or a narrower precision made of them."""
    import torch

    numbers = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    for name, weight in weights.items():
        if weight.dtype in numbers and not bool(torch.isfinite(weight).all()):
            kept = str(weight.dtype).removeprefix("torch.")
            raise UserError(
                f"The weights {name} of the policy are no longer finite as {kept}: lower lr, or begin with a policy "
                "that is kept in a wider precision."
            )


def _copy_code(source: Path, target: Path) -> None:
    for name in code_files(source):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)


def scratch_tokenizer(alphabet: str, special_tokens: Sequence[str] = ()) -> PreTrainedTokenizerBase:
    """A tokenizer with a token for each character, each special token wherever it stands, ``<pad>`` and ``<eos>``."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from tokenizers.decoders import Fuse
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: index for index, token in enumerate(["<pad>", "<eos>", *alphabet, *special_tokens])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    pieces = [*map(re.escape, sorted(special_tokens, key=len, reverse=True)), r"[\s\S]" if "\n" in alphabet else "."]
    inner.pre_tokenizer = pre_tokenizers.Split(Regex("|".join(pieces)), "isolated")
    inner.decoder = Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", padding_side="left")


def restart_ids(restarts: Restarts, tokenizer: PreTrainedTokenizerBase) -> dict[str, list[int]]:
    """A position scheme as a policy's configuration keeps it: the token ids at and after which positions restart."""
    ids = {side: tokenizer.convert_tokens_to_ids(list(getattr(restarts, side))) for side in ("at", "after")}
    return {side: list(values) for side, values in ids.items()}


def position_ids(policy: Policy, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor | None:
    """Position ids of shape (batch, length), or none where the policy counts as its library does."""
    restarts = restarts_of(policy)
    return None if restarts is None else restarted(tokens, mask, restarts["at"], restarts["after"])


def restarts_of(policy: Policy) -> dict[str, list[int]] | None:
    """A policy's own position scheme: the token ids at and after which positions start again."""
    return getattr(policy.model.config, "position_restarts", None)


def restarted(tokens: torch.Tensor, mask: torch.Tensor, at: Sequence[int], after: Sequence[int]) -> torch.Tensor:
    """Positions that start at 1 on the first real token, again on each token of ``at`` and behind each of ``after``.

    All tensors have the shape (batch, length); ``mask`` is 0 on padding, on either side.
    """
    import torch

    starts = torch.isin(tokens, torch.tensor(at, device=tokens.device))
    behind = torch.isin(tokens, torch.tensor(after, device=tokens.device))
    starts[:, 1:] |= behind[:, :-1]
    starts |= (mask.cumsum(dim=1) == 1) & (mask == 1)
    index = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
    return index - torch.where(starts, index, 0).cummax(dim=1).values + 1


def next_positions(
    restarts: Mapping[str, Sequence[int]] | None, before: torch.Tensor, token: torch.Tensor, position: torch.Tensor
) -> torch.Tensor:
    """Position ids of tokens behind those ``before``, which stand at ``position``; all of shape (batch, 1)."""
    import torch

    if restarts is None:
        return position + 1
    at, after = (torch.tensor(restarts[side], dtype=torch.long, device=token.device) for side in ("at", "after"))
    return torch.where(torch.isin(token, at) | torch.isin(before, after), 1, position + 1)
