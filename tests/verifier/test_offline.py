"""``leeway verify``: order, wrong rows, interruption, resumption; the command as a person types it."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from leeway_rl.common.config import Verifier
from leeway_rl.common.errors import DataError
from leeway_rl.common.types import Verdict, VerdictKind
from leeway_rl.verifier import offline
from leeway_rl.verifier.offline import Row, RowError, graded, read_row
from leeway_rl.verifier.pool import GradeItem
from leeway_rl.verifier.resumption import pass_over

COMMAND = [sys.executable, "-P", "-m", "leeway_rl.leeway.cli", "verify"]


def line(**fields: object) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def answered(row_id: object, answer: str, gold: object = "5") -> bytes:
    return line(id=row_id, response=rf"So $\boxed{{{answer}}}$.", answer=gold)


def written(path: Path) -> list[tuple[object, str]]:
    return [(row["id"], row["verdict"]) for row in map(json.loads, path.read_text().splitlines())]


def test_a_row_is_read_with_one_gold_or_several() -> None:
    row_id, item = read_row(line(id=7, response="r", answer=["5", "6"], finished=False))
    assert (row_id, item.ability, item.golds, item.finished) == (7, "math", ("5", "6"), False)
    assert read_row(b'{"id": "a", "response": "", "answer": 0.10}')[1].golds == ("0.10",)


def test_a_solution_out_of_a_book_need_not_box_its_answer() -> None:
    assert read_row(line(id=1, response="r", answer="5", boxed=False))[1].ability == "solution"
    assert read_row(line(id=1, response="r", answer="5", boxed=True))[1].ability == "math"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (b"garbage\n", "not JSON"),
        (b"[" * 100_000, "not JSON: more than 100 lists and objects inside one another"),
        (b'{"id": 1, "response": "\xe9", "answer": "5"}', "not UTF-8: byte 0xe9 at position 24 of the line"),
        (b'{"id": 1, "response": "\\ud800", "answer": "5"}', "'response': half a character"),
        (b'{"id": "\\ud800", "response": "", "answer": "5"}', "'id': half a character"),
        (b'{"id": 1, "response": "", "answer": "\\ud800"}', "'answer': half a character"),
        (b'{"id": 1, "response": "", "tests": {"inputs": ["\\ud800"]}}', "column tests.inputs[0]: half a character"),
        (b'{"id": 1, "response": "", "answer": "5", "answer": "6"}', "not JSON: the key 'answer' stands twice"),
        (b'{"id": 1, "response": "", "answer": NaN}', "answer is a text or a list of texts"),
        (b"[]", "expected a JSON object"),
        (line(response="", answer="5"), "'id' is missing"),
        (line(id=1, answer="5"), "'response' is missing"),
        (line(id=None, response="", answer="5"), "'id' is NoneType, expected str or int"),
        (line(id=True, response="", answer="5"), "'id' is bool"),
        (line(id=1, response=5, answer="5"), "'response' is int, expected str"),
        (line(id=1, response=""), "one of 'answer'"),
        (line(id=1, response="", answer="5", tests={}), "one of 'answer'"),
        (line(id=1, response="", answer=[]), "answer is a text or a list of texts"),
        (line(id=1, response="", answer=" "), "answer is a text or a list of texts"),
        (line(id=1, response="", answer=True), "answer is a text or a list of texts"),
        (line(id=1, response="", answer=[2, 5]), "answer = [2, 5] is no list of texts: write it as a text"),
        (line(id=1, response="", answer=None), "one of 'answer'"),
        (line(id=1, response="", answer="dog, cat"), "the gold 'dog, cat' is in words"),
        (line(id=1, response="", answer="25+60"), "the gold '25+60' is a sum, product or quotient"),
        (line(id=1, response="", answer="5", ability="words"), "ability = 'words': nothing grades that"),
        (line(id=1, response="", answer="five", ability="exact", boxed=False), "'boxed' is false"),
        (line(id=1, response="", entry={"question": "q"}), "an entry is what the package reasoning_gym makes"),
        (line(id=1, response="", answer="5", finished="yes"), "'finished' is str, expected bool"),
        (line(id=1, response="", tests={}), "not empty"),
    ],
)
def test_a_wrong_row_says_what_would_be_right(row: bytes, words: str) -> None:
    with pytest.raises(RowError, match=re.escape(words.replace("an object", "a JSON object"))):
        read_row(row)


def test_the_command_keeps_the_order_reports_wrong_rows_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    answers = ["5", r"\sqrt[3]{125}", "6", r"\sqrt[3]{126}"] * 20
    rows = [answered(f"r{number}", answer) for number, answer in enumerate(answers)]
    source.write_bytes(b"".join([*rows[:3], b"garbage\n", b"\n", *rows[3:]]))
    done = subprocess.run([*COMMAND, source, "--out", out, "--jobs", "1"], capture_output=True, text=True)
    assert done.returncode == 3
    assert f"{source}:4: not JSON" in done.stderr
    assert "80 verdicts" in done.stderr
    expected = [(f"r{number}", ["correct", "correct", "wrong", "wrong"][number % 4]) for number in range(80)]
    assert written(out) == expected
    columns = {"id", "verdict", "reason", "seconds", "peak_bytes", "of", "by"}
    assert set(json.loads(out.read_text().splitlines()[1])) == columns

    whole = out.read_bytes()
    out.write_bytes(whole[: len(whole) // 2])  # as if killed in the middle of a line
    again = subprocess.run([*COMMAND, source, "--out", out, "--jobs", "1"], capture_output=True, text=True)
    assert again.returncode == 3
    assert "rows with a verdict" in again.stderr
    assert written(out) == expected


def test_an_interrupted_run_leaves_whole_rows_and_says_how_to_go_on(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(answered(0, "5") + answered(1, "9^{9^{9^9}}") + answered(2, "5"))
    with subprocess.Popen(
        [*COMMAND, source, "--out", out, "--jobs", "1", "--timeout-s", "60"], stderr=subprocess.PIPE, text=True
    ) as process:
        while not out.exists():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=200)
    assert process.returncode in (130, -signal.SIGINT), "the signal may come before its handler"
    if process.returncode == 130:
        assert "run the same command again to go on" in said
    assert written(out) == [(0, "correct")][: len(written(out))]


def test_an_out_of_another_file_is_refused(tmp_path: Path) -> None:
    rows = iter([Row(1, GradeItem(ability="math", response="", golds=("5",), finished=True), 0)])
    out = tmp_path / "out.jsonl"
    out.write_bytes(line(id=2, verdict="wrong"))
    with (
        out.open("r+b") as verdicts,
        pytest.raises(DataError, match=r"line 1: not a verdict on the row due here"),
    ):
        pass_over(rows, verdicts, Path("in.jsonl"), out, "by")


def test_files_that_cannot_be_used_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        offline.verify(tmp_path / "none.jsonl", tmp_path / "out.jsonl", 1, Verifier())
    source = tmp_path / "in.jsonl"
    source.write_bytes(answered(0, "5"))
    with pytest.raises(DataError, match="is the file to be graded"):
        offline.verify(source, source, 1, Verifier())


class Late:
    """A pool whose first item is graded last."""

    def __init__(self) -> None:
        self.first: Future[Verdict] = Future()
        self.submitted = 0

    def submit(self, item: GradeItem) -> Future[Verdict]:
        self.submitted += 1
        future: Future[Verdict] = self.first if self.submitted == 1 else Future()
        if future is not self.first:
            future.set_result(Verdict(kind=VerdictKind.WRONG, reason="", seconds=0.0))
        return future


def test_a_slow_row_holds_up_what_is_written_and_not_what_is_graded() -> None:
    pool = Late()

    def rows() -> Iterator[Row]:
        for number in range(1000):
            if number == 999:  # read although nothing could be written yet
                assert pool.submitted == 999
                pool.first.set_result(Verdict(kind=VerdictKind.CORRECT, reason="", seconds=0.0))
            yield Row(number, GradeItem(ability="math", response="", golds=("5",), finished=True), 0)

    found = [(row.row_id, verdict.kind) for row, verdict in graded(rows(), pool, 1)]  # type: ignore[arg-type]
    assert [row_id for row_id, _ in found] == list(range(1000))
    assert found[0][1] is VerdictKind.CORRECT


def verified(source: Path, out: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, source, "--out", out, "--jobs", "1", *map(str, words)], capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("changed", "words", "why"),
    [
        (answered(1, "5", "6"), (), "row 1 has changed since it was graded"),
        (answered(1, "7"), (), "row 1 has changed since it was graded"),
        (answered(2, "6", "6"), (), "a verdict on 1, but expected here is one on 2"),
        (answered(1, "6"), ("--math", "report"), "graded by another verifier, or with other settings"),
        (b"", (), "no row is left"),
    ],
)
def test_verdicts_on_what_has_changed_are_refused_or_made_anew(
    tmp_path: Path, changed: bytes, words: tuple[str, ...], why: str
) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(answered(0, "5") + answered(1, "6"))
    assert verified(source, out).returncode == 0
    before = out.read_bytes()
    source.write_bytes(answered(0, "5") + changed)
    refused = verified(source, out, *words)
    line_number = 1 if words else 2
    assert (refused.returncode, out.read_bytes()) == (3, before)
    assert f"{out}, line {line_number}: not a verdict on the row due here" in refused.stderr
    assert why in refused.stderr
    assert f"{source}" in refused.stderr
    assert "--anew" in refused.stderr
    anew = verified(source, out, *words, "--anew")
    assert anew.returncode == 0, anew.stderr
    due = tmp_path / "due.jsonl"
    assert verified(source, due, *words).returncode == 0
    assert written(out) == written(due)
    assert verified(source, out, *words).returncode == 0, "and what was made anew is taken as it is"
