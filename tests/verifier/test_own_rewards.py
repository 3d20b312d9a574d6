"""Reward functions of a user's: what they are given, what they may give, and what becomes of those that misbehave."""

import os
from pathlib import Path

import numpy as np
import psutil
import pytest
from leeway_rl.common.config import Config, Data, Model, Reward, Train, Verifier
from leeway_rl.common.errors import ConfigError
from leeway_rl.common.types import Part, VerdictKind
from leeway_rl.verifier.pool import GradeItem, GraderPool
from leeway_rl.verifier.rewards.grading import RewardGrader
from leeway_rl.verifier.worker import conversations_of, grade_items

from tests.samples import a_ticket, two_turns

FILE = Path(__file__).with_name("own_rewards.py")
ROW = '{"prompt": "2+3?", "answer": "5", "colour": "red"}'
ERROR, SCORED, NO_ANSWER = VerdictKind.ERROR, VerdictKind.SCORED, VerdictKind.NO_ANSWER


def config_of(*rewards, attempts=1, **verifier):
    entries = [
        reward if isinstance(reward, Reward) else Reward(use=f"{FILE}:{reward}", timeout_s=20) for reward in rewards
    ]
    return Config(
        model=Model(path=""),
        data=Data(path=""),
        train=Train(steps=1, groups_per_step=1, group_size=2, max_response_tokens=8),
        verifier=Verifier(**verifier),
        rewards=entries,
        environment={"use": "calculator"} if any(entry.use == "environment" for entry in entries) else None,
        broker={"max_attempts": attempts},
    )


def own(name, **keys):
    return Reward(use=f"{FILE}:{name}", **{"timeout_s": 20.0, **keys})


@pytest.fixture(scope="module")
def pool():
    with GraderPool(1, timeout_s=20) as pool:
        yield pool


def items(*texts, finished=None, ability="exact"):
    ends = finished or [True] * len(texts)
    return [
        GradeItem(ability=ability, response=text, golds=("5",), finished=end)
        for text, end in zip(texts, ends, strict=True)
    ]


def graded(pool, config, *texts, finished=None, row=ROW):
    with RewardGrader(config, pool) as grader:
        return grader.grade(items(*texts, finished=finished), [3] * len(texts), row)


def test_a_function_gives_each_response_a_number(pool):
    verdicts = graded(pool, config_of("length_of"), "abc", "")
    assert [(verdict.kind, verdict.reward) for verdict in verdicts] == [(SCORED, 0.3), (SCORED, 0.0)]
    assert all(verdict.parts == () for verdict in verdicts)


def test_a_bool_is_a_number_and_the_row_is_given(pool):
    assert [verdict.reward for verdict in graded(pool, config_of("matches"), "5", "6")] == [1.0, 0.0]


def test_a_function_is_told_what_it_asks_for_and_no_more(pool):
    rewards = [Reward(use="exact", weight=0), own("told")]
    right, wrong = graded(pool, config_of(*rewards), r"\boxed{5}", r"\boxed{6}")
    assert (right.reward, wrong.reward) == (1 + 30 + 1000, 1 + 30)
    assert right.parts == (Part(name="exact", value=1.0), Part(name="told", value=1031.0))
    assert right.reason == "exact 1 (correct: equal as written); told 1031 (as told)"


def test_each_source_is_judged_by_its_own_rewards_and_one_without_by_its_ability(pool):
    config = config_of(Reward(use="exact"), own("length_of"))
    sources = {"both": None, "judged": ("exact",), "scored": ("length_of",), "plain": ()}
    data = tuple(Data(name=name, path="", rewards=rewards) for name, rewards in sources.items())
    with RewardGrader(config.model_copy(update={"data": data}), pool) as grader:
        found = {name: grader.grade(items(r"\boxed{5}"), [3], ROW, prompt_id=f"{name}:1")[0] for name in sources}
    assert [(part.name, part.value) for part in found["both"].parts] == [("exact", 1.0), ("length_of", 0.9)]
    assert (found["judged"].kind, found["judged"].reward) == (VerdictKind.CORRECT, 1.0)
    assert found["judged"].parts == (Part(name="exact", value=1.0),)
    assert (found["scored"].kind, found["scored"].reward) == (SCORED, 0.9)
    assert (found["plain"].kind, found["plain"].parts) == (VerdictKind.CORRECT, ())


