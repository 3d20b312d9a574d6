"""Environments of a user's: what they are given, what they may answer, and what becomes of those that misbehave."""

import asyncio
import os
import time
from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np
import psutil
import pytest
from leeway_rl.common.config import compose, expand
from leeway_rl.common.errors import ConfigError, EnvironmentFailed
from leeway_rl.common.preflight.tokens import load_tokenizer
from leeway_rl.common.types import Ticket
from leeway_rl.rollout.environments import EnvironmentHost, Turn
from leeway_rl.rollout.environments.process import EnvironmentProcess

FILE = Path(__file__).with_name("own_environments.py")
END = 1


@pytest.fixture(scope="session")
def tokenizer():
    """Every character of ``0123456789+=,;:`` is a token of it."""
    return load_tokenizer(expand("{presets}/tiny/model"))


@pytest.fixture
def host(tokenizer):
    """A function that makes hosts of an environment in ``own_environments.py``; they are closed in the end."""
    made = []

    def of(name, options=None, settings=(), tokenizer=tokenizer, **keys):
        use = name if ":" in name or name == "calculator" else f"{FILE}:{name}"
        section = {"use": use, "options": options or {}, "turn_s": 20.0, **keys}
        config = compose(["tiny"], list(settings)).model_copy()
        config = config.model_validate({**config.model_dump(), "environment": section})
        made.append(EnvironmentHost(config, tokenizer))
        return made[-1]

    yield of
    for each in made:
        each.close()


def ticket(group_size=2, row='{"start": 40}', seed=70):
    return Ticket(
        ticket=0,
        incarnation=1,
        min_version=0,
        stage=0,
        prompt_id="rows:1",
        prompt_tokens_P=np.array([3, 4], dtype=np.uint32),
        group_size=group_size,
        max_new_tokens=64,
        temperature=1.0,
        seed=seed,
        ability="exact",
        ground_truth=("5",),
        row=row,
    )


def said(host, text):
    """A turn's tokens as sampled."""
    return [*host.glue.encode(text), END]


def heard(host, turn):
    """The text of an observation, without the generation prompt behind it."""
    assert turn.observation is not None
    return host.glue.text_of(list(turn.observation)).removesuffix("=")


def test_each_response_has_an_environment_with_its_row_and_seed_and_turn_rewards_add_up(host):
    adds = host("Adds", {"bound": 60})
    with adds.open(ticket()) as conversations:
        turns = [conversations.step(j, said(adds, f"1{j}")).result() for j in (1, 0)]
        assert [heard(adds, turn) for turn in turns] == ["51+71", "50+70"]
        assert conversations.rewards_S.tolist() == [0.5, 0.5]
        assert conversations.step(0, said(adds, "10")).result() == Turn(None, finished=True)
        assert heard(adds, conversations.step(1, said(adds, "1")).result()) == "52+71"
        assert conversations.rewards_S.tolist() == [2.0, 1.0]
    with adds.open(ticket(row="")) as conversations:
        assert heard(adds, conversations.step(0, said(adds, "7")).result()) == "7+70", "nothing of another group's"
        assert conversations.rewards_S.tolist() == [0.5, 0.0]


def test_the_last_turn_that_is_allowed_ends_a_conversation_as_unfinished_and_keeps_its_reward(host):
    adds = host("Adds", max_turns=2)
    with adds.open(ticket()) as conversations:
        assert conversations.step(0, said(adds, "1")).result().observation is not None
        assert conversations.step(0, said(adds, "1")).result() == Turn(None, finished=False)
        assert conversations.rewards_S.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("given", ["12", ["12"], ["12", 0.0], ["12", 0, False]])
def test_an_observation_may_be_a_text_alone_or_with_a_reward_and_done(host, given):
    returns = host("Returns", {"given": given})
    with returns.open(ticket()) as conversations:
        assert heard(returns, conversations.step(0, said(returns, "1")).result()) == "12"


def test_async_environments_wait_together_and_others_are_asked_in_turn(host):
    meets = host("Meets", turn_s=60.0)
    with meets.open(ticket(20)) as conversations:
        turns = [conversations.step(j, said(meets, "1")) for j in range(20)]
        assert [heard(meets, turn.result()) for turn in turns] == ["1"] * 20
    in_turn = host("InTurn")
    with in_turn.open(ticket(8)) as conversations:
        for future in [conversations.step(j, said(in_turn, "1")) for j in range(8)]:
            future.result()
        assert conversations.rewards_S.tolist() == [1.0] * 8


