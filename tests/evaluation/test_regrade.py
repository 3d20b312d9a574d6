"""Grading anew: exactly what has changed, by today's golds, in the user's own words where something is wrong."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from leeway_rl.common.errors import DataError
from leeway_rl.evaluation.prepare import prepare_once
from leeway_rl.evaluation.record import Record
from leeway_rl.evaluation.regrade import Outcome, regrade
from leeway_rl.evaluation.responses import COLUMNS, ResponseStore

ROWS = [{"id": f"p{n}", "prompt": f"1+{n}", "answer": str(n + 1)} for n in range(3)]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def folder_of(tmp_path, rows, *, prepared=True, said=None):
    """A folder with two responses a problem, 1+n answered by n + 1 and by 7, graded once."""
    write(tmp_path / "mine.jsonl", rows)
    out = tmp_path / "out"
    words = {"benchmarks": [str(tmp_path / "mine.jsonl")], "responses": 2, "size": 1, "seed": 0, "columns": {}}
    words |= {"release": "release_v5", "since": "2024-08-01", "until": "2025-02-01"}
    if prepared:
        assert prepare_once(words, out, pytest.fail) == 0
        lines = (out / "problems.jsonl").read_text().splitlines()
        ids = [(json.loads(line)["id"], json.loads(line)["prompt"]) for line in lines]
    else:
        out.mkdir()
        ids = [(row["id"], row["prompt"]) for row in rows]
    noted = {"problems": str(tmp_path / "mine.jsonl")} | (said or {})
    (out / "sample.json").write_text(json.dumps(noted))
    found = [
        {"id": own, "index": index, "response": rf"\boxed{{{answer}}}", "tokens": 3, "finished": True}
        | {"verdict": "error", "reason": "", "version": 0, "reasoning_open": False}
        for own, prompt in ids
        for index, answer in enumerate([eval(prompt), 7])
    ]
    pq.write_table(pa.Table.from_pylist(found, COLUMNS), out / "responses.parquet")
    assert regrade(out, 1, {}) == Outcome(graded=2 * len(ids), kept=0, changed=2 * len(ids))
    return out


def verdicts(out):
    return {(row["id"], row["index"]): row["verdict"] for row in ResponseStore(out).rows()}


def tampered(out):
    """Every verdict stands for one that nobody may touch without need."""
    table = pq.read_table(out / "responses.parquet")
    place = table.schema.get_field_index("reason")
    table = table.set_column(place, table.schema.field("reason"), [["kept"] * len(table)])
    pq.write_table(table.cast(table.schema), out / "responses.parquet")


def reasons(out):
    return {(row["id"], row["index"]): row["reason"] == "kept" for row in ResponseStore(out).rows()}


@pytest.mark.parametrize("prepared", [True, False])
def test_exactly_the_rows_whose_gold_has_changed_are_graded_anew(tmp_path, prepared):
    out = folder_of(tmp_path, ROWS, prepared=prepared)
    assert list(verdicts(out).values()) == ["correct", "wrong"] * 3
    tampered(out)
    assert regrade(out, 1, {}) == Outcome(graded=0, kept=6, changed=0)
    write(tmp_path / "mine.jsonl", [ROWS[0], ROWS[1] | {"answer": "7"}, ROWS[2]])
    assert regrade(out, 1, {}) == Outcome(graded=2, kept=4, changed=2)
    own = "mine/p1" if prepared else "p1"
    assert (verdicts(out)[own, 0], verdicts(out)[own, 1]) == ("wrong", "correct")
    assert [each for each, kept in reasons(out).items() if not kept] == [(own, 0), (own, 1)]
    assert regrade(out, 1, {}) == Outcome(graded=0, kept=6, changed=0)


def test_what_was_prepared_is_today_s_file_again_after_grading_anew(tmp_path):
    out = folder_of(tmp_path, ROWS)
    words = json.loads((out / "benchmarks.json").read_text())["asked"]
    write(tmp_path / "mine.jsonl", [ROWS[0] | {"answer": "7"}, *ROWS[1:]])
    with pytest.raises(DataError, match=r"mine\.jsonl has changed"):
        prepare_once(words, out, pytest.fail)
    regrade(out, 1, {})
    assert prepare_once(words, out, pytest.fail) == 0
    assert json.loads((out / "problems.jsonl").read_text().splitlines()[0])["answer"] == "7"


def test_another_verifier_or_other_settings_grade_everything_and_so_does_anew(tmp_path):
    out = folder_of(tmp_path, ROWS)
    assert regrade(out, 1, {"math": "report"}).graded == 6
    assert regrade(out, 1, {"math": "report"}).graded == 0
    assert regrade(out, 1, {}).graded == 6
    record = Record.read(out)
    record.judges = ["verifier of another day"]
    record.write(out)
    assert regrade(out, 1, {}).graded == 6
    assert regrade(out, 1, {}, everything=True) == Outcome(graded=6, kept=0, changed=0)


def test_the_settings_that_a_sample_was_graded_with_are_kept(tmp_path):
    out = folder_of(tmp_path, ROWS, prepared=False, said={"verifier": {"math": "report", "timeout_s": 5.0}})
    assert [judge.startswith("math=report timeout_s=5.0 verifier ") for judge in Record.read(out).judges] == [True]
    words = [{"id": "w", "prompt": "1+1", "answer": "dog, cat"}]
    (tmp_path / "words").mkdir()
    found = folder_of(tmp_path / "words", words, prepared=False, said={"ability": "exact"})
    assert list(verdicts(found).values()) == ["wrong", "wrong"]


def test_problems_are_found_by_what_they_ask_where_rows_have_moved(tmp_path):
    rows = [{key: row[key] for key in ("prompt", "answer")} for row in ROWS]
    out = folder_of(tmp_path, rows)
    write(tmp_path / "mine.jsonl", [{"prompt": "1+9", "answer": "10"}, *rows[:2], rows[2] | {"answer": "7"}])
    assert regrade(out, 1, {}) == Outcome(graded=2, kept=4, changed=2)
    words = json.loads((out / "benchmarks.json").read_text())["asked"]
    with pytest.raises(DataError, match=r"mine\.jsonl has changed"):  # the folder has not asked the new row
        prepare_once(words, out, pytest.fail)


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (ROWS[:2], "problem 'mine/p2' has responses, but is no longer in .*mine.jsonl; put it back, or name another"),
        ([*ROWS[:2], ROWS[2] | {"prompt": "1+3"}], "mine.jsonl:3: problem 'mine/p2' asks something else than when"),
        ([*ROWS[:2], {"id": "p2", "prompt": "1+2", "answer": ["\ud800"]}], "mine.jsonl:3: column answer.*half a char"),
        ([*ROWS[:2], ROWS[2] | {"answer": "dog, cat"}], r"mine.jsonl:3: the gold 'dog, cat' is in words"),
    ],
)
def test_a_problem_that_is_gone_or_another_is_named_and_nothing_is_touched(tmp_path, rows, why):
    out = folder_of(tmp_path, ROWS)
    before = (out / "responses.parquet").read_bytes()
    write(tmp_path / "mine.jsonl", rows)
    with pytest.raises(DataError, match=why):
        regrade(out, 1, {})
    assert (out / "responses.parquet").read_bytes() == before


def test_stopped_in_the_middle_it_keeps_no_verdict_on_a_gold_that_has_changed_since(tmp_path):
    out = folder_of(tmp_path, ROWS)
    right = {"id": 0, "verdict": "wrong", "reason": "", "seconds": 0.0, "peak_bytes": 0, "of": "", "by": ""}
    (out / "regraded.jsonl").write_text(json.dumps(right) + "\n")  # as an earlier one left it, by another gold
    assert regrade(out, 1, {}, everything=True).changed == 0


def test_a_gold_that_the_verifier_cannot_read_is_named_by_the_user_s_row(tmp_path, capfd):
    out = folder_of(tmp_path, ROWS)
    code = {"id": "p2", "prompt": "1+2", "tests": {"inputs": 5, "outputs": 6}}
    write(tmp_path / "mine.jsonl", [*ROWS[:2], code])
    with pytest.raises(DataError, match="ended with code 3"):
        regrade(out, 1, {})
    assert f"{tmp_path / 'mine.jsonl'}:3: 'tests': inputs and outputs are lists" in capfd.readouterr().err
