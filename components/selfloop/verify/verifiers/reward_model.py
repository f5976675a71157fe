"""``reward-model``: a learned reward model, a classifier with one output (safetensors weights only)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from selfloop.chats import as_data, beginning, message, rendered, tokens_of
from selfloop.errors import UserError, needing
from selfloop.identity import data_digest
from selfloop.verify.contract import Verifier, ended

if TYPE_CHECKING:
    import pyarrow as pa
    from transformers import PreTrainedTokenizerBase

    from selfloop.verify.contract import Asked, Context, Judged


class RewardModel(Verifier):
    """The score is the model's reward through the logistic function; good is one of at least ``threshold``.

    Models that are trained on pairs fix no zero: choose the threshold by the audit. The model is the one that is named,
    or that the loop made.
    """

    name = "reward-model"
    asks = "reward-model"
    reads = frozenset({"model"})
    needs = "a reward model: a sequence classifier with one output, in safetensors"
    model: str = Field(
        "", description="Its directory, a model id of the Hub, s3://..., or models:/NAME@ALIAS; none: the loop's own."
    )
    threshold: float = Field(0.5, description="The score from which on a rollout is good.")

    @property
    def wants(self) -> Asked:
        """A reward model, where it names none."""
        return "" if self.model else self.asks

    def __call__(self, rollouts: pa.RecordBatch, tasks: pa.RecordBatch, context: Context) -> Judged:
        """Reward each rollout."""
        import pyarrow as pa

        place = self.model or str(context.reward_model)
        model, tokenizer = loaded(place, _content(place))
        texts = as_texts(tokenizer, tasks["prompt"].to_pylist(), rollouts["completion"].to_pylist())
        scores = rewards(model, tokenizer, texts, context.params.batch_size)
        ok = [score >= self.threshold for score in scores]
        reasons = ["rewarded" if good else "not rewarded" for good in ok]
        return ended(rollouts, pa.array(ok, pa.bool_()), pa.array(scores, pa.float64()), pa.array(reasons, pa.string()))


def as_texts(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], completions: Sequence[str]) -> list[str]:
    """Prompts with their completions: as a chat where the model has a template for it, else one behind the other."""
    pairs = [tuple(as_data(tokenizer, text) for text in pair) for pair in zip(prompts, completions, strict=True)]
    if tokenizer.chat_template is None:
        return [prompt + completion for prompt, completion in pairs]
    chats = [[message("user", prompt), message("assistant", completion)] for prompt, completion in pairs]
    return rendered(tokenizer, chats, answering=False)


def rewards(model: Any, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], batch_size: int) -> list[float]:
    """The reward of each text through the logistic function; texts of like length are scored together."""
    import torch

    first = beginning(tokenizer) if tokenizer.chat_template is None else []
    encoded = [first + row for row in tokens_of(tokenizer, texts)] if texts else []
    order = sorted(range(len(texts)), key=lambda row: len(encoded[row]))
    found = [0.0] * len(texts)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        padded = tokenizer.pad({"input_ids": [encoded[row] for row in rows]}, padding_side="right", return_tensors="pt")
        with torch.inference_mode():
            logits = model(**padded.to(model.device)).logits[:, 0].float().sigmoid().cpu().tolist()
        for row, score in zip(rows, logits, strict=True):
            found[row] = score
    return found


@lru_cache(maxsize=1)
def loaded(source: str, content: str = "") -> tuple[Any, PreTrainedTokenizerBase]:
    """The reward model at a source, whose files have this digest where they are here.

    Raises ``UserError`` where it has no weights as safetensors, or several outputs.
    """
    with needing("The verifier 'reward-model'", "generate"):
        import torch  # noqa: F401
        from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
        from transformers.utils.logging import disable_progress_bar

    from selfloop.policy import check_policy, device, loading, settle_threads
    from selfloop.trust import reading

    disable_progress_bar()
    with _directory(source) as place:
        check_policy(place)
        with loading(place):
            config = AutoConfig.from_pretrained(place, **reading(place))
        if config.num_labels != 1 or not any("SequenceClassification" in each for each in config.architectures or ()):
            raise UserError(f"{source} is no reward model: it must be a sequence classifier with one output.")
        with loading(place):
            model = AutoModelForSequenceClassification.from_pretrained(place, use_safetensors=True, **reading(place))
            tokenizer = AutoTokenizer.from_pretrained(place, **reading(place))
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    settle_threads(model)
    return model.eval().to(device()), tokenizer


def _content(source: str) -> str:
    return data_digest(Path(source)) if Path(source).is_dir() else ""


@contextmanager
def _directory(source: str) -> Iterator[Path]:
    """Where a source's files lie: its own directory, or one that they are fetched into for as long as it takes."""
    from kfp.dsl import Model

    from selfloop.fetch import FetchParams, fetch_policy

    if Path(source).is_dir():
        yield Path(source)
        return
    with tempfile.TemporaryDirectory() as place:
        fetch_policy.into(fetch_policy.out(policy=Model(uri=place)), FetchParams(source=source))
        yield Path(place)