def test_an_environment_of_which_one_method_is_async_may_run_a_loop_of_its_own_in_the_other(host):
    mixed = host("Mixed")
    with mixed.open(ticket()) as conversations:
        assert heard(mixed, conversations.step(0, said(mixed, "1")).result()) == "1"


@pytest.mark.parametrize(
    ("name", "options", "word"),
    [
        ("Misbehaves", {"how": "raises"}, "KeyError: 'no such thing' (line 137 of own_environments.py)"),
        ("Misbehaves", {"how": "leaves"}, "SystemExit: 3"),
        ("Misbehaves", {"how": "ends_beside_a_shell"}, "its process was lost: exit code 7"),
        ("Misbehaves", {"how": "ends"}, "its process was lost: exit code 7"),
        (
            "Misbehaves",
            {"how": "hangs"},
            "killed after 1.5 s (turn_s) without an answer (line 133 of own_environments.py)",
        ),
        (
            "Misbehaves",
            {"how": "hoards"},
            "more memory than environment.memory_bytes (line 133 of own_environments.py)",
        ),
        ("Misbehaves", {"how": "dies"}, "its process was lost: signal 9"),
        ("AsyncMisbehaves", {"how": "raises"}, "KeyError: 'no such thing'"),
        ("AsyncMisbehaves", {"how": "leaves"}, "SystemExit: 3"),
        ("AsyncMisbehaves", {"how": "never"}, "killed after 1.5 s (turn_s) without an answer (line 191 of"),
        ("AsyncMisbehaves", {"how": "hangs"}, "killed after 1.5 s (turn_s) without an answer (line 191 of"),
        ("AsyncMisbehaves", {"how": "ends"}, "its process was lost: exit code 7"),
        ("IsNan", {}, "its reward is nan, and a reward is finite (line 38 of own_environments.py)"),
        ("IsNone", {}, "it returned None; it returns an observation, or Step(observation, reward, done)"),
        ("SaysHalfACharacter", {}, "its observation holds half a character"),
        ("SaysFarTooMuch", {}, "its observation has 2,000,000 characters; at most 1,000,000 are right"),
        ("Returns", {"given": 5}, "it returned a int ('5'); it returns an observation"),
        ("Returns", {"given": [1, 2, 3, 4]}, "it returned a list"),
        ("Returns", {"given": [None, 1.0]}, "it returned neither an observation nor done"),
        ("Returns", {"given": ["1", "2"]}, "its reward is a str ('2'), and a reward is a number"),
        ("Returns", {"given": ["1", 2, "yes"]}, "done is a str ('yes'), and it is true or false"),
        ("Returns", {"given": [1, 2]}, "its observation is a int ('1'), and an observation is a text"),
    ],
)
def test_what_gives_no_answer_fails_with_its_word_and_the_next_group_finds_a_new_process(
    host, monkeypatch, name, options, word
):
    ask = EnvironmentProcess.ask

    def patient(process, request, clock_s):  # the clock is for what hangs, and not for a machine that is far too busy
        return ask(process, request, clock_s if request.get("response") == "9" else 60.0)

    monkeypatch.setattr(EnvironmentProcess, "ask", patient)
    bad = host(name, options, turn_s=1.5 if options.get("how") in ("hangs", "never") else 60.0)
    with bad.open(ticket()) as conversations:
        (before,) = bad.pids()
        with pytest.raises(EnvironmentFailed) as failed:
            conversations.step(1, said(bad, "9")).result()
        assert str(failed.value).startswith(f"environment {FILE}:{name}: turn 1 of response 1: {word}")
        with pytest.raises(EnvironmentFailed, match="turn 1 of response 1"):
            conversations.step(0, said(bad, "1")).result()
        assert conversations.rewards_S.tolist() == [0.0, 0.0]
    with bad.open(ticket()) as conversations:
        assert bad.pids() != [before]
        if name.endswith("isbehaves"):
            assert heard(bad, conversations.step(0, said(bad, "1")).result()) == "1"


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("RaisesAtOnce", "reset for response 0: OSError: no such endpoint (line"),
        (
            "ReturnsFromReset",
            "it returned a str ('12'), and the prompt is the row's own: it returns nothing (line 43 of own",
        ),
    ],
)
def test_a_reset_that_fails_fails_the_group_before_a_token_is_sampled(host, name, word):
    bad = host(name, {"how": "raises"} if name == "RaisesAtOnce" else {"given": 0})
    for _ in range(2):
        with pytest.raises(EnvironmentFailed) as failed:
            bad.open(ticket())
        assert word in str(failed.value)


