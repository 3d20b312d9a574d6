"""Judges: a vote is not guessed at, nonsense is no vote, and nothing is kept or called bad without the votes for it."""

import json
from collections import Counter

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from leeway_rl.common.errors import ConfigError
from leeway_rl.data import recipe
from leeway_rl.data.dataset import Dataset
from leeway_rl.data.quality import Quality
from leeway_rl.data.votes import CRITERIA, settled, vote_in

from tests.data.endpoint_double import CUT, EndpointDouble, asked
from tests.integration.running import leeway

KINDS = ("keep", "leave", "nonsense", "refused", "missing")


def ballot(keep=True, reason="", **met):
    return json.dumps({"reason": reason, **dict.fromkeys(CRITERIA, True), **met, "keep": keep})


@pytest.mark.parametrize(
    ("text", "keep"),
    [
        (ballot(), True),
        (f"The wording is fine.\n```json\n{ballot()}\n```\n", True),
        (ballot(keep=True) + "\nOn second thoughts:\n" + ballot(keep=False), False),
        (f"<think>{ballot(keep=False)}</think>{ballot()}", True),
        ('{"a set": {1, 2}} and {x} ' + ballot(keep=False, clarity=False), False),
        (ballot()[:-1] + ', "also": {"clarity": false}}', True),
        ("", None),
        ("The problem is good, keep it.", None),
        (ballot()[:-5], None),
        (ballot().replace('"keep": true', '"keep": "yes"'), None),
        (ballot().replace('"clarity": true, ', ""), None),
        (ballot().replace('"clarity": true', '"clarity": 1'), None),
        ("[" * 100_000, None),
        ('{"a":' * 5_000, None),
        (f"<think>{ballot()}</think>", None),
    ],
)
def test_a_vote_is_read_where_it_is_whole(text, keep):
    vote = vote_in(text)
    assert (vote and vote.keep) is keep


@given(st.text())
def test_no_text_breaks_the_reading_of_votes(text):
    assert vote_in(text) is None or '"keep"' in text


@pytest.mark.parametrize(
    ("count", "reason"),
    [
        (Counter(keep=9, leave=23), None),
        (Counter(keep=8, leave=24), "judged to be of low quality"),
        (Counter(keep=8, leave=23, nonsense=1), "not judged: too few votes"),
        (Counter(keep=8, leave=23, refused=1), "not judged: too few votes"),
        (Counter(keep=8, leave=23, missing=1), "not judged yet: votes are missing"),
        (Counter(keep=0, leave=24, missing=8), "judged to be of low quality"),
        (Counter(keep=9, missing=23), None),
        (Counter(nonsense=32), "not judged: too few votes"),
        (Counter(nonsense=16, missing=16), "not judged yet: votes are missing"),
    ],
)
def test_nine_votes_of_thirty_two_keep_a_problem(count, reason):
    assert count.total() == 32
    judgement = settled(count, 9, "")
    assert (judgement and judgement.reason) == reason


@given(st.lists(st.integers(0, 20), min_size=5, max_size=5), st.integers(1, 40))
def test_votes_that_are_none_change_no_verdict_but_its_being_open(numbers, least):
    count = Counter(dict(zip(KINDS, numbers, strict=True)))
    judgement = settled(count, least, "")
    assert (judgement is None) == (count["keep"] >= least)
    if judgement and judgement.reason == "judged to be of low quality":  # whatever the other votes would have been
        assert count.total() - count["leave"] < least


def judged(folder, rows, judges, **options):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe.load_alone(recipe.Source(name="mine", path=str(folder / "rows.jsonl")), folder / "dataset")
    chosen = {
        "judges": [{"name": name, "endpoint": server.url, "model": name} for name, server in judges.items()],
        "votes": 2,
        "least": 3,
        "tries": 1,
    }
    missing = []
    funnel, _ = recipe.do_step(
        "quality", Quality(**chosen | options), Dataset(folder / "dataset"), folder / "out", folder, 1, missing
    )
    dropped = pq.read_table(folder / "out" / "dropped.parquet").to_pylist()
    kept = [row["row"] for row in Dataset(folder / "out").each("row")]
    return kept, {row["row"]: row for row in dropped}, funnel, missing


ROWS = [{"problem": problem, "answer": 1} for problem in ("Good?", "Bad?", "Odd?")]
CODE = {"prompt": "Bad?", "tests": {"inputs": ["1"], "outputs": ["1"]}}


def sensible(request, _):
    text = asked(request)
    return ballot(keep=False, reason="It is cut off\ud83d.", completeness=False) if "Bad?" in text else ballot()


def rambling(request, times):
    return "Odd indeed." if "Odd?" in asked(request) else sensible(request, times)


