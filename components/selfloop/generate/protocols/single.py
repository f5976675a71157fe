"""One turn: the policy answers the prompt."""

from selfloop.generate.protocols import Ask, Rules, Steps


def protocol(rules: Rules) -> Steps:
    """Ask once."""
    yield Ask()