@pytest.mark.parametrize("how", ["prints", "forks", "fork_returns", "leaves_a_thread"])
def test_printing_and_forking_change_no_answer_and_leave_nothing_behind(host, how):
    odd = host("Misbehaves", {"how": how})
    for _ in range(2):
        with odd.open(ticket()) as conversations:
            assert heard(odd, conversations.step(0, said(odd, "9")).result()) == "1"
            assert conversations.rewards_S.tolist() == [0.0, 0.0]
    ours = [psutil.Process(pid) for pid in odd.pids()]
    family = [*ours, *(child for each in ours for child in each.children(recursive=True))]
    odd.close()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive


def test_turns_are_answered_as_fast_after_failures_as_without(host):
    bad, good = host("Misbehaves", {"how": "ends"}), host("Misbehaves", {"how": "ends"})

    def seconds(of):
        with of.open(ticket()) as conversations:
            started = time.monotonic()
            for _ in range(50):
                conversations.step(0, said(of, "1")).result()
            return time.monotonic() - started

    for _ in range(3):
        with bad.open(ticket()) as conversations, pytest.raises(EnvironmentFailed):
            conversations.step(0, said(bad, "9")).result()
    after, without = zip(*[(seconds(bad), seconds(good)) for _ in range(5)], strict=True)  # in turn, on a busy machine
    assert min(after) < 5 * min(without) + 0.5


def test_a_step_returns_at_once_from_a_thread_that_runs_an_event_loop(host, tmp_path):
    waits = host("WhenTold", {"file": str(tmp_path / "told")}, turn_s=60.0)

    async def converse():
        with waits.open(ticket()) as conversations:
            turn = conversations.step(0, said(waits, "5"))
            assert not turn.done()
            (tmp_path / "told").touch()
            return heard(waits, await asyncio.wrap_future(turn))

    assert asyncio.run(converse()) == "5"


def test_an_aborted_group_lets_its_process_go(host):
    hangs = host("AsyncMisbehaves", {"how": "never"})
    conversations = hangs.open(ticket())
    (before,) = hangs.pids()
    under_way = conversations.step(0, said(hangs, "9"))
    conversations.close()
    conversations.close()
    with pytest.raises(CancelledError):
        under_way.result(timeout=200)
    with pytest.raises(CancelledError):
        conversations.step(1, said(hangs, "1")).result(timeout=200)
    with hangs.open(ticket()) as again:
        assert hangs.pids() != [before]
        assert heard(hangs, again.step(0, said(hangs, "1")).result()) == "1"


def test_a_process_that_dies_between_two_groups_is_replaced(host, wait_until):
    adds = host("Adds")
    (before,) = adds.pids()
    os.kill(before, 9)
    wait_until(lambda: not adds.pids(), "the host to notice")
    with adds.open(ticket()) as conversations:
        assert heard(adds, conversations.step(0, said(adds, "1")).result()) == "41+70"


def test_a_worker_has_a_process_for_each_group_at_a_time_and_closing_ends_them_and_what_is_under_way(host):
    settings = ["rollout.engine=vllm", "rollout.concurrency=2", "rollout.kv_on_update=keep"]
    hangs = host("AsyncMisbehaves", {"how": "never"}, settings)
    groups = [hangs.open(ticket()) for _ in range(2)]
    assert len(set(hangs.pids())) == 2
    under_way = [group.step(0, said(hangs, "9")) for group in groups]
    processes = [psutil.Process(pid) for pid in hangs.pids()]
    hangs.close()
    for future in under_way:
        with pytest.raises(CancelledError):
            future.result(timeout=200)
    assert not psutil.wait_procs(processes, timeout=60)[1]
    for group in groups:
        group.close()
        assert group.step(0, [END]).cancelled()


