"""The engine for a GPU: vLLM, with one copy of the base policy in a process, whose weights and adapters are exchanged.

Every request has its own seed. The engine stays between stages and rounds: a policy of the same shape is read into it,
an adapter is loaded beside the base. vLLM's own process boundary is left out where one device is enough.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from selfloop.adapters import Parts
from selfloop.errors import UserError
from selfloop.generate.engines.contract import Completion, Engine, Form, Request, Sampling, cut
from selfloop.policy import check_policy, check_writes, device, end_tokens, loading
from selfloop.trust import reading

if TYPE_CHECKING:
    from selfloop.generate.params import DecodingParams

CPU_GIB = "1"
"""The room for keys and values on a CPU, where nobody set ``VLLM_CPU_KVCACHE_SPACE``."""


TOKENS_A_STEP = 4096
"""Tokens of prompts that are read at once on a CPU."""


class Shape(NamedTuple):
    """What an engine is made for; policies that agree in it share one."""

    config: str
    tokenizer: str
    rank: int
    parallel: int
    memory: float
    context: int
    rows: int


class Core:
    """vLLM's engine and what is in it now."""

    def __init__(self, shape: Shape, base: Path) -> None:
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        if shape.parallel == 1:
            os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        if device() == "cpu":
            os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", CPU_GIB)
        from vllm import EngineArgs, LLMEngine

        self.shape, self.base, self.adapters = shape, base, dict[Path, int]()
        lora = {"enable_lora": True, "max_lora_rank": shape.rank, "max_loras": 1} if shape.rank else {}
        self.engine = LLMEngine.from_engine_args(
            EngineArgs(
                model=str(base),
                tokenizer=str(base),
                max_model_len=_length(shape),
                max_num_seqs=shape.rows,
                max_logprobs=-1,
                tensor_parallel_size=shape.parallel,
                gpu_memory_utilization=shape.memory,
                generation_config="vllm",
                disable_log_stats=True,
                trust_remote_code=reading(base)["trust_remote_code"],
                **_on_this_device(shape),
                **lora,
            )
        )

    def take(self, base: Path) -> None:
        """Hold the weights of this policy. What was computed with others is forgotten."""
        if base != self.base:
            self.engine.collective_rpc("reload_weights", kwargs={"weights_path": str(base)})
            self.engine.reset_prefix_cache()
            self.base = base

    def close(self) -> None:
        """Give its memory back."""
        import gc

        import torch

        self.engine.engine_core.shutdown()
        del self.engine
        gc.collect()
        torch.cuda.empty_cache()

    def adapter(self, place: Path) -> Any:
        """vLLM's name for an adapter."""
        from vllm.lora.request import LoRARequest

        number = self.adapters.setdefault(place, len(self.adapters) + 1)
        return LoRARequest(f"adapter-{number}", number, str(place))


_core: Core | None = None


def close() -> None:
    """End the process's engine, where there is one; the next request begins another."""
    global _core
    if _core is not None:
        _core.close()
        _core = None


