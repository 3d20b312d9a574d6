"""``leeway samples`` shows what was asked for, and nothing in a text steers the terminal or the page."""

import json
import threading

import pytest
from leeway_rl.common.errors import ConfigError, DataError
from leeway_rl.common.ledger import Ledger
from leeway_rl.common.samples import FILE, Sample, SampledResponse, Segment, line_of, read_samples
from leeway_rl.leeway.cli import app
from leeway_rl.leeway.looking.samples import SHOWN, Asked, Shown, show
from leeway_rl.leeway.reporting.report import write_report
from typer.testing import CliRunner

from tests.leeway.test_report import made_up_run

HOSTILE = "\x1b]0;owned\x07\x1b[2J<script>alert(1)</script>\u202egnp.exe\x9b31m\r\u2028 end"


def response(index, reward, text="so 4", verdict=None):
    return SampledResponse(
        index=index,
        segments=(Segment(by="policy", text=text, tokens=3),),
        finished=True,
        rewards={"reward": reward},
        verdict=verdict or ("correct" if reward > 0 else "wrong"),
        reason="",
        staleness={"mean": 0.5, "max": 1.0},
    )


def sample(step, *responses, outcome="trained", **changes):
    values = {
        "step": step,
        "outcome": outcome,
        "ticket": 10 * step,
        "incarnation": 1,
        "stage": 0,
        "prompt_id": "sums:1",
        "ability": "math",
        "gold": ("4",),
        "prompt": (Segment(by="prompt", text="2+2=", tokens=4),),
        "responses": responses or (response(0, 1.0), response(1, 0.0)),
        "at": 0.0,
        "place": step,
    }
    return Sample(**values | changes)


@pytest.fixture
def run(tmp_path):
    """Writes a run's samples; gives what ``leeway samples`` says with some words, and its exit code."""
    folder = tmp_path / "runs" / "r"
    folder.mkdir(parents=True)
    (folder / "config.toml").touch()  # by which a folder is known as a run's

    def with_samples(*samples):
        (folder / FILE).write_text("".join(map(line_of, samples)))

        def said(*words):
            done = CliRunner().invoke(app, ["samples", "r", "--runs-dir", str(tmp_path / "runs"), *words])
            assert done.exception is None, done.exception
            return done.output

        return said

    with_samples.folder = folder
    return with_samples


def titles(text):
    return [line.partition(",")[0] for line in text.splitlines() if line.startswith("step ")]


def test_without_a_filter_the_two_newest_groups_are_shown_whole(run):
    text = run(sample(0), sample(9), sample(20, outcome="zero_advantage"))()
    assert titles(text) == ["step 9", "step 20"]
    assert "step 20, ticket 200: refunded, zero_advantage; sums:1" in text
    assert "  prompt, 4 tokens:\n    2+2=\ngold (math): 4\n" in text
    assert "response 1: reward 0; wrong; 3 tokens; staleness 0.50, at most 1\n  policy, 3 tokens:\n    so 4\n" in text


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--step", "9"], [(9, 0), (9, 1)]),
        (["--last", "1"], [(20, 0), (20, 1)]),
        (["--verdict", "correct"], [(0, 0), (9, 0)]),
        (["--verdict", "no_answer"], [(20, 1)]),
        (["--best", "2"], [(0, 0), (9, 0)]),
        (["--worst", "2", "--step", "20"], [(20, 0), (20, 1)]),
        (["--worst", "1"], [(9, 1)]),
    ],
)
def test_filters_choose_groups_and_responses(run, words, shown):
    last = (response(0, -0.5), response(1, -0.5, verdict="no_answer"))
    said = run(sample(0, response(0, 2.0)), sample(9, response(0, 1.0), response(1, -1.0)), sample(20, *last))
    lines = [json.loads(line) for line in said(*words, "--json").splitlines()]
    assert [(line["step"], each["index"]) for line in lines for each in line["responses"]] == shown


def test_several_turns_and_several_rewards_are_more_of_the_same_and_new_keys_are_passed_over(run):
    turns = (
        Segment(by="policy", text="look", tokens=1),
        Segment(by="environment", text="a door", tokens=2),
        Segment(by="policy", text="open it", tokens=2),
    )
    line = json.loads(line_of(sample(3, response(0, 1.0))))
    line["responses"][0]["segments"] = [
        {"by": each.by, "text": each.text, "tokens": each.tokens, "new": 1} for each in turns
    ]
    line["responses"][0]["rewards"] = {"reward": 0.7, "answer": 1.0, "format": -0.3}
    line["later"] = {"a": 1}
    said = run()
    (run.folder / FILE).write_text('{"torn": \n' + json.dumps(line) + "\n[]\n")
    text = said()
    assert "response 0: reward 0.7, answer 1, format -0.3; correct; 3 tokens in 2 turns, 2 observed; staleness" in text
    assert "  environment, 2 tokens:\n    a door\n" in text


