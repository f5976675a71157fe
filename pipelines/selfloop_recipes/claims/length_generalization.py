"""Self-improving transformers: what their own answers are good for (arXiv:2502.01612)."""

from selfloop.claims import Claims, Statement

control = {"filter": {"select": ["nothing"]}}
claims = Claims(
    arms={"loop": {}, "without own answers": control},
    tuning=(10, 11, 12, 13, 14),
    seeds=(0, 1, 2, 3, 4),
    statements=(
        Statement(
            "Its own checked answers teach a model longer problems than the same steps without them do.",
            "solved",
            "loop",
            ("without own answers",),
        ),
    ),
)
