"""STaR, RFT and ReST-EM: what a verifier is good for."""

from selfloop.claims import Claims, Statement

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