def test_an_observation_of_no_tokens_at_all_is_no_answer(host):
    """Where the template writes nothing around it either, there is no token between two turns that could be told."""
    says_nothing = host("Returns", {"given": ""})
    with says_nothing.open(ticket()) as conversations:
        assert heard(says_nothing, conversations.step(0, said(says_nothing, "1")).result()) == ""
    bare = load_tokenizer(expand("{presets}/tiny/model"))
    bare.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    says_nothing = host("Returns", {"given": ""}, tokenizer=bare)
    no_tokens = "turn 1 of response 0: its observation '' has no tokens"
    with says_nothing.open(ticket()) as conversations, pytest.raises(EnvironmentFailed, match=no_tokens):
        conversations.step(0, said(says_nothing, "1")).result()


def test_rewards_that_add_up_to_no_number_are_no_answer(host):
    pays = host("Returns", {"given": ["1", 1.7e308]})
    with pays.open(ticket()) as conversations:
        conversations.step(0, said(pays, "1")).result()
        with pytest.raises(EnvironmentFailed, match="turn 2 of response 0: the rewards of its turns add up to inf"):
            conversations.step(0, said(pays, "1")).result()
        assert np.isfinite(conversations.rewards_S).all()


@pytest.mark.parametrize("how", ["quotes", "says_its_key"])
def test_a_secret_is_looked_up_and_stands_in_no_message_and_no_observation(host, monkeypatch, how):
    monkeypatch.setenv("ENDPOINT_KEY", "2357111317")
    quotes = host("Misbehaves", {"how": how, "key": "env:ENDPOINT_KEY"})
    with quotes.open(ticket()) as conversations:
        turn = conversations.step(0, said(quotes, "9"))
        if how == "quotes":
            with pytest.raises(EnvironmentFailed, match="the key env:ENDPOINT_KEY is not known"):
                turn.result()
        else:
            assert "2357111317" not in heard(quotes, turn.result())


@pytest.mark.parametrize(
    ("name", "options", "wrong"),
    [
        ("/nowhere/environment.py:E", {}, "/nowhere/environment.py: no such file; .* every rollout worker's machine"),
        ("Add", {}, "has no 'Add'; did you mean 'Adds'"),
        ("function", {}, "it is function, and no class"),
        ("NoStep", {}, "it has no step; an environment has reset and step"),
        ("StepOfTwo", {}, r"reset: it cannot be called with \(self\): missing a required argument: 'question'"),
        ("Adds", {"bond": 1}, r"cannot be called with \(bond\): .*; it has to take \(bond\)"),
        ("Nothing", {}, "has no 'Nothing'; it has .*'Adds'"),
        ("Misbehaves", {"how": "env:NOT_SET_ANYWHERE"}, "options.how = .*the variable is not set where this rollout"),
        ("no_such_package:E", {}, "ModuleNotFoundError"),
        ("calculator", {"call": "a+"}, "has 0 groups; one is right"),
    ],
)
def test_what_cannot_be_loaded_is_told_before_the_first_group(host, name, options, wrong):
    with pytest.raises(ConfigError, match=wrong):
        host(name, options)


def test_other_code_than_the_run_s_is_refused_unless_said(host, tmp_path):
    mine = tmp_path / "mine.py"
    code = "class E:\n    def reset(self): pass\n    def step(self, response): return '{}'\n"
    mine.write_text(code.format(1))
    digest = host(f"{mine}:E").described.digest
    assert host(f"{mine}:E", digest=digest).described.digest == digest
    mine.write_text(code.format(12))  # of another length: byte code of the same second passes for that of the file
    with pytest.raises(ConfigError, match=f"the environment here .* started with {digest}.*environment.digest=any"):
        host(f"{mine}:E", digest=digest)
    other = host(f"{mine}:E", digest="any")
    with other.open(ticket()) as conversations:
        assert heard(other, conversations.step(0, said(other, "1")).result()) == "12"


def test_code_that_changes_under_a_worker_is_not_taken_up(host, tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text("class E:\n    def reset(self): pass\n    def step(self, response): raise ValueError('once')\n")
    changes = host(f"{mine}:E")
    with changes.open(ticket()) as conversations:
        mine.write_text("class E:\n    def reset(self): pass\n    def step(self, response): return '1'\n")
        with pytest.raises(EnvironmentFailed, match="once"):
            conversations.step(0, said(changes, "1")).result()
    for _ in range(2):  # this worker can generate no group any more, and others may
        with pytest.raises(ConfigError, match="the code of the environment here has the digest"):
            changes.open(ticket())
