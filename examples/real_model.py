"""What a real language model learns from its own right answers: SmolLM2-135M-Instruct and basic arithmetic, on a CPU.

``selfloop claim examples/real_model.py --write`` measures it. The control makes the same steps on all of its own
answers.
"""

from dataclasses import replace

from selfloop.claims import Claims, Statement
from selfloop_recipes.claims.expert_iteration import control
from selfloop_recipes.expert_iteration import recipe as expert_iteration

recipe = replace(
    expert_iteration,
    name="real-model",
    claims=Claims(
        arms={"loop": {}, "accept-all": control},
        settings={"form": "smollm2"},
        tuning=(10, 11),
        seeds=tuple(range(5)),
        statements=(
            Statement(
                "Its own answers that a verifier calls right teach it more than all of its answers do.",
                "accuracy",
                "loop",
                ("accept-all",),
                margin=0.02,
                bounds=(0, 1),
            ),
        ),
    ),
)
