"""Going on with a ledger reads its end alone, however long it is; and what stands is told from what was undone."""

import json
import threading
from pathlib import Path

import pytest
from leeway_rl.common.errors import AuditError
from leeway_rl.common.ledger import Ledger, is_complete, last, read, read_standing, survey
from leeway_rl.common.tail import BLOCK

MOST = 8 * BLOCK
"""Bytes that a look at a ledger's end may read."""


def written(path, lines, *, end=True):
    """A ledger of about so many lines, whose learner started last at the second of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(path)
    ledger.write("run", run="r", seed=0)
    ledger.write("started", incarnation=7, version=0)
    for ticket in range(lines // 2):
        ledger.write("issued", ticket=ticket, incarnation=7, version=ticket, stage=0, prompt="p:1", reissued=False)
        ledger.write("trained", ticket=ticket, step=ticket, spans=[[[ticket, 0, 9]]] * 4, lengths=[9] * 4)
    if end:
        ledger.write("end", version=lines // 2)
    ledger.close()
    return path


def bytes_read():
    """By every read of this process so far."""
    return int(Path("/proc/self/io").read_text().split()[1])


def cost(act):
    """Bytes that are read for it: the least of a few times, because other threads of this process read, too."""

    def once():
        before = bytes_read()
        act()
        return bytes_read() - before

    return min(once() for _ in range(3))


def test_going_on_with_a_ledger_reads_as_much_of_a_long_one_as_of_a_short_one(tmp_path):
    short, long = written(tmp_path / "s/ledger.jsonl", 1_000), written(tmp_path / "l/ledger.jsonl", 40_000)
    assert long.stat().st_size > 10 * MOST, "reading all of it would show"
    for act in (last, lambda path: is_complete(path.parent), lambda path: Ledger(path).close()):
        of_short, of_long = cost(lambda act=act: act(short)), cost(lambda act=act: act(long))
        assert of_long <= min(MOST, of_short + BLOCK), (of_short, of_long)


def test_going_on_finds_the_number_the_chain_and_the_incarnation_at_the_end(tmp_path):
    path = written(tmp_path / "ledger.jsonl", 3_000, end=False)
    ledger = Ledger(path)
    assert (ledger.line, ledger.incarnation) == (3_002, 7)
    ledger.write("end", version=0)
    ledger.close()
    assert [line["event"] for line in read(path)][-2:] == ["trained", "end"], "the chain goes on"
    assert is_complete(tmp_path)


def test_an_incarnation_far_from_the_end_is_found_too(tmp_path):
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    ledger.write("started", incarnation=3, version=0)
    for step in range(5_000):  # longer than what is read at a time
        ledger.write("trained", ticket=step, step=step, lengths=[9] * 8)
    ledger.close()
    again = Ledger(path)
    again.close()
    assert again.incarnation == 3


@pytest.mark.parametrize("torn", [b'{"line": 3, "event": "iss', b"\0" * 200_000, b""])
def test_a_torn_line_of_any_length_is_cut_and_the_chain_goes_on(tmp_path, torn):
    path = written(tmp_path / "ledger.jsonl", 10, end=False)
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    assert last(path)["line"] == 12
    ledger = Ledger(path)
    assert path.read_bytes() == whole
    ledger.write("end", version=5)
    ledger.close()
    assert len(list(read(path))) == 13


def test_a_ledger_of_nothing_or_of_a_torn_line_begins_anew(tmp_path):
    for number, text in enumerate((b"", b'{"line": 1, "eve')):
        path = tmp_path / f"{number}.jsonl"
        path.write_bytes(text)
        assert last(path) is None
        ledger = Ledger(path)
        ledger.write("run", run="r")
        ledger.close()
        assert [line["line"] for line in read(path)] == [1]


def changed(lines):
    return [*lines[:-1], json.dumps(json.loads(lines[-1]) | {"event": "mood"})]


@pytest.mark.parametrize(
    "damage", [changed, lambda lines: [*lines[:-2], lines[-1]], lambda lines: [*lines, lines[-1]], lambda _: ["{}"]]
)
def test_a_changed_missing_or_doubled_line_at_the_end_is_named(tmp_path, damage):
    path = written(tmp_path / "ledger.jsonl", 10)
    path.write_text("\n".join(damage(path.read_text().splitlines())) + "\n")
    for look in (Ledger, last, lambda path: is_complete(path.parent)):
        with pytest.raises(AuditError, match="its last line"):
            look(path)


@pytest.mark.parametrize("line", [b"[" * 100_000, b'{"line": ' + b"9" * 5000 + b"}", b"\xff", b"\x00"])
def test_a_line_that_no_ledger_has_is_named_wherever_it_stands(tmp_path, line):
    path = written(tmp_path / "ledger.jsonl", 10)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:5], line + b"\n", *lines[5:]]))
    with pytest.raises(AuditError, match="line 6"):
        list(read(path))
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(AuditError, match="its last line"):
        last(path)


def rolled(path, story):
    """A ledger whose lines are ``None``, or go back to a line."""
    ledger = Ledger(path)
    for to_line in story:
        ledger.write("issued", ticket=0) if to_line is None else ledger.write("rolled_back", to_line=to_line)
    ledger.close()
    return path


@pytest.mark.parametrize(
    ("story", "standing"),
    [
        ([None] * 3, [1, 2, 3]),
        ([None, None, None, 1, None], [1, 5]),
        ([None, None, 1, None, 1, None], [1, 6]),  # twice back to the same line
        ([None, None, None, 2, None, 1, None], [1, 7]),  # the later one goes back further
        ([None, 1, None, None, 3, None], [1, 3, 6]),
        ([None, None, None, 1, 3, None], [1, 6]),  # back to what is undone already: nothing comes back
    ],
)
def test_what_a_resume_has_undone_is_passed_over(tmp_path, story, standing):
    path = rolled(tmp_path / "ledger.jsonl", story)
    assert [line["line"] for line in read_standing(path)] == standing
    assert survey(path).rollbacks == [(n, to) for n, to in enumerate(story, 1) if to is not None]


def test_two_threads_write_one_chain(tmp_path):
    """The learner's loop and its intake both write: a line's number and its place in the file are one step."""
    ledger = Ledger(tmp_path / "ledger.jsonl")

    def write(who):
        for number in range(1000):
            ledger.write("issued", ticket=number, by=who)

    threads = [threading.Thread(target=write, args=(who,)) for who in ("loop", "intake")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ledger.close()
    assert [line["line"] for line in read(ledger.path)] == list(range(1, 2001))