def test_nothing_in_a_text_reaches_the_terminal_as_a_command(run):
    hostile = sample(1, response(0, 1.0, HOSTILE, verdict=HOSTILE), prompt_id=HOSTILE, gold=(HOSTILE,), ability=HOSTILE)
    text = run(hostile)("--full")
    assert not {char for char in text if char != "\n" and not char.isprintable()}
    assert "\\x1b[2J<script>" in text
    assert "\\u202egnp.exe\\x9b31m\\r\\u2028 end" in text
    assert (run.folder / FILE).read_text().isascii()


def test_the_page_has_samples_escaped(tmp_path):
    folder = made_up_run(tmp_path / "run", 4)
    assert "Samples" not in write_report(folder).read_text()
    hostile = sample(1, response(0, 1.0, HOSTILE), response(1, 0.0, "x" * 5000))
    (folder / FILE).write_text("".join(map(line_of, [sample(0), hostile])))
    page = write_report(folder).read_text()
    assert "<h2>Samples</h2>" in page
    assert "\\x1b[2J&lt;script&gt;alert(1)&lt;/script&gt;\\u202egnp.exe" in page
    assert "<script" not in page
    assert "\x1b" not in page
    assert "[… 4,200 characters left out here …]" in page
    assert "step 1, ticket 10: trained; sums:1" in page


def test_the_page_says_who_spoke_where_there_are_several(tmp_path):
    folder = made_up_run(tmp_path / "run", 4)
    spoken = tuple(Segment(by=by, text=f"says {by}", tokens=1) for by in ("policy", "environment", "policy"))
    answer = SampledResponse(
        index=0, segments=spoken, finished=True, rewards={"reward": 1.0}, verdict="correct", reason="",
        staleness={"mean": 0.0, "max": 0.0},
    )  # fmt: skip
    (folder / FILE).write_text(line_of(sample(1, answer)))
    page = write_report(folder).read_text()
    assert page.count("<small>policy</small>") == 2
    assert page.count("<small>environment</small>") == 1
    assert '<pre title="environment">says environment</pre>' in page
    assert "<small>prompt</small>" not in page


def test_long_texts_are_cut_in_the_middle_with_the_count_and_full_shows_them(run):
    said = run(sample(0, response(0, 1.0, "a" * SHOWN + "b" * SHOWN)))
    assert f"    {'a' * (SHOWN // 2)}\n    [… {SHOWN:,} characters left out here; --full shows them …]\n" in said()
    assert "a" * SHOWN + "b" * SHOWN in said("--full")


@pytest.mark.parametrize(
    "changes",
    [
        lambda line: "[" * 100_000,
        lambda line: line[:100],
        lambda line: json.dumps(json.loads(line) | {"step": "x"}),
        lambda line: json.dumps(json.loads(line) | {"responses": [json.loads(line)["responses"][0] | {"rewards": {}}]}),
        lambda line: line.replace('"reward": 1.0', '"reward": "much"'),
    ],
)
def test_a_line_that_is_no_sample_is_passed_over(run, changes):
    said = run(sample(3), sample(5))
    path = run.folder / FILE
    bad = changes(path.read_text().splitlines()[0])
    path.write_text(bad + "\n" + path.read_text().splitlines()[1] + "\n")
    for words in ((), ("--best", "5"), ("--worst", "5")):
        assert set(titles(said(*words))) == {"step 5"}


def test_what_comes_is_followed_until_the_run_is_complete(run, capsys, wait_until):
    run(sample(0))
    lines = []

    def seen():
        lines.extend(titles(capsys.readouterr().out))
        return lines

    thread = threading.Thread(target=show, args=(run.folder, Asked(), Shown()), kwargs={"follow": True})
    thread.start()
    wait_until(lambda: seen() == ["step 0"], "what was there")
    run(sample(0), sample(9), sample(10), sample(11))
    wait_until(lambda: seen() == ["step 0", "step 9", "step 10", "step 11"], "what came")
    run(sample(0), sample(10), sample(20))  # thinned
    ledger = Ledger(run.folder / "ledger.jsonl")
    ledger.write("end", version=60)
    ledger.close()
    thread.join(100)
    assert not thread.is_alive()
    assert seen() == ["step 0", "step 9", "step 10", "step 11", "step 20"]


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        (
            Asked(verdict="right"),
            ConfigError,
            "--verdict 'right': one of correct, wrong, no_answer, timeout, scored is right",
        ),
        (Asked(best=1, worst=1), ConfigError, "one at a time"),
        (Asked(step=5), DataError, r"no sample is such; there are samples of steps 0, 9, with the verdicts \w+"),
    ],
)
def test_what_cannot_be_shown_is_said_with_what_can(run, asked, error, words):
    run(sample(0), sample(9))
    with pytest.raises(error, match=words):
        show(run.folder, asked, Shown())


def test_a_run_without_samples_and_no_run_at_all_are_told_apart(run):
    with pytest.raises(
        DataError, match=r"it comes with the first graded groups; metrics\.samples_every = 0 keeps none"
    ):
        show(run.folder, Asked(), Shown())
    with pytest.raises(DataError, match="there is no such run"):
        show(run.folder / "none", Asked(), Shown())
    assert list(read_samples(run.folder / "none" / FILE)) == []