def test_a_source_in_which_nobody_can_tell_what_is_correct_is_named(pool):
    config = config_of(Reward(use="exact", weight=0), own("told"))
    data = (Data(name="fine", path=""), Data(name="blind", path="", rewards=("told",)))
    with pytest.raises(ConfigError, match="rewards of source blind: told asks whether the answer is correct"):
        RewardGrader(config.model_copy(update={"data": data}), pool)


def letters(tokens):
    return "".join(chr(96 + token) for token in tokens)


def of_a_conversation(pool, *rewards, finished=(1, 1), environment_S=(0.75, -1.0)):
    """The verdicts on one response of two turns (``ab``, then ``hi`` by the environment, then ``cd``) and one of one
    (``ef``)."""
    ticket = a_ticket(ability="exact", ground_truth=("5",), row=ROW)
    changes = {"finished_S": np.array(finished, np.uint8), "environment_S": np.array(environment_S, np.float64)}
    responses = two_turns(ticket, **changes)
    graded_items = grade_items(ticket, responses, letters)
    with RewardGrader(config_of(*rewards), pool) as grader:
        said = conversations_of(responses, letters)
        return graded_items, grader.grade(graded_items, responses.sampled_S.tolist(), ticket.row, said)


def test_of_several_turns_the_last_is_graded_and_the_length_is_what_was_sampled(pool):
    graded_items, verdicts = of_a_conversation(pool, "length_of", own("exact_length", weight=0))
    assert [item.response for item in graded_items] == ["cd", "ef"]
    assert [verdict.parts[0].value for verdict in verdicts] == [0.2, 0.2]
    assert [verdict.parts[1].value for verdict in verdicts] == [4.0, 2.0]


def test_a_function_may_ask_for_all_turns_and_has_its_own_copy_of_them(pool):
    rewards = [own("said"), Reward(use=f"{FILE}:said", name="again", weight=0), own("said_by_all", weight=0)]
    _, verdicts = of_a_conversation(pool, *rewards)
    assert [[part.value for part in verdict.parts] for verdict in verdicts] == [[103.0, 103.0, 3.0], [1.0, 1.0, 1.0]]
    assert verdicts[0].reason == "said 103 (cd); again 103 (cd); said_by_all 3"
    assert graded(pool, config_of("said"), "alone")[0].reason == "alone", "without an environment there is one turn"


def test_what_the_environment_gave_is_a_reward_alone_and_among_others(pool):
    _, verdicts = of_a_conversation(pool, Reward(use="environment"))
    assert [(verdict.kind, verdict.reward, verdict.parts) for verdict in verdicts] == [
        (SCORED, 0.75, ()),
        (SCORED, -1.0, ()),
    ]
    _, (first, second) = of_a_conversation(pool, Reward(use="environment", weight=2), "length_of")
    assert first.parts == (Part(name="environment", value=0.75), Part(name="length_of", value=0.2))
    assert (first.reward, second.reward) == (1.7, -1.8)


def test_a_sum_of_turn_rewards_of_0_is_a_score_and_one_that_is_truncated_counts_where_it_is_said(pool):
    _, (none, cut) = of_a_conversation(pool, Reward(use="environment"), finished=(1, 0), environment_S=(0.0, 0.5))
    assert (none.kind, none.reward) == (SCORED, 0.0)
    assert (cut.kind, cut.reward, cut.reason) == (NO_ANSWER, 0.0, "the response is truncated")
    counted = Reward(use="environment", truncated="score")
    _, (_, cut) = of_a_conversation(pool, counted, finished=(1, 0), environment_S=(0.0, 0.5))
    assert (cut.kind, cut.reward) == (SCORED, 0.5)


def test_what_the_environment_found_solved_is_correct_to_functions_that_ask(pool):
    _, verdicts = of_a_conversation(pool, Reward(use="environment", weight=0), "told", environment_S=(1.0, 0.5))
    assert [verdict.reward for verdict in verdicts] == [1 + 40 + 1000, 1 + 20]


def test_responses_that_no_environment_rewarded_are_an_error_and_no_0(pool):
    (verdict,) = graded(pool, config_of(Reward(use="environment")), "a")
    assert (verdict.kind, verdict.reason) == (ERROR, "no environment has given this response a reward")