class Vllm(Engine):
    """Requests go to vLLM as they come, and it batches them as it goes."""

    def __init__(self, params: DecodingParams, policy: Parts) -> None:
        from transformers import AutoTokenizer

        self._base, self._adapter = policy
        place = self._adapter or self._base
        with loading(place):
            self.tokenizer = AutoTokenizer.from_pretrained(place, **reading(place))
        self._ends = end_tokens(self.tokenizer, configured_ends(self._base))
        self._shape = shape_of(params, policy)
        self.context = _length(self._shape)
        self._requests: dict[str, Request] = {}

    def _opened(self) -> Core:
        """The process's engine with this policy in it; one of another shape makes room first."""
        global _core
        if _core is not None and _core.shape != self._shape:
            close()
        if _core is None:
            _core = Core(self._shape, self._base)
        if not self._requests:
            _core.take(self._base)
        return _core

    def add(self, request: Request) -> None:
        """Queue a request."""
        core, name = self._opened(), f"{id(self)}-{request.key}-{request.seed}"
        adapter = core.adapter(self._adapter) if self._adapter else None
        prompt = {"prompt_token_ids": request.prompt}
        try:
            core.engine.add_request(name, prompt, self._sampling(request), lora_request=adapter)
        except ValueError as error:
            raise UserError(f"vLLM refused a request: {error}") from None
        self._requests[name] = request

    def step(self) -> list[Completion]:
        """Decode until at least one request has ended. Empty when nothing is pending."""
        ended: list[Completion] = []
        while self._requests and not ended:
            for output in self._opened().engine.step():
                if output.finished:
                    name = output.request_id
                    key = name if name in self._requests else name.rpartition("-")[0]
                    ended.append(self._completion(self._requests.pop(key), output.outputs[0]))
        return ended

    def _sampling(self, request: Request) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        sampling = request.sampling
        stop = [*sampling.stop, *sampling.stop_after]
        chosen = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": min(sampling.top_k, len(self.tokenizer)),
            "min_p": sampling.min_p,
            "seed": request.seed,
        }
        return SamplingParams(
            **({"temperature": 0.0} if sampling.greedy else chosen),
            repetition_penalty=sampling.repetition_penalty,
            max_tokens=request.limit,
            stop=stop,
            include_stop_str_in_output=True,
            detokenize=bool(stop),
            skip_special_tokens=False,
            ignore_eos=True,
            stop_token_ids=self._ends,
            logprobs={"nothing": None, "logprob": 0, "self_certainty": -1}[sampling.score],
            flat_logprobs=True,
            structured_outputs=_structured(sampling.form),
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _completion(self, request: Request, output: Any) -> Completion:
        written = list(output.token_ids)
        at_end = bool(written) and written[-1] in self._ends
        tokens = written[:-1] if at_end else written
        decoded = self.tokenizer.decode(tokens)
        text, stopped = cut(decoded, request.sampling.stop, request.sampling.stop_after)
        logprob, certain = scores(output.logprobs, request.sampling)
        return Completion(
            request.key,
            tokens,
            text,
            finished=at_end or stopped,
            written=len(written),
            logprob=logprob,
            self_certainty=certain,
            whole=text == decoded,
            end=written[-1] if at_end else None,
            logprobs=of_chosen(output.logprobs) if request.sampling.keep_tokens and logprob is not None else None,
        )


def of_chosen(logprobs: Any) -> list[float]:
    """The log-probability of each token that was written: of each position it stands first."""
    return [logprobs.logprobs[start] for start in logprobs.start_indices]


def scores(logprobs: Any, sampling: Sampling) -> tuple[float | None, float | None]:
    """The log-probability and the self-certainty of a text, from vLLM's log-probabilities: of each position the chosen
    token's first, then, where they were asked for, those of the whole vocabulary.
    """
    import math

    if sampling.score == "nothing":
        return None, None
    starts, ends = logprobs.start_indices, logprobs.end_indices
    total = sum(of_chosen(logprobs))
    if sampling.score == "logprob":
        return total, None
    certain = [
        -math.fsum(logprobs.logprobs[start + 1 : end]) / (end - start - 1) - math.log(end - start - 1)
        for start, end in zip(starts, ends, strict=True)
    ]
    return total, math.fsum(certain) / len(certain)


def _structured(form: Form) -> Any:
    from vllm.sampling_params import StructuredOutputsParams

    if form.kind == "free":
        return None
    given: dict[str, Any] = {"regex": form.pattern, "choice": list(form.choices), "json": form.schema}
    return StructuredOutputsParams(**{form.kind: given[form.kind]})


def open_vllm(params: DecodingParams, policy: Parts) -> Vllm:
    """The engine with a policy: a base, and an adapter on it where there is one."""
    base, adapter = policy
    check_policy(adapter or base)
    check_writes(adapter or base)
    return Vllm(params, Parts(base.resolve(), adapter.resolve() if adapter else None))


def shape_of(params: DecodingParams, policy: Parts) -> Shape:
    """What an engine for this policy is made for."""
    base, adapter = policy
    tokenizer = base / "tokenizer.json"
    rank = json.loads((adapter / "adapter_config.json").read_text())["r"] if adapter else 0
    return Shape(
        (base / "config.json").read_text(),
        tokenizer.read_text() if tokenizer.exists() else "",
        max(rank, 8) if rank else 0,
        params.tensor_parallel,
        params.memory,
        params.context,
        params.batch_size,
    )


def _length(shape: Shape) -> int:
    return min(shape.context, json.loads(shape.config).get("max_position_embeddings") or shape.context)


def _on_this_device(shape: Shape) -> dict[str, Any]:
    if device() != "cpu":
        return {"dtype": "bfloat16"}
    # a prompt in pieces makes vLLM turn a request's generator back, which those of a CPU cannot
    whole = {"enable_chunked_prefill": False, "max_num_batched_tokens": max(_length(shape), TOKENS_A_STEP)}
    return {"dtype": "float32", "enforce_eager": True, **whole}


def configured_ends(base: Path) -> Any:
    """The tokens that end a text, as the policy's own configuration names them."""
    for name in ("generation_config.json", "config.json"):
        place = base / name
        known = json.loads(place.read_text()).get("eos_token_id") if place.exists() else None
        if known is not None:
            return known
    return None
