"""The engine that runs on anything: a decoding loop over a transformers model, rows bucketed by prompt length.

A row's tokens are picked by inverse CDF from uniform numbers of its own, so a result depends on its request and not on
who decodes it beside what else. What rows begin with alike is read once for all of them, their prompt and more, and
what has ended leaves the cache, so that the last long ones do not pay for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from selfloop.errors import UserError
from selfloop.generate.engines.contract import Completion, Engine, Request, cut
from selfloop.generate.engines.reading import KEPT, Lanes, pads
from selfloop.generate.engines.sampling import certainty, picked, shaped

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from selfloop.generate.engines.forms import Guide
    from selfloop.policy import Policy

UNSEEN = 8
"""Tokens that may show no character of their own, such as bytes of a longer one, before a stop string shows."""


class Transformers(Engine):
    """Decodes one batch after the other; requests that come meanwhile join the next one."""

    def __init__(self, policy: Policy, batch_size: int) -> None:
        self.tokenizer, self.context = policy.tokenizer, policy.context
        self._policy, self._size = policy, batch_size
        self._pending: list[Request] = []
        self._batch: Batch | None = None
        self._pads = pads(policy.model)

    def add(self, request: Request) -> None:
        """Queue a request."""
        self._policy.check_known(request.prompt)
        self._pending.append(request)

    def step(self) -> list[Completion]:
        """Decode until at least one request has ended. Empty when nothing is pending."""
        import torch

        with torch.inference_mode():
            try:
                return self._step()
            except torch.OutOfMemoryError:
                raise UserError(
                    f"The memory of {self._policy.model.device} does not hold {self._size} attempts at once: lower "
                    "batch_size or max_tokens."
                ) from None

    def _step(self) -> list[Completion]:
        if self._batch is None and self._pending:
            chosen = next_batch(self._pending, self._size, self._pads)
            taken = {id(request) for request in chosen}
            self._pending = [request for request in self._pending if id(request) not in taken]
            self._batch = Batch(self._policy, chosen)
        ended: list[Completion] = []
        while self._batch is not None and not ended:
            ended = self._batch.advance()
            if not self._batch.live:
                self._batch = None
        return ended


def next_batch(pending: Sequence[Request], size: int, pads: bool = True) -> list[Request]:
    """What is decoded next: requests that are sampled alike, the shortest prompts first, of equal length as far as that
    leaves the batch well filled, and where rows cannot be padded in any case.
    """
    alike = [request for request in pending if request.sampling == pending[0].sampling]
    batch: list[Request] = []
    for request in sorted(alike, key=lambda r: (len(r.prompt), r.limit)):
        longer = bool(batch) and len(request.prompt) != len(batch[-1].prompt)
        if (longer and (not pads or len(batch) >= size // 4)) or len(batch) == size:
            break
        batch.append(request)
    return batch


class Batch:
    """Requests that are decoded together, a row each; rows that have ended are taken out."""

    def __init__(self, policy: Policy, requests: list[Request]) -> None:
        import torch

        self._policy, self._rows, self._ends = policy, requests, policy.ends
        self._sampling, self._device = requests[0].sampling, policy.model.device
        self._stops = Stops(policy.tokenizer, (*self._sampling.stop, *self._sampling.stop_after))
        self._lanes, self._step = Lanes(policy, [request.prompt for request in requests]), 0
        self._written: list[list[int]] = [[] for _ in requests]
        self._alive = [True] * len(requests)
        self._uniforms = self._draw_uniforms()
        self._seen = self._tokens_seen()
        self._logprobs: list[list[float]] = [[] for _ in requests] if self._keeps_logprobs else []
        self._sums = torch.zeros(len(requests), 2, dtype=torch.float64, device=self._device)
        self._guides = self._open_guides()

    @property
    def _longest(self) -> int:
        return max(r.limit for r in self._rows)

    @property
    def _keeps_logprobs(self) -> bool:
        return self._sampling.keep_tokens and self._sampling.score != "nothing"

    def _draw_uniforms(self) -> torch.Tensor | None:
        """A number in [0, 1) for every token (rows, longest), from the seed of its row."""
        import numpy as np
        import torch

        if self._sampling.greedy:
            return None
        drawn = np.zeros((len(self._rows), self._longest), np.float32)
        for row, request in zip(drawn, self._rows, strict=True):
            row[: request.limit] = np.random.default_rng(request.seed).random(request.limit, np.float32)
        return torch.from_numpy(drawn).to(self._device)

    def _tokens_seen(self) -> torch.Tensor | None:
        """Which tokens a row's prompt holds (rows, vocabulary), where a penalty asks for it."""
        import torch

        if self._sampling.repetition_penalty == 1:
            return None
        size = self._policy.model.get_output_embeddings().weight.shape[0]
        seen = torch.zeros(len(self._rows), size, dtype=torch.bool, device=self._device)
        for row, request in zip(seen, self._rows, strict=True):
            row[request.prompt] = True
        return seen

    def _open_guides(self) -> list[Guide]:
        if self._sampling.form.kind == "free":
            return []
        from selfloop.generate.engines.forms import open_guides

        known = self._policy.model.get_output_embeddings().weight.shape[0]
        return open_guides(self._policy.tokenizer, self._sampling.form, self._ends, known, len(self._rows))

    @property
    def live(self) -> int:
        """The rows that have not ended."""
        return sum(self._alive)

    def advance(self) -> list[Completion]:
        """Write one token in every row. Returns those that have ended by it."""
        if self.live < KEPT * len(self._rows):
            self._release()
        logits = self._lanes.read()
        chosen = self._choose(logits)
        if self._sampling.score != "nothing":
            self._note(logits, chosen)
        if self._seen is not None:
            self._seen.scatter_(1, chosen[:, None], True)
        self._step += 1
        tokens = chosen.tolist()
        ended = [self._ended(row) for row, token in enumerate(tokens) if self._ends_with(row, token)]
        if self.live:
            self._lanes.write(tokens, self._alive)
        return ended

    def _choose(self, logits: torch.Tensor) -> torch.Tensor:
        if self._guides:
            from selfloop.generate.engines.forms import guided

            logits = guided(logits, [(row, guide) for row, guide in enumerate(self._guides) if self._alive[row]])
        logits = shaped(logits, self._sampling, self._seen)
        if self._uniforms is None:
            return logits.argmax(-1)
        return picked(logits, self._uniforms[:, self._step])

    def _note(self, logits: torch.Tensor, chosen: torch.Tensor) -> None:
        logprobs = logits.log_softmax(-1)
        of_chosen = logprobs.gather(1, chosen[:, None])[:, 0]
        self._sums[:, 0] += of_chosen
        if self._logprobs:
            for row, logprob in zip(self._logprobs, of_chosen.tolist(), strict=True):
                row.append(logprob)
        if self._sampling.score == "self_certainty":
            self._sums[:, 1] += certainty(logprobs)

    def _ends_with(self, row: int, token: int) -> bool:
        """Note the token of a row that lives; whether the row ends by it."""
        if not self._alive[row]:
            return False
        written = self._written[row]
        written.append(token)
        if self._guides:
            self._guides[row].advance(token)
        over = token in self._ends or len(written) == self._rows[row].limit or self._stops.are_in(written)
        self._alive[row] = not over
        return over

    def _ended(self, row: int) -> Completion:
        written, request = self._written[row], self._rows[row]
        at_end = written[-1] in self._ends
        tokens = written[:-1] if at_end else written
        decoded = self._policy.tokenizer.decode(tokens)
        text, stopped = cut(decoded, self._sampling.stop, self._sampling.stop_after)
        score = self._sampling.score
        return Completion(
            request.key,
            tokens,
            text,
            finished=at_end or stopped,
            written=len(written),
            logprob=None if score == "nothing" else float(self._sums[row, 0]),
            self_certainty=float(self._sums[row, 1]) / len(written) if score == "self_certainty" else None,
            whole=text == decoded,
            end=written[-1] if at_end else None,
            logprobs=self._logprobs[row][: len(written)] if self._logprobs else None,
        )

    def _release(self) -> None:
        """Take the rows that have ended out of everything."""
        import torch

        kept = [row for row, alive in enumerate(self._alive) if alive]
        index = torch.tensor(kept, device=self._device)
        self._lanes.keep(kept)
        for name in ("_uniforms", "_seen", "_sums"):
            value = getattr(self, name)
            if value is not None:
                setattr(self, name, value[index])
        for name in ("_rows", "_written", "_guides", "_alive", "_logprobs"):
            values = getattr(self, name)
            setattr(self, name, [values[row] for row in kept] if values else values)


class Stops:
    """Strings at which a text ends. Only the end of a text is read for them."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, strings: Sequence[str]) -> None:
        self._tokenizer, self._strings = tokenizer, strings
        self._tail = max(map(len, strings), default=0) + UNSEEN

    def are_in(self, tokens: list[int]) -> bool:
        """Whether the last token completes a stop string."""
        if not self._strings:
            return False
        text = self._tokenizer.decode(tokens[-self._tail :])
        return any(string in text for string in self._strings)
