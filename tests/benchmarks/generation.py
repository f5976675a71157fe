"""Tokens a second of selfloop's engines beside what they stand on: transformers' ``generate``, vLLM's ``LLM.generate``.

All arms sample at temperature 1 from the same policy (random weights, 0.9 M parameters, batch of 256) for the same
prompts, of 8 to 64 tokens in no order. A text ends at one of ``ENDS`` tokens, which in this policy is a matter of
chance, about one token in 43, or after 128 tokens, so lengths vary as they do in earnest. Tokens are counted up to the
end of each text, seconds are those of the processor, on one thread, which a busy machine does not stretch. ``generate``
is given the prompts in batches as they come, padded; vLLM gets all of them at once. ``LLM.generate`` is measured twice:
with the same sampling parameters as selfloop's requests (a seed and a log-probability each), and with none of them,
against selfloop without log-probabilities, whose seeds stay. selfloop's arms go from tasks to rollouts, through
``draw``. Those with vLLM run in an interpreter of their own, ``SELFLOOP_VLLM_PYTHON`` or that of ``make test``. Every
ratio is of arms measured in turns in one process.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from measuring import in_turns, publish, ratios, show, spread, wants_small
from selfloop.generate import GenerateParams, draw
from selfloop.generate.engines import Engine, open_engine
from selfloop.policy import Policy, load, save, scratch_tokenizer
from selfloop.records import Task

ALPHABET = "".join(chr(0x100 + number) for number in range(254))
ENDS, LONGEST, BATCH = 6, 128, 256
PROMPTS, REPEATS = 512, 3
INTERPRETER = os.environ.get("SELFLOOP_VLLM_PYTHON", ".venv-vllm/bin/python")


class Took(NamedTuple):
    """Tokens that an arm wrote and the processor's seconds that it took."""

    tokens: int
    seconds: float


def make_policy(place: Path) -> None:
    """The policy of all arms."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = scratch_tokenizer(ALPHABET)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=352,
        max_position_embeddings=512,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=list(range(1, 1 + ENDS)),
    )
    save(Policy(LlamaForCausalLM(config).eval(), tokenizer), place)


def prompts(count: int) -> list[str]:
    """Texts of 8 to 64 tokens."""
    rng = random.Random(0)
    return ["".join(rng.choices(ALPHABET[ENDS:], k=rng.randint(8, 64))) for _ in range(count)]


def timed(arm: Callable[[], int]) -> Took:
    """Run an arm once."""
    began = time.process_time()
    tokens = arm()
    return Took(tokens, time.process_time() - began)


def selfloop(engine: Engine, texts: list[str], score: str) -> int:
    """What ``generate_rollouts`` calls."""
    params = GenerateParams.model_validate(
        {"batch_size": BATCH, "greedy_first": False, "score": score, "max_tokens": LONGEST}
    )
    tasks = [Task(str(number), 0, "", text, "") for number, text in enumerate(texts)]
    return sum(rollout.tokens for window in draw(engine, tasks, params) for rollout in window)


def plain_generate(policy: Policy, texts: list[str]) -> int:
    """transformers' own loop, batch by batch."""
    written = 0
    ends = torch.tensor(policy.model.generation_config.eos_token_id)
    for first in range(0, len(texts), BATCH):
        asked = policy.tokenizer(texts[first : first + BATCH], padding=True, padding_side="left", return_tensors="pt")
        given = {name: asked[name] for name in ("input_ids", "attention_mask")}
        drawn = policy.model.generate(**given, do_sample=True, top_k=0, max_new_tokens=LONGEST)
        new = drawn[:, given["input_ids"].shape[1] :]
        policy.tokenizer.batch_decode(new)
        ended = torch.isin(new, ends)
        written += int(torch.where(ended.any(1), ended.int().argmax(1) + 1, new.shape[1]).sum())
    return written