def test_whether_the_reasoning_is_open_is_said_by_what_stands_before_the_last_turn():
    marks = {9: "<think>", 7: "."}

    def text(tokens):
        return "".join(marks.get(token, "x") for token in tokens)

    ticket = a_ticket(prompt_tokens_P=np.array([5, 7], np.uint32))
    responses = two_turns(ticket)  # the environment's tokens are 8 and 9
    assert [item.reasoning_open for item in grade_items(ticket, responses, text)] == [True, False]
    opened = a_ticket(prompt_tokens_P=np.array([5, 9], np.uint32))
    closed = two_turns(opened, tokens_T=np.array([1, 2, 8, 8, 3, 4, 5, 6], np.uint16))
    assert [item.reasoning_open for item in grade_items(opened, closed, text)] == [False, True]


def test_options_are_keyword_arguments(pool):
    assert graded(pool, config_of(own("with_options", options={"bonus": 2, "malus": 0.5})), "x")[0].reward == 1.5


def test_no_call_sees_what_another_did_to_its_row(pool):
    rewards = [own("spoils_the_row", weight=0), own("matches")]
    assert [verdict.reward for verdict in graded(pool, config_of(*rewards), "5", "5")] == [1.0, 1.0]


def test_a_function_of_the_whole_group_ranks_it(pool):
    assert [verdict.reward for verdict in graded(pool, config_of("ranked"), "aaa", "a", "aa")] == [2.0, 0.0, 1.0]


def test_a_prepared_function_is_made_once(pool):
    prepared = own("ready", options={"start": 10})
    assert [verdict.reward for verdict in graded(pool, config_of(prepared), "a", "b", "c")] == [11.0, 12.0, 13.0]


def test_a_truncated_response_gets_0_and_is_not_asked_about_unless_that_is_said(pool):
    ends = [True, False]
    kinds = [verdict.kind for verdict in graded(pool, config_of("length_of"), "abc", "abc", finished=ends)]
    assert kinds == [SCORED, NO_ANSWER]
    told = graded(pool, config_of(own("length_of", truncated="score")), "abc", "abc", finished=ends)
    assert [verdict.reward for verdict in told] == [0.3, 0.3]
    marked = graded(pool, config_of("of_truncated"), "abc", "abc", finished=ends)
    assert [verdict.reward for verdict in marked] == [0.5, -1.0]


def test_sums_and_products_are_of_values_times_weights(pool):
    rewards = [Reward(use="exact", weight=2), own("length_of", weight=0.5)]
    assert graded(pool, config_of(*rewards), r"\boxed{5}")[0].reward == 2 + 0.5 * 0.9
    assert graded(pool, config_of(*rewards, combine="product"), r"\boxed{5}")[0].reward == 2 * 0.5 * 0.9


def test_a_judge_alone_gives_the_verdict_that_it_gives_without_rewards(pool):
    (with_it,) = graded(pool, config_of(Reward(use="exact")), r"\boxed{5}")
    (without,) = pool.grade(items(r"\boxed{5}"))
    assert (with_it.kind, with_it.reason, with_it.score, with_it.parts) == (without.kind, without.reason, None, ())


def test_async_functions_wait_together(pool):
    with RewardGrader(config_of(own("meets", timeout_s=60)), pool) as grader:
        verdicts = grader.grade(items(*"abcdefghijklmnopqrst"), [1] * 20, ROW)
    assert [verdict.reward for verdict in verdicts] == [1.0] * 20


@pytest.mark.parametrize(
    ("name", "word"),
    [
        (
            "raises",
            "KeyError: 'the row has no such column' (line 68 of own_rewards.py); the row has prompt, answer, colour",
        ),
        ("leaves", "SystemExit: 3"),
        ("interrupts", "KeyboardInterrupt"),
        ("leaves_later", "SystemExit: 3"),
        ("was_cancelled", "CancelledError"),
        ("gives_up_itself", "TimeoutError: the endpoint's own clock"),
        ("cannot_say", "_Dumb"),
        ("ends_at_once", "its process was lost: exit code 7"),
        ("hangs", "killed after 1 s (timeout_s) without an answer (line 104 of own_rewards.py)"),
        ("never", "no answer within 1 s (line 59 of own_rewards.py)"),
        ("hoards", "more memory than verifier.rewards_memory_bytes (line 109 of own_rewards.py)"),
        ("dies", "its process was lost: signal 9"),
        ("is_nan", "it returned nan, and a reward is finite"),
        ("is_text", "it returned a str ('1.0'), and a reward is a number, such as 1.0 (line 137 of own_rewards.py)"),
        ("is_none", "it returned None, and a reward is a number, such as 1.0 (line 141 of own_rewards.py)"),
        ("too_few", "it returned 1 number for a group of 2 responses"),
    ],
)
def test_what_gives_no_number_is_an_error_with_its_word_and_the_next_group_is_graded(pool, name, word):
    config = config_of(own(name, timeout_s=1 if name in ("hangs", "never") else 60), own("length_of"))
    with RewardGrader(config, pool) as grader:
        verdicts = grader.grade(items("abc", "def"), [3, 3], ROW)
        assert [verdict.kind for verdict in verdicts] == [ERROR, ERROR]
        assert verdicts[0].reason.startswith(f"{name}: {word}")
        assert grader.grade(items("abc", "def"), [3, 3], ROW)[0].kind is ERROR