def test_problems_are_kept_by_votes_and_nonsense_is_no_vote(tmp_path):
    with EndpointDouble(sensible) as one, EndpointDouble(rambling) as other:
        kept, dropped, funnel, missing = judged(tmp_path, [*ROWS, CODE], {"one": one, "other": other})
    assert (kept, missing) == ([1, 4], [])
    assert (dropped[2]["reason"], dropped[3]["reason"]) == ("judged to be of low quality", "not judged: too few votes")
    assert dropped[2]["detail"] == (
        "0 of 4 votes for it, 4 against; not met: completeness 4; one: It is cut off\\ud83d."
    )
    assert "other: 4 votes of 6, 50% of them for the problem; 2 answers without a vote" in "\n".join(funnel.notes)
    (file,) = tmp_path.glob("out.*.asked/votes.parquet")
    votes = pq.read_table(file).to_pylist()
    assert len(votes) == 12  # none on code
    assert {(v["row"], v["judge"], v["vote"], v["completeness"]) for v in votes} >= {
        (1, "one", "keep", True), (2, "other", "leave", False), (3, "other", "nonsense", None)
    }  # fmt: skip
    # In whatever order they are asked.
    assert any(all(name in asked(request) for name in (*CRITERIA, "Good?")) for request in one.requests)


@pytest.mark.parametrize("trouble", [429, 401, CUT, b"<html>"])
def test_a_judge_that_is_ill_costs_no_problem_its_name_and_is_asked_again(tmp_path, trouble):
    with EndpointDouble(sensible) as one, EndpointDouble(lambda *_: trouble) as ill:
        kept, dropped, _, missing = judged(tmp_path, ROWS, {"one": one, "ill": ill})
    assert kept == []
    pending, settled_already = "not judged yet: votes are missing", "judged to be of low quality"
    assert [dropped[row]["reason"] for row in (1, 2, 3)] == [pending, settled_already, pending]
    assert missing[0].startswith("votes of ill at http://127.0.0.1")
    with EndpointDouble(sensible) as one, EndpointDouble(sensible) as well:
        kept, dropped, _, missing = judged(tmp_path, ROWS, {"one": one, "ill": well})
    assert (kept, list(dropped), missing) == ([1, 3], [2], [])
    assert (len(one.requests), len(well.requests)) == (0, 6)


def test_another_threshold_asks_nothing_and_more_votes_ask_the_rest(tmp_path):
    with EndpointDouble(sensible) as one, EndpointDouble(rambling) as other:
        judged(tmp_path, ROWS, {"one": one, "other": other})
        kept, _, _, _ = judged(tmp_path, ROWS, {"one": one, "other": other}, least=2)
        assert (kept, len(one.requests), len(other.requests)) == ([1, 3], 6, 6)
        kept, _, _, _ = judged(tmp_path, ROWS, {"one": one}, votes=3)
        assert (kept, len(one.requests)) == ([1, 3], 9)


def test_a_problem_that_a_judge_cannot_take_is_counted_as_refused(tmp_path):
    with EndpointDouble(lambda request, times: 400 if "Odd?" in asked(request) else sensible(request, times)) as one:
        kept, dropped, funnel, missing = judged(tmp_path, ROWS, {"one": one}, votes=4)
    assert (kept, missing, dropped[3]["reason"]) == ([1], [], "not judged: too few votes")
    assert "4 refused" in funnel.notes[0]


def test_the_command_takes_judges_as_pairs(tmp_path):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    recipe.load_alone(recipe.Source(name="mine", path=str(tmp_path / "rows.jsonl")), tmp_path / "dataset")
    with EndpointDouble(sensible) as server:
        judges = [f"name={name},endpoint={server.url},model=m" for name in ("one", "other")]
        words = ("data", "quality", "dataset", "--judges", *judges, "--votes", "2", "--least", "3", "--out", "next")
        done = leeway(*words, cwd=tmp_path)
        again = leeway(*words, cwd=tmp_path)
    assert (done.returncode, again.returncode, len(server.requests)) == (0, 0, 12)
    assert done.stdout.startswith(
        "quality: 3 rows, 2 kept; dropped: 1 judged to be of low quality\n  one: 6 votes of 6"
    )
    assert again.stdout == done.stdout


def test_a_recipe_names_its_judges(tmp_path):
    text = '[[source]]\nname = "a"\npath = "b"\n[[step]]\ndo = "quality"\n'
    path = tmp_path / "recipe.toml"
    path.write_text(text + '[[step.judges]]\nname = "llama"\nendpoint = "http://h/v1"\nmodel = "L"\n')
    ((_, options),) = recipe.read_recipe(path).steps
    assert (options.judges[0].name, options.votes, options.least) == ("llama", 16, 9)
    for wrong, said in (
        ("votes = 4\n" + '[[step.judges]]\nname = "a"\nendpoint = "h"\nmodel = "L"\n', "least = 9, and there are 4"),
        ('[[step.judges]]\nname = "a"\nendpoint = "h"\nmodel = "L"\n' * 2, "judges have different names"),
        ('[[step.judges]]\nname = "a"\nmodel = "L"\n', "judges.0.endpoint: Field required"),
    ):
        path.write_text(text + wrong)
        with pytest.raises(ConfigError, match=said):
            recipe.read_recipe(path)
