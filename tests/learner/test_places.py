"""How lengths become micro-batches, and which rank trains which."""

import random
from collections import defaultdict
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from leeway_rl.learner.cutting import places
from leeway_rl.learner.packing import dealt
from leeway_rl.learner.step import shared_out, split
from tiny_policy import make_config, make_groups

SIZES = st.lists(
    st.tuples(st.integers(1, 60), st.lists(st.integers(0, 1000), min_size=1, max_size=8)).map(
        lambda group: [group[0], *group[1]]
    ),
    min_size=1,
    max_size=12,
)
LIMITS, RANKS = st.integers(60, 4000), st.integers(1, 8)


def _tokens(sizes, found):
    """Of each place the tokens that are computed there, a prompt once for each group that has a response there."""
    tokens = defaultdict(int)
    for (prompt, *own), where in zip(sizes, found, strict=True):
        for place in set(where):
            tokens[place] += prompt
        for place, size in zip(where, own, strict=True):
            tokens[place] += size
    return tokens


def _rounds(tokens):
    """The tokens of the micro-batches that are trained at the same time, round by round."""
    rounds = defaultdict(list)
    for (_, number), size in tokens.items():
        rounds[number].append(size)
    return [rounds[number] for number in range(len(rounds))]


def test_places_are_worked_by_hand():
    # Filled to 10 tokens there are three, [2 7], [2 5 3], [1 4 4], so two rounds on two ranks, and a mean of 7 tokens.
    # Up to 8 there are five, one too many; up to 9 four: [2 7], [2 5], [2 3], [1 4 4]. The two of 9 tokens are trained
    # first, and then the rank that has the first group goes on with it.
    assert places([[2, 5, 7, 3], [1, 4, 4]], limit=10, ranks=2) == [[(0, 1), (0, 0), (1, 1)], [(1, 0), (1, 0)]]


def test_one_micro_batch_holds_what_fits_in_one():
    assert places([[3, 5, 0, 4], [2, 6]], limit=20, ranks=1) == [[(0, 0)] * 3, [(0, 0)]]


def test_what_fits_in_one_micro_batch_is_spread_over_all_ranks():
    found = places([[2, 10, 10, 10, 10]], limit=1000, ranks=4)
    assert sorted(found[0]) == [(rank, 0) for rank in range(4)]
    assert len(set(places([[5, 4]], limit=1000, ranks=3)[0])) == 1, "more ranks than responses"


def test_a_rank_gets_the_group_that_it_has_begun():
    # each group fills two micro-batches, in two rounds
    found = places([[1, 90, 80], [1, 90, 80]], limit=100, ranks=2)
    assert [{rank for rank, _ in own} for own in found] == [{0}, {1}]


def test_a_prompt_and_response_past_the_limit_are_refused():
    with pytest.raises(ValueError, match="of 11 tokens exceed the micro-batch budget of 10"):
        places([[2, 5], [3, 1, 8]], limit=10, ranks=2)


@given(sizes=SIZES, limit=LIMITS, ranks=RANKS)
def test_every_response_has_one_place_and_no_micro_batch_is_past_the_limit(sizes, limit, ranks):
    assume(all(prompt + max(own) <= limit for prompt, *own in sizes))
    found = places(sizes, limit=limit, ranks=ranks)
    assert [len(own) for own in found] == [len(size) - 1 for size in sizes]
    tokens = _tokens(sizes, found)
    assert max(tokens.values()) <= limit
    assert {rank for rank, _ in tokens} <= set(range(ranks))
    assert places(sizes, limit=limit, ranks=ranks) == found, "the same batch, another plan"


@given(sizes=SIZES, limit=LIMITS, ranks=RANKS)
def test_ranks_meet_the_micro_batches_of_a_round_are_neighbours_in_size(sizes, limit, ranks):
    assume(all(prompt + max(own) <= limit for prompt, *own in sizes))
    rounds = _rounds(_tokens(sizes, places(sizes, limit=limit, ranks=ranks)))
    assert all(len(each) == ranks for each in rounds[:-1]), "only the last round may leave a rank without work"
    assert 1 <= len(rounds[-1]) <= ranks
    for larger, smaller in pairwise(rounds):
        assert min(larger) >= max(smaller)


@given(sizes=SIZES, limit=LIMITS, ranks=RANKS)
def test_no_rank_makes_more_passes_than_full_micro_batches_need(sizes, limit, ranks):
    """Filled one after the other, two neighbours hold together more than one may."""
    assume(all(prompt + max(own) <= limit for prompt, *own in sizes))
    tokens = _tokens(sizes, places(sizes, limit=limit, ranks=ranks))
    whole = sum(sum(own) + prompt * len(own) for prompt, *own in sizes)  # as if every response had its own prompt
    most = 2 * whole // limit + 1
    assert len(_rounds(tokens)) <= -(-most // ranks)


@given(sizes=SIZES, ranks=RANKS)
def test_with_room_for_all_no_rank_has_half_as_much_again_as_the_mean_and_the_longest(sizes, ranks):
    tokens = _tokens(sizes, places(sizes, limit=100_000, ranks=ranks))
    whole = sum(sum(own) + prompt * len(own) for prompt, *own in sizes)
    longest = max(prompt + max(own) for prompt, *own in sizes)
    assert {number for _, number in tokens} == {0}
    assert max(tokens.values()) <= 1.5 * (whole / ranks + longest) + 1


@given(count=st.integers(1, 6), ranks=st.integers(1, 4), limit=st.sampled_from([24, 60, 4096]), seed=st.integers(0, 99))
def test_every_response_is_dealt_once_whatever_the_order_of_the_groups(count, ranks, limit, seed):
    groups = make_groups(count, seed=seed)
    by_rank = dealt(groups, token_budget=limit, ranks=ranks)
    again = dealt(random.Random(seed).sample(groups, count), token_budget=limit, ranks=ranks)
    assert [[(g.ticket.ticket, g.micro_batch_S) for g in own] for own in by_rank] == [
        [(g.ticket.ticket, g.micro_batch_S) for g in own] for own in again
    ]
    trained = [sum(g.trained_S.astype(int) for own in by_rank for g in own if g.ticket == it.ticket) for it in groups]
    assert all((times_S == 1).all() for times_S in trained)
    assert all(group.trained_S.any() for own in by_rank for group in own)


@pytest.mark.parametrize("ranks", [1, 3])
def test_mini_batches_are_dealt_each_by_itself(ranks):
    groups = make_groups(6)
    config = make_config("none", train__groups_per_step=6, train__minibatch_groups=2, train__micro_batch_tokens=28)
    by_rank = shared_out(groups, config, ranks)
    places_of = split([group.ticket.ticket for group in groups], config.train)
    for part in range(3):
        alone = dealt([g for g, of in zip(groups, places_of, strict=True) if of == part], token_budget=28, ranks=ranks)
        mine = [[g for g in own if places_of[g.ticket.ticket] == part] for own in by_rank]
        assert [[g.micro_batch_S for g in own] for own in mine] == [[g.micro_batch_S for g in own] for own in alone]
