import itertools
import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selfloop.errors import UserError
from selfloop.finetune.online.rewards import Reward
from selfloop.finetune.online.rewards.adversary import Adversary
from selfloop.finetune.online.rewards.agent0 import Agent0Code, Agent0Paper, RZero
from selfloop.finetune.online.rewards.proposals import Proposal, ProposalReward
from selfloop.propose.votes import Vote, characters, distances, repetition, tool_reward, uncertainty, votes

RATES = st.floats(0, 1)
TEXTS = st.lists(st.text("123+*", min_size=1, max_size=8), max_size=8)
PROPOSALS = st.builds(
    Proposal,
    is_task=st.booleans(),
    vote=st.builds(Vote, st.sampled_from(["1", "2"]), RATES),
    share=RATES,
    calls=st.floats(0, 9),
    blocks=st.integers(0, 9),
    claimed=st.sampled_from([None, "1", "2"]),
    right=st.sampled_from([solved / 10 for solved in range(11)]),
)


@given(PROPOSALS, PROPOSALS)
def test_an_adversary_prefers_what_is_solved_less_and_without_quality_nothing_beats_no_task(
    one: Proposal, other: Proposal
) -> None:
    plain, zero = Adversary(repetition=0), Adversary(repetition=0, quality=0)
    if one.is_task and other.is_task:
        assert (plain.score(one) > plain.score(other)) == (one.right < other.right)
    no_task = Proposal(False)
    assert zero.score(no_task) >= zero.score(one)
    if one.is_task:
        assert plain.score(one) >= plain.score(no_task)


@given(st.lists(st.sampled_from(["1", "2", "3", None])))
def test_the_label_is_a_most_frequent_answer_and_its_rate_is_its_share(answers: list[str | None]) -> None:
    label, rate = votes(answers)
    there = [answer for answer in answers if answer is not None]
    if not there:
        assert (label, rate) == (None, 0.0)
        return
    most = max(Counter(there).values())
    assert label == next(answer for answer in there if there.count(answer) == most)
    assert rate == most / len(there)
    assert votes(answers, "all") == (label, most / len(answers))


def test_texts_without_an_answer_lower_the_rate_only_where_all_count() -> None:
    answers = ["7", None, "8", "7"]
    assert votes(answers) == ("7", 2 / 3)
    assert votes(answers, "all") == ("7", 1 / 2)
    assert votes(["8", "7", "7", "8"]).label == "8"


@given(RATES)
def test_uncertainty_is_largest_at_a_half_and_the_code_s_is_half_the_paper_s(rate: float) -> None:
    assert 0 <= uncertainty(rate) <= uncertainty(0.5) == 1
    assert uncertainty(rate, "code") == pytest.approx(uncertainty(rate) / 2)
    assert uncertainty(rate) == pytest.approx(uncertainty(1 - rate))


@given(st.floats(0, 20), st.floats(0, 1), st.integers(1, 8))
def test_tool_calls_count_up_to_a_cap(calls: float, each_call: float, cap: int) -> None:
    assert tool_reward(calls, each_call, cap) == each_call * (calls if calls < cap else cap)


@given(PROPOSALS)
def test_the_paper_s_reward_is_its_equation_and_never_negative(proposal: Proposal) -> None:
    reward = Agent0Paper().score(proposal)
    unc = 1 - 2 * abs(proposal.vote.rate - 0.5)
    whole = unc + 0.6 * 0.05 * min(proposal.calls, 4) - proposal.share
    assert reward == pytest.approx(proposal.is_task * max(0, whole))


@given(PROPOSALS)
def test_the_released_code_s_reward_has_a_gate_and_counts_the_proposer_s_own_blocks(proposal: Proposal) -> None:
    reward = Agent0Code().score(proposal)
    rate = proposal.vote.rate if proposal.claimed == proposal.vote.label else 0
    expected = min(rate, 1 - rate) - proposal.share + 0.05 * min(proposal.blocks, 4)
    assert reward == pytest.approx(expected if proposal.is_task else -1)
    assert Agent0Code().score(proposal._replace(calls=0.0)) == reward