def plain_vllm(llm: Any, texts: list[str], alike: bool) -> int:
    """vLLM's own loop over all prompts, with sampling parameters like selfloop's or as few as can be."""
    from vllm import SamplingParams

    common: dict[str, Any] = {"max_tokens": LONGEST, "stop_token_ids": list(range(1, 1 + ENDS)), "ignore_eos": True}
    sampled = [
        SamplingParams(**common, **({"seed": number, "logprobs": 0} if alike else {})) for number in range(len(texts))
    ]
    return sum(len(output.outputs[0].token_ids) for output in llm.generate(texts, sampled, use_tqdm=False))


def with_transformers(place: Path, texts: list[str]) -> dict[str, Callable[[], Took]]:
    """The arms that need no vLLM."""
    policy = load(place, "policy")
    engine = open_engine(GenerateParams(engine="transformers", batch_size=BATCH), place, "policy")
    return {
        "transformers generate": partial(timed, partial(plain_generate, policy, texts)),
        "selfloop, transformers": partial(timed, partial(selfloop, engine, texts, "logprob")),
    }


def with_vllm(place: Path, texts: list[str]) -> dict[str, Callable[[], Took]]:
    """The arms that need vLLM; each has an engine of its own."""
    engine = open_engine(GenerateParams(engine="vllm", batch_size=BATCH, context=512), place, "policy")
    selfloop(engine, texts[:2], "logprob")  # opens the engine, and tells vLLM what to say
    from vllm import LLM

    llm = LLM(
        str(place),
        dtype="float32",
        enforce_eager=True,
        enable_chunked_prefill=False,  # as selfloop does on a CPU, where seeds need it
        max_num_batched_tokens=4096,
        max_model_len=512,
        max_num_seqs=BATCH,
        generation_config="vllm",
        disable_log_stats=True,
    )
    return {
        "LLM.generate": partial(timed, partial(plain_vllm, llm, texts, True)),
        "selfloop, vllm": partial(timed, partial(selfloop, engine, texts, "logprob")),
        "LLM.generate, bare": partial(timed, partial(plain_vllm, llm, texts, False)),
        "selfloop, vllm, no scores": partial(timed, partial(selfloop, engine, texts, "nothing")),
    }


def measured(arms: dict[str, Callable[[], Took]], repeats: int) -> dict[str, list[Took]]:
    """Every arm, warmed up and then in turns."""
    torch.set_num_threads(1)
    for arm in arms.values():
        arm()
    return in_turns(arms, repeats)


def in_vllm_environment(place: Path, small: bool) -> dict[str, list[Took]]:
    """The vLLM arms, measured by this file in the other interpreter."""
    told = place / "vllm.json"
    command = [INTERPRETER, __file__, *(["--small"] if small else [])]
    environment = os.environ | {"SELFLOOP_BENCH": str(place), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, env=environment, check=True)
    return {name: [Took(*each) for each in took] for name, took in json.loads(told.read_text()).items()}


PAIRS = {
    "selfloop, transformers": "transformers generate",
    "selfloop, vllm": "LLM.generate",
    "selfloop, vllm, no scores": "LLM.generate, bare",
}


def main() -> None:
    """Measure, print, write."""
    small = wants_small(__doc__)
    count, repeats = (64, 1) if small else (PROMPTS, REPEATS)
    if "SELFLOOP_BENCH" in os.environ:
        place = Path(os.environ["SELFLOOP_BENCH"])
        (place / "vllm.json").write_text(json.dumps(measured(with_vllm(place, prompts(count)), repeats)))
        return
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        make_policy(place)
        took = measured(with_transformers(place, prompts(count)), repeats)
        took |= in_vllm_environment(place, small)
    rates = {name: [each.tokens / each.seconds for each in of_arm] for name, of_arm in took.items()}
    over = {ours: ratios(rates[ours], rates[theirs]) for ours, theirs in PAIRS.items()}
    show(
        f"{count} prompts, batch {BATCH}, median of {repeats} (lowest–highest)",
        ["arm", "tokens/s", "over its own"],
        [(name, spread(values), over.get(name, "")) for name, values in rates.items()],
    )
    numbers = {name: {"tokens_per_second": spread(values)._asdict()} for name, values in rates.items()}
    publish("generation", small, {"arms": numbers, "over": {name: value._asdict() for name, value in over.items()}})


if __name__ == "__main__":
    main()
