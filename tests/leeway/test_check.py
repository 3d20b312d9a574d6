"""``leeway check`` names no file that is gone when its message is read."""

import re
import tempfile
from pathlib import Path

import pytest
from leeway_rl.common.errors import RoleDiedError
from leeway_rl.leeway.evaluating import check


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Where the temporary folders are, of a check that samples nothing."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(check, "_trial", lambda *_: [])
    monkeypatch.setattr(check, "_sampled", lambda *_: [])
    return tmp_path


def test_a_check_leaves_nothing_behind_and_says_no_path_of_its_own(folders, capsys):
    check.check(["tiny"], [], rows=1, responses=1)
    assert list(folders.iterdir()) == []
    assert str(folders) not in capsys.readouterr().out


def test_a_log_that_an_error_names_is_there_to_be_read(folders, monkeypatch):
    def sampled(_config, _problems, out, _responses):
        (out / "logs").mkdir(parents=True)
        (out / "logs/rollout-1.log").write_text("no memory")
        raise RoleDiedError(f"rollout-1 died ({out / 'logs/rollout-1.log'})")

    monkeypatch.setattr(check, "_sampled", sampled)
    with pytest.raises(RoleDiedError) as ended:
        check.check(["tiny"], [], rows=1, responses=1)
    assert Path(re.findall(r"\((.*)\)", str(ended.value))[0]).read_text() == "no memory"
