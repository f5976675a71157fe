"""Agent0: a proposer that follows its solver, and what tools are for (arXiv:2511.16043).

``rate`` is the mean vote rate of all proposals, before any band; ``level`` their mean level in the last round, and
``harder`` how much it rose since the first; ``gained`` the sum of what the promoted candidates gained on held-out items
of the target suite; ``beyond`` the executor's accuracy on levels above those of the base data, ``several`` that on all
levels from 2 on, which one call of the tool does not solve; ``precision`` how much of what the pseudo-labels call right
is right. They rot where a solver without a tool votes on what it works out in its head.
"""

from collections.abc import Mapping, Sequence
from math import nan
from statistics import fmean
from typing import Any

from selfloop.claims import Claims, Statement
from selfloop.finetune.online.rewards.adversary import Adversary
from selfloop.finetune.online.rewards.agent0 import Agent0Code, RZero
from selfloop.recipe import Form

TOOLS = "tools,tools=op,turns=14"
"""How the executor attempts a task."""
BAND = {"min_rate": 0.3, "max_rate": 0.8}
CODE = {
    "environment": "arithmetic:claims",
    "challenge": {"reward": Agent0Code(protocol=TOOLS), "protocol": TOOLS},
    "learn": {"protocol": TOOLS},
    "band": BAND,
    "reinforce": {"algorithm": "adpo,trust=0.6", "steps": 100},
}
R_ZERO = {"challenge": {"reward": RZero(protocol=TOOLS)}, "band": BAND, "reinforce": {"algorithm": "grpo", "steps": 20}}
SINGLE = {"protocol": "single"}
ATTEMPTS = ("generate", "reinforce", "evaluate", "measure")
"""The stages in which the executor attempts tasks, beside the reward of proposals."""
WITHOUT_TOOL = {"challenge": {"reward": SINGLE}} | dict.fromkeys(ATTEMPTS, SINGLE)
CHAINS = WITHOUT_TOOL | {
    "environment": "chain",
    "base": {"levels": 6, "per_level": 6000, "tail": 0.6, "proposals": 1000, "proposal_levels": [1, 2]},
    "draw": {"levels": [3, 4, 5, 6], "old_levels": [1, 2]},
    "learn": {"number": 256},
    "reinforce": SINGLE | {"steps": 40},
    "measure": SINGLE | {"levels": list(range(1, 13)), "per_level": 100},
}
ADVERSARY = {
    "challenge": {"reward": Adversary(protocol=TOOLS), "algorithm": "dr-grpo", "kl_beta": 0.05},
    "band": {"min_rate": 0.0, "max_rate": 1.0},
    "verify": {"verifier": "exact"},
    "reinforce": {"reward": "verified", "algorithm": "dr-grpo", "kl_beta": 0.05},
}
forms = {
    "adversary": Form(
        "The proposer plays against the solver, whose answers are checked; two policies where the paper has one.",
        ADVERSARY,
        "arXiv:2509.07414",
    ),
    "code": Form("As Agent0's released code has it.", CODE, "arXiv:2511.16043", needs=frozenset({"claims"})),
    "chains": Form("Chains without a tool, from a proposer that was shown one and two steps.", CHAINS),
    "r-zero": Form("R-Zero: no tool is rewarded.", R_ZERO, "arXiv:2508.05004"),
}
control = {"proposer": "frozen"}
SHARE = (0.0, 1.0)
no_tool = {"environment": "arithmetic:plain"} | WITHOUT_TOOL
claims = Claims(
    arms={
        "agent0": {"gate": {"guards": []}},
        "frozen proposer": control | {"gate": {"guards": []}},
        "no tool": no_tool | {"gate": {"guards": []}},
        "no tool, watched": no_tool | {"gate": {"guards": "precision,warn=0.5,halt=0.4"}},
    },
    settings={"gate": {"require": "nothing"}, "learn": {"number": 256}, "reinforce": {"steps": 30}},
    tuning=(1, 2),
    seeds=tuple(range(41, 51)),
    statements=(
        Statement(
            "The solver's pass rate on what is proposed is near 1/2.",
            "rate",
            "agent0",
            within=(0.35, 0.65),
            bounds=SHARE,
        ),
        Statement("What is proposed grows harder from round to round.", "harder", "agent0", within=(0.0, 12.0)),
        Statement("It is harder than what an untrained proposer writes.", "level", "agent0", ("frozen proposer",)),
        Statement("The executor gets better.", "gained", "agent0", within=(0.0, 3.0)),
        Statement(
            "A proposer that learns takes the executor further.", "beyond", "agent0", ("frozen proposer",), bounds=SHARE
        ),
        Statement(
            "On tasks of several operations a tool takes it further.", "several", "agent0", ("no tool",), bounds=SHARE
        ),
        Statement(
            "Most of what its pseudo-labels call right is right.",
            "precision",
            "agent0",
            within=(0.5, 1.0),
            bounds=SHARE,
        ),
        Statement(
            "The guard halts a run whose pseudo-labels rot.",
            "halted",
            "no tool, watched",
            within=(0.5, 1.0),
            bounds=SHARE,
        ),
    ),
)


def figures(s: Any, rounds: Sequence[Mapping[str, Any]], measured: Mapping[str, Any]) -> dict[str, float]:
    """What a run came to, from its history and its accuracy at the end, by level; of rounds in which was proposed."""
    accuracy, levels = measured["accuracy"], s.base.levels
    rounds = [round for round in rounds if round["band"]["tasks"]]
    proposed = [round["band"]["mean_level"] for round in rounds]
    beyond = [value for level, value in accuracy.items() if int(level) > levels]
    rates = [round["band"]["mean_rate"] for round in rounds]
    gains = [round["decision"]["suites"]["target"]["gain"] for round in rounds if round["decision"]["promoted"]]
    precise = [round["audit"]["precision"] for round in rounds if round["audit"]["precision"] is not None]
    return {
        "beyond": fmean(beyond) if beyond else nan,
        "gained": sum(gains),
        "several": fmean(accuracy.values()),
        "rate": fmean(rates) if rates else nan,
        "level": proposed[-1] if proposed else nan,
        "harder": proposed[-1] - proposed[0] if proposed else nan,
        "precision": fmean(precise) if precise else nan,
    }