@given(PROPOSALS)
def test_r_zero_s_reward_knows_neither_tools_nor_claims(proposal: Proposal) -> None:
    reward = RZero().score(proposal)
    assert reward == RZero().score(proposal._replace(calls=0.0, blocks=0, claimed=None))
    rate = proposal.vote.rate
    assert reward == pytest.approx(min(rate, 1 - rate) - proposal.share if proposal.is_task else -1)


@given(st.sampled_from([Agent0Paper(), Agent0Code(), RZero()]), PROPOSALS, RATES)
def test_no_reward_gives_more_for_what_was_said_before(
    reward: ProposalReward, proposal: Proposal, share: float
) -> None:
    less, more = sorted((share, proposal.share))
    assert reward.score(proposal._replace(share=less)) >= reward.score(proposal._replace(share=more))


def test_weights_are_those_that_are_given() -> None:
    proposal = Proposal(is_task=True, vote=Vote("1", 0.25), share=0.1, calls=2)
    spelt = "agent0,uncertainty=2,tool_use=1,repetition=3,each_call=0.1,most_calls=1"
    reward = Reward.parse(spelt)
    assert isinstance(reward, ProposalReward)
    assert reward.score(proposal) == pytest.approx(1.0 + 0.1 - 0.3)


@pytest.mark.parametrize(
    ("spelt", "says"),
    [
        ("agent", "There is no reward 'agent': did you mean 'agent0'"),
        ("r-zero,each_call=1", "There is no parameter of the reward 'r-zero' 'each_call'"),
        ("r-zero,protocol=tools,protocol.tools=opp", "There is no tool 'opp': did you mean 'op'"),
        ("agent0,protocol=tool", "There is no protocol 'tool': did you mean 'tools'"),
    ],
)
def test_a_reward_that_is_not_there_is_refused(spelt: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        Reward.parse(spelt)


@given(TEXTS)
@settings(deadline=None)
def test_a_text_shares_its_cluster_with_its_copies_and_the_order_does_not_matter(texts: list[str]) -> None:
    shares = repetition(texts)
    assert len(shares) == len(texts)
    assert all(share >= texts.count(text) / len(texts) for text, share in zip(texts, shares, strict=True))
    assert repetition(texts[::-1]) == pytest.approx(shares[::-1])
    if texts:
        assert sum(1 / (share * len(texts)) for share in shares) == pytest.approx(len(_clusters(texts)))


def _clusters(texts: list[str]) -> set[int]:
    """The clusters as scikit-learn finds them, which Agent0 uses."""
    from sklearn.cluster import AgglomerativeClustering

    if len(texts) < 2:
        return {0}
    found = AgglomerativeClustering(None, metric="precomputed", linkage="average", distance_threshold=0.5)
    return set(found.fit_predict(distances(texts, characters)).tolist())


def test_alike_texts_are_one_cluster_and_different_ones_are_not() -> None:
    texts = ["(1+2)*3-4", "(1+2)*3-5", "(1+2)*3-4", "9*8*7+6"]
    assert repetition(texts) == [0.75, 0.75, 0.75, 0.25]
    assert repetition(texts, cut=0.0) == [0.5, 0.25, 0.5, 0.25]
    assert repetition(["one more apple for Ann", "one more apple for Ben"], tokens=str.split) == [1.0, 1.0]
    assert repetition([]) == []
    assert repetition(["1+2"]) == [1.0]


def test_the_distance_is_one_less_bleu_as_it_is_defined() -> None:
    one, other = "1+2+3+4+5", "1+2+3+4*5"
    found = distances([one, other, one], characters)
    precisions = []
    for n in range(1, 5):
        grams = [Counter(text[i : i + n] for i in range(len(text) - n + 1)) for text in (one, other)]
        precisions.append((grams[0] & grams[1]).total() / grams[1].total())
    assert found[0, 1] == pytest.approx(1 - math.prod(precisions) ** 0.25)
    assert found[0, 2] == 0
    assert all(found[a, b] == found[b, a] for a, b in itertools.combinations(range(3), 2))
