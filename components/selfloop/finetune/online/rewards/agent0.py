"""What a proposer is rewarded for by Agent0 (arXiv:2511.16043): its paper and its released code differ."""

from __future__ import annotations

from pydantic import Field

from selfloop.finetune.online.rewards.proposals import Proposal, ProposalReward
from selfloop.propose.votes import tool_reward, uncertainty

UNPARSED = -1.0
"""The reward of a text that is no task, in the released code of Agent0 and in R-Zero."""


class Agent0Paper(ProposalReward):
    """A proposal's votes near 1/2, tool calls in the solver's attempts, less what the draw repeats (Agent0's paper)."""

    name = "agent0"
    uncertainty: float = Field(1.0, ge=0, description="What the uncertainty of the votes weighs.")
    tool_use: float = Field(0.6, ge=0, description="What tool use weighs.")
    each_call: float = Field(0.05, ge=0, description="What a tool call adds, before it is weighed.")
    most_calls: int = Field(4, ge=0, description="Tool calls that add anything, at most.")

    def score(self, proposal: Proposal) -> float:
        """R_C = R_fmt · max(0, λ_unc R_unc + λ_tool R_tool - R_rep), the calls counted in the solver's attempts."""
        if not proposal.is_task:
            return 0.0
        unc = self.uncertainty * uncertainty(proposal.vote.rate)
        tool = self.tool_use * tool_reward(proposal.calls, self.each_call, self.most_calls)
        return max(0.0, unc + tool - self.repetition * proposal.share)


class Agent0Code(ProposalReward):
    """A proposal whose claimed answer the votes share, with tool calls of its own (Agent0's released code)."""

    name = "agent0-code"
    each_call: float = Field(0.05, ge=0, description="What a tool result in the proposer's own text adds.")
    most_calls: int = Field(4, ge=0, description="Tool results that add anything, at most.")

    def score(self, proposal: Proposal) -> float:
        """min(p, 1 - p) - cluster share + 0.05 · min(blocks, 4), the blocks counted in the proposer's own text.

        p is 0 unless the solver's majority is the answer that the proposer claims.
        """
        if not proposal.is_task:
            return UNPARSED
        agreed = proposal.claimed is not None and proposal.claimed == proposal.vote.label
        unc = uncertainty(proposal.vote.rate if agreed else 0.0, "code")
        return unc - self.repetition * proposal.share + tool_reward(proposal.blocks, self.each_call, self.most_calls)


class RZero(ProposalReward):
    """A proposal's votes near 1/2, less what the draw repeats (R-Zero's released code, arXiv:2508.05004)."""

    name = "r-zero"

    def score(self, proposal: Proposal) -> float:
        """min(p, 1 - p) - cluster share, with no claim and no tools."""
        if not proposal.is_task:
            return UNPARSED
        return uncertainty(proposal.vote.rate, "code") - self.repetition * proposal.share
