"""Rounds whose tasks a policy proposes: what the loops of a proposer and a solver share, beside the frame."""

from __future__ import annotations

from typing import NamedTuple

from kfp.dsl import Dataset, Model

from selfloop.filter import BandParams, band_tasks
from selfloop.generate import GenerateParams, generate_rollouts
from selfloop.loop import LoopSettings
from selfloop.propose import LearnedParams, ProposalArchiveParams, propose_by_policy
from selfloop.verify import VerifyParams, verify_rollouts


class ProposalSettings(LoopSettings):
    """The settings of a loop whose tasks are proposed, voted on by the solver, and kept where the vote is in a band."""

    archive: ProposalArchiveParams = ProposalArchiveParams()
    learn: LearnedParams = LearnedParams(protocol="single", max_tokens=32)
    generate: GenerateParams = GenerateParams(attempts="fixed", samples=9, greedy_first=False)
    vote: VerifyParams = VerifyParams(verifier="majority")
    band: BandParams = BandParams()
    verify: VerifyParams = VerifyParams(verifier="label")


class Proposed(NamedTuple):
    """Tasks whose pass rate lies in the band, labelled by the solver's majority, and the archive with all proposals."""

    tasks: Dataset
    proposal_archive: Dataset


def propose_and_vote(
    s: ProposalSettings, proposer: Model, solver: Model, proposal_archive: Dataset, eval_items: Dataset
) -> Proposed:
    """Have the proposer write tasks, the solver vote on their answers, and keep those in the band."""
    made = propose_by_policy(s.learn, proposer, proposal_archive, eval_items)
    votes = generate_rollouts(s.generate, solver, made.tasks).rollouts
    verdicts = verify_rollouts(s.vote, made.tasks, votes).verdicts
    return Proposed(band_tasks(s.band, made.tasks, votes, verdicts).band, made.proposal_archive)
