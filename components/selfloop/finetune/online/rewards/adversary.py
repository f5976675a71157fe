"""What a proposer is rewarded for that plays against its solver (after Language Self-Play, arXiv:2509.07414)."""

from __future__ import annotations

from pydantic import Field

from selfloop.finetune.online.rewards.proposals import Proposal, ProposalReward


class Adversary(ProposalReward):
    """What the solver does not solve, and something for a text that is a task.

    Without ``quality`` the game is zero-sum, as LSP-Zero is: what nobody can solve wins, and no task is solved less
    than a text that is none. In the paper a reward model marks answers, and one more mark is for quality, from a
    policy as it began; here the environment says what is right, and what is a task.
    """

    name = "adversary"
    quality: float = Field(1.0, ge=0, description="What a text earns for being a task.")

    def score(self, proposal: Proposal) -> float:
        """Quality where it is a task, less the share of right attempts, and less what the draw repeats."""
        return self.quality * proposal.is_task - proposal.right - self.repetition * proposal.share