def test_an_async_function_that_blocks_is_killed(pool, monkeypatch):
    monkeypatch.setattr("leeway_rl.verifier.rewards.seats.GRACE_S", 0.5)
    (verdict,) = graded(pool, config_of(own("blocks", timeout_s=1)), "abc")
    assert (verdict.kind, verdict.reason) == (
        ERROR,
        "blocks: killed after 1 s (timeout_s) without an answer (line 63 of own_rewards.py)",
    )


@pytest.mark.parametrize("name", ["prints", "forks", "fork_returns"])
def test_printing_and_forking_change_no_number_and_leave_nothing_behind(pool, name):
    with RewardGrader(config_of(name), pool) as grader:
        for _ in range(3):
            assert [verdict.reward for verdict in grader.grade(items("a", "b"), [1, 1], ROW)] == [1.0, 1.0]
        ours = [psutil.Process(pid) for pid in grader.pids()]
        family = [*ours, *(child for each in ours for child in each.children(recursive=True))]
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive


def test_a_misbehaving_function_costs_no_other_group_its_process(pool):
    with RewardGrader(config_of("length_of"), pool) as grader:
        grader.grade(items("abc"), [3], ROW)
        (before,) = grader.pids()
        os.kill(before, 9)
        assert grader.grade(items("abc"), [3], ROW)[0].kind is ERROR  # one try was allowed
        assert grader.grade(items("abc"), [3], ROW)[0].reward == 0.3
        assert grader.pids() != [before]


def test_a_call_that_fails_is_made_again_and_the_others_are_not(pool, tmp_path):
    once = own("fails_once", options={"marker": str(tmp_path / "marker")})
    counted = own("ready", options={"start": 0})
    verdicts = graded(pool, config_of(once, counted, attempts=2), "a", "b")
    assert [verdict.kind for verdict in verdicts] == [SCORED, SCORED]
    assert [verdict.parts[1].value for verdict in verdicts] == [1.0, 2.0], "asked once each"


def test_an_error_says_how_often_it_was_tried(pool):
    (verdict,) = graded(pool, config_of("raises", attempts=2), "a")
    assert verdict.reason.endswith("tried 2 times")


def test_a_secret_is_looked_up_and_what_quotes_it_is_told_without_it(pool, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "sk-very-secret-9")
    config = config_of(own("quotes", options={"key": "env:JUDGE_KEY"}))
    (verdict,) = graded(pool, config, "a")
    assert "the key env:JUDGE_KEY is not known" in verdict.reason


@pytest.mark.parametrize("secret", ["sk-very-secret-9", "-----BEGIN KEY-----\nsk very  secret 9\n-----END KEY-----\n"])
@pytest.mark.parametrize(
    ("name", "word"), [("quotes", "the key env:JUDGE_KEY is"), ("says_its_key", "with env:JUDGE_KEY")]
)
def test_no_reason_holds_a_secret_however_it_is_laid_out(pool, monkeypatch, secret, name, word):
    monkeypatch.setenv("JUDGE_KEY", secret)
    options = {"key": "env:JUDGE_KEY"}
    (verdict,) = graded(pool, config_of(own(name, options=options)), "a")
    assert word in verdict.reason
    assert "very" not in verdict.reason


