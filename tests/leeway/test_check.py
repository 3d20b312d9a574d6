"""``leeway check`` says what a newcomer has to know, and names no file that is gone when it is read."""

import datetime
import json
import re
import tempfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from leeway_rl.common.config import compose
from leeway_rl.common.errors import DataError, LeewayError, RoleDiedError
from leeway_rl.leeway.evaluating import check


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Where the temporary folders are, of a check that samples nothing."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(check, "trial", lambda *_: [])
    monkeypatch.setattr(check, "sampled", lambda *_: [])
    return tmp_path


def test_a_check_leaves_nothing_behind_and_says_no_path_of_its_own(folders, capsys):
    check.check(["tiny"], [], rows=1, responses=1)
    assert list(folders.iterdir()) == []
    assert str(folders) not in capsys.readouterr().out


@pytest.fixture
def read(folders, monkeypatch):
    """The rows that a check hands on to be graded."""
    found = []

    def trial(config, _):
        with open(config.source.path) as file:
            found.extend(json.loads(line) for line in file)
        return []

    monkeypatch.setattr(check, "trial", trial)
    return found


def test_a_column_that_nobody_is_given_may_be_what_no_json_holds(read, tmp_path):
    rows = [{"prompt": f"{number}+1", "answer": "2", "made": datetime.datetime(2026, 1, 1)} for number in range(3)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    check.check(["tiny"], [f"data.path={tmp_path / 'rows.parquet'}", "data.source=file"], rows=2, responses=1)
    assert read == [{"prompt": "0+1", "answer": "2"}, {"prompt": "1+1", "answer": "2"}]


def published(folder, *rows):
    """A folder that the hub's own library loads like a set's name; the settings to train on it."""
    (folder / "set").mkdir()
    (folder / "set/train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["data.source=hub", f"data.path={folder / 'set'}", 'data.columns={prompt = "question"}']


def test_the_first_rows_of_a_published_set_are_read_and_no_more(read, tmp_path):
    settings = published(
        tmp_path, *({"question": f"{number}+1", "answer": "2"} for number in range(2)), {"question": ""}
    )
    check.check(["tiny"], settings, rows=2, responses=1)
    assert read == [{"question": "0+1", "answer": "2"}, {"question": "1+1", "answer": "2"}]


def test_a_row_of_a_published_set_that_cannot_be_used_is_named(read, tmp_path):
    settings = published(tmp_path, {"question": "1+1"})
    with pytest.raises(DataError, match=f"{tmp_path / 'set'} row 1: .*answer"):
        check.check(["tiny"], settings, rows=2, responses=1)
    assert not read


def test_a_log_that_an_error_names_is_there_to_be_read(folders, monkeypatch):
    def sampled(_config, _problems, out, _responses):
        (out / "logs").mkdir(parents=True)
        (out / "logs/rollout-1.log").write_text("no memory")
        raise RoleDiedError(f"rollout-1 died ({out / 'logs/rollout-1.log'})")

    monkeypatch.setattr(check, "sampled", sampled)
    with pytest.raises(RoleDiedError) as ended:
        check.check(["tiny"], [], rows=1, responses=1)
    assert Path(re.findall(r"\((.*)\)", str(ended.value))[0]).read_text() == "no memory"


def graded(*rewards):
    each = [{"response": "", "reward": reward, "verdict": "", "reason": ""} for reward in rewards]
    return [{"prompt": "1+1", "graded": each}]


def test_where_every_reward_fails_nothing_is_sampled_and_where_some_do_the_rest_is_seen(folders, monkeypatch, capsys):
    sampled, tries = [], []

    def trial(config, _):
        tries.append(config.broker.max_attempts)
        return graded(None, None) if len(tries) == 1 else graded(1.0, None)

    monkeypatch.setattr(check, "trial", trial)
    monkeypatch.setattr(check, "sampled", lambda *_: sampled.append(1) or [])
    with pytest.raises(LeewayError, match="rewards failed on 2 responses"):
        check.check(["tiny"], [], rows=1, responses=1)
    assert not sampled
    assert "no response is sampled before the rewards work" in capsys.readouterr().out
    with pytest.raises(LeewayError, match="rewards failed on 1 response:"):
        check.check(["tiny"], [], rows=1, responses=1)
    assert sampled
    assert tries == [1, 1], "a function that hangs is waited for once"


def test_of_rewards_that_failed_no_step_is_told_and_what_failed_is_not_0():
    row = {"reward": None, "tokens": 5}
    said = check.step_of(compose(["tiny"], []), [[row, row]])
    assert "no response got a reward" in said
    assert "nothing can be said of learning before the rewards work" in said
    assert "nothing could be learnt" not in said, "that is said of rewards that work"
    assert "reward 0.000" not in said
    assert "nothing could be learnt" in check.step_of(compose(["tiny"], []), [[row | {"reward": 1.0}] * 2])
