"""The contract of an engine: what it is asked, and what it gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

EngineName = Literal["auto", "transformers", "vllm"]
Score = Literal["nothing", "logprob", "self_certainty"]


class Form(NamedTuple):
    """What a text must look like: a regular expression, one of several choices, or JSON that a schema describes."""

    kind: Literal["free", "regex", "choice", "json"] = "free"
    pattern: str = ""
    choices: tuple[str, ...] = ()
    schema: str = ""


class Sampling(NamedTuple):
    """How tokens are chosen. The distribution is changed in this order: repetition penalty, temperature, ``min_p``,
    ``top_k``, ``top_p``. A text ends before one of ``stop``, or after one of ``stop_after``.
    """

    greedy: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 1_000_000
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    stop_after: tuple[str, ...] = ()
    form: Form = Form()
    score: Score = "logprob"
    keep_tokens: bool = False


class Request(NamedTuple):
    """One text to write: ``limit`` tokens at most behind ``prompt``; its randomness is that of ``seed`` alone."""

    key: int
    prompt: list[int]
    limit: int
    seed: int
    sampling: Sampling


class Completion(NamedTuple):
    """What was written. ``finished``: by an end token or a stop string, not by the limit. ``written`` counts all
    tokens, an end token too; ``tokens`` are those of the text. ``logprob`` is the sum over all that was written, of the
    policy's own distribution; ``self_certainty`` the mean of KL(uniform || policy) over it (arXiv:2502.18581).
    ``whole``: no stop string cut through the tokens. ``end`` is the end token, where there is one. ``logprobs`` are
    those of all tokens that were written, where the tokens are kept and scored.
    """

    key: int
    tokens: list[int]
    text: str
    finished: bool
    written: int
    logprob: float | None
    self_certainty: float | None
    whole: bool
    end: int | None = None
    logprobs: list[float] | None = None


class Engine(ABC):
    """Takes requests at any time and gives completions as they end."""

    tokenizer: PreTrainedTokenizerBase
    context: int
    """The tokens that a prompt and its answer may have together."""

    @abstractmethod
    def add(self, request: Request) -> None:
        """Queue a request."""

    @abstractmethod
    def step(self) -> list[Completion]:
        """Decode until at least one request has ended. Empty when nothing is pending."""


def cut(text: str, stop: Sequence[str], stop_after: Sequence[str]) -> tuple[str, bool]:
    """A text up to the stop string that is complete first; ``stop_after`` stay in it. Whether there was one."""
    found = [(text.find(string) + len(string), string) for string in (*stop, *stop_after) if string in text]
    if not found:
        return text, False
    end, string = min(found)
    return text[: end if string in stop_after else end - len(string)], True