@pytest.mark.parametrize(
    ("reward", "wrong"),
    [
        (Reward(use="/nowhere/reward.py:f"), "no such file"),
        (own("lenght_of"), "has no 'lenght_of'; did you mean 'length_of'"),
        (own("with_options", options={"bonuss": 1}), "cannot be called with"),
        (own("with_options"), "missing a required argument: 'bonus'"),
        (
            own("asks_for_another"),
            r"it has to take \(response, row\), and may ask for finished, length, correct, turns",
        ),
        (own("FILE"), "has no 'FILE'; it has .*'length_of'"),
        (Reward(use="no_such_package:f"), "ModuleNotFoundError"),
        (Reward(use="think_tag"), "did you mean 'think_tags'"),
        (own("quotes", options={"key": "env:NOT_SET_ANYWHERE"}), "the variable is not set"),
        (own("told"), "nothing judges that"),
        (own("of_trl"), r"its parameters are those of TRL; a reward takes \(response, row\)"),
        (own("of_verl"), "its parameters are those of verl"),
        (own("Made"), "it is a class"),
        (own("yields"), "it yields"),
        (Reward(use="my/reward:f"), "a file's name ends with .py"),
    ],
)
def test_what_cannot_be_loaded_is_told_before_the_first_group(pool, reward, wrong):
    with pytest.raises(ConfigError, match=wrong):
        RewardGrader(config_of(reward), pool)


def test_who_takes_anything_needs_no_judge_of_answers(pool):
    assert [each.score for each in graded(pool, config_of("takes_anything"), "a")] == [3.0], "all but correct"


def test_a_function_of_trl_needs_the_lines_of_the_page_around_it(pool):
    assert [each.score for each in graded(pool, config_of("around_trl"), "it is 5", "it is 4")] == [1.0, 0.0]


def test_other_code_than_the_run_s_is_refused_unless_said(pool, tmp_path):
    beside = tmp_path / "beside.py"
    beside.write_text("SCALE = 2.0\n")
    mine = tmp_path / "mine.py"
    mine.write_text("from beside import SCALE\n\ndef f(response, row):\n    return SCALE\n")
    reward = Reward(use=f"{mine}:f")
    with RewardGrader(config_of(reward), pool) as grader:
        digest = grader.digest
    with RewardGrader(config_of(reward, rewards_digest=digest), pool) as grader:
        assert grader.grade(items("a"), [1], ROW)[0].reward == 2.0
    beside.write_text("SCALE = 30.0\n")  # of another length: byte code of the same second passes for that of the file
    with pytest.raises(ConfigError, match=f"the run was started with {digest}"):
        RewardGrader(config_of(reward, rewards_digest=digest), pool)
    with RewardGrader(config_of(reward, rewards_digest="any"), pool) as grader:
        assert grader.grade(items("a"), [1], ROW)[0].reward == 30.0


def test_a_package_and_an_entry_point_are_found_and_are_the_user_s_code(pool, tmp_path, monkeypatch):
    (tmp_path / "fancy").mkdir()
    (tmp_path / "fancy" / "__init__.py").write_text("from fancy.inner import f\n")
    (tmp_path / "fancy" / "inner.py").write_text("def f(response, row):\n    return 4.0\n")
    known = tmp_path / "fancy-1.0.dist-info"
    known.mkdir()
    (known / "METADATA").write_text("Metadata-Version: 2.1\nName: fancy\nVersion: 1.0\n")
    (known / "entry_points.txt").write_text("[leeway.rewards]\nfour = fancy.inner:f\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    digests = set()
    for use in ("fancy:f", "fancy.inner:f", "four"):
        with RewardGrader(config_of(Reward(use=use)), pool) as grader:
            assert grader.grade(items("a"), [1], ROW)[0].reward == 4.0
            digests.add(grader.digest)
    assert len(digests) == 1
    assert None not in digests


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("def f(response, row):\n    return 2.0\n", "the code of the rewards here has the digest"),
        ("raise ValueError('{odd}')\n", "its process did not start: rewards: f: use = "),
    ],
)
def test_code_that_changes_under_a_worker_is_not_taken_up(pool, tmp_path, code, word):
    mine = tmp_path / "mine.py"
    mine.write_text("def f(response, row):\n    return 1.0\n")
    with RewardGrader(config_of(Reward(use=f"{mine}:f")), pool) as grader:
        assert grader.grade(items("a"), [1], ROW)[0].reward == 1.0
        mine.write_text(code)
        os.kill(grader.pids()[0], 9)
        grader.grade(items("a"), [1], ROW)  # its process was lost
        (verdict,) = grader.grade(items("a"), [1], ROW)
    assert verdict.kind is ERROR
    assert word in verdict.reason
