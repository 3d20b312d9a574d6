"""``leeway runs``: every run of a folder and how it stands, from the ends of its files; and what the audit says first
of one that has not ended."""

import json
import os
import time
from collections import Counter
from pathlib import Path

import pytest
from leeway_rl.common.errors import AuditError, DataError
from leeway_rl.common.ledger import Ledger
from leeway_rl.common.locks import is_held, only_writer
from leeway_rl.leeway.cli import app
from leeway_rl.leeway.looking.runs import listed
from leeway_rl.leeway.looking.standing import standing, state_of
from typer.testing import CliRunner

STAGES = [{"from_step": 0, "groups_per_step": 1, "group_size": 2}]
RULES = {"max_staleness": 0, "overflow": "wait", "inject_lag": 0, "stage_change": "finish"}


def run(folder, *events, steps=2):
    """A run's folder with so many steps in its configuration and these events in its ledger."""
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(f"[train]\nsteps = {steps}\n")
    ledger = Ledger(folder / "ledger.jsonl")
    ledger.write("run", run=folder.name, seed=0, steps=steps, stages=STAGES, **RULES)
    ledger.write("started", incarnation=1, version=0)
    version = 0
    for event in events:
        if event == "step":
            make_step(ledger, version)
            version += 1
            with (folder / "metrics.jsonl").open("a") as file:
                line = {"step": version - 1, "version": version, "reward/mean": version / 10, "at": 1000.0 + version}
                file.write(json.dumps(line) + "\n")
        elif event == "checkpoint":
            ledger.write("checkpoint", step=version)
        else:
            ledger.write(event, version=version)
    ledger.close()
    return folder


def make_step(ledger, step):
    """One group issued, taken and trained."""
    bound = {"max_staleness": 0, "overflow": "wait"}
    issued = {"incarnation": 1, "version": step, "stage": 0, "prompt": "p:1", "reissued": False}
    ledger.write("issued", ticket=step, **issued)
    ledger.write("batch", step=step, tickets=[step], **bound)
    spans = [[[step, 0, 3]], [[step, 0, 2]]]
    judged = {"verdicts": ["correct", "wrong"], "lengths": [3, 2]}
    ledger.write("trained", ticket=step, step=step, spans=spans, head_staleness=0, past_bound=0, **judged)
    ledger.write("step", step=step, version=step + 1, tickets=[step], checksum="0", **bound)


def test_a_run_is_finished_stopped_crashed_or_at_work(tmp_path):
    assert state_of(run(tmp_path / "finished", "step", "step", "checkpoint", "end")) == "finished"
    assert state_of(run(tmp_path / "stopped", "step", "checkpoint")) == "stopped"
    assert state_of(run(tmp_path / "crashed", "step", "checkpoint", "step")) == "crashed"
    late = run(tmp_path / "late", "step", "step")
    ledger = Ledger(late / "ledger.jsonl")
    ledger.write("checkpoint", step=1)  # written beside the second step, which it does not cover
    assert state_of(late) == "crashed"
    ledger.write("checkpoint", step=2)
    ledger.close()
    assert state_of(late) == "stopped"
    assert state_of(run(tmp_path / "never")) == "crashed"
    for lock in ("lock", "learner.lock"):
        folder = tmp_path / "stopped"
        with only_writer(folder / lock, "here"):
            assert state_of(folder) == "running"
        assert (folder / lock).exists()
        assert not is_held(folder / lock)
    assert not is_held(tmp_path / "nothing")


def test_how_far_it_is_and_what_it_takes(tmp_path):
    found = standing(run(tmp_path / "r", "step", "checkpoint", "step", steps=7))
    assert (found.run, found.step, found.steps, found.reward, found.at) == ("r", 2, 7, 0.2, 1002.0)
    assert found.bytes == sum(path.stat().st_size for path in (tmp_path / "r").iterdir())
    (tmp_path / "r/metrics.jsonl").unlink()
    (tmp_path / "r/ledger.jsonl").unlink()
    bare = standing(tmp_path / "r")
    assert (bare.state, bare.step, bare.steps, bare.reward) == ("crashed", 0, None, None)


def test_only_the_ends_of_long_files_are_read(tmp_path, monkeypatch):
    folder = run(tmp_path / "long")
    with (folder / "ledger.jsonl").open("a") as file:
        for number in range(200_000):
            file.write(json.dumps({"line": number, "event": "trained", "filled": "x" * 40}) + "\n")
        file.write(
            '{"line": 200000, "event": "step", "version": 9}\n{"line": 200001, "event": "checkpoint", "step": 9}\n'
        )
        file.write('not json\n{"torn": ')
    looked = Counter()
    of_the_system = os.pread

    def pread(descriptor, size, position):
        looked["bytes"] += size
        return of_the_system(descriptor, size, position)

    monkeypatch.setattr(os, "pread", pread)
    assert state_of(folder) == "stopped"
    assert looked["bytes"] < (folder / "ledger.jsonl").stat().st_size / 10


def test_the_list_is_a_line_a_run_and_json_for_machines(tmp_path):
    for at, name in enumerate(("older", "newer")):
        run(tmp_path / "runs" / name, "step", "checkpoint")
        os.utime(tmp_path / "runs" / name / "config.toml", (at, at))
    (tmp_path / "runs/notes").mkdir()
    heads, *rows = listed(tmp_path / "runs", as_json=False).splitlines()
    assert heads.split() == ["run", "state", "step", "reward", "last", "step", "size"]
    at = time.strftime("%Y-%m-%d %H:%M", time.localtime(1001)).split()
    assert [row.split()[:6] for row in rows] == [[name, "stopped", "1/2", "0.100", *at] for name in ("newer", "older")]
    newer, _ = json.loads(listed(tmp_path / "runs", as_json=True))
    assert newer == {
        "run": "newer",
        "state": "stopped",
        "step": 1,
        "steps": 2,
        "reward": 0.1,
        "at": 1001.0,
        "bytes": standing(tmp_path / "runs/newer").bytes,
    }
    assert listed(tmp_path / "runs/notes", as_json=False) == f"no run under {tmp_path / 'runs/notes'}/"
    with pytest.raises(DataError, match="no such folder"):
        listed(Path("nowhere"), as_json=False)
    by_word = CliRunner().invoke(app, ["runs", str(tmp_path / "runs"), "--json"]).output
    assert by_word == CliRunner().invoke(app, ["runs", "--runs-dir", str(tmp_path / "runs"), "--json"]).output


def test_a_run_that_cannot_be_read_is_a_line_of_the_list_and_hides_no_other(tmp_path):
    run(tmp_path / "runs/whole", "step", "checkpoint")
    run(tmp_path / "runs/shut", "step", "checkpoint")
    (tmp_path / "runs/shut/metrics.jsonl").unlink()
    (tmp_path / "runs/shut/metrics.jsonl").mkdir()
    foreign = run(tmp_path / "runs/foreign", "step", "checkpoint")
    (foreign / "metrics.jsonl").write_text('{"step": 0, "version": 1, "reward/mean": "high", "at": "noon"}\n')
    found = {each["run"]: each for each in json.loads(listed(tmp_path / "runs", as_json=True))}
    assert {name: each["state"] for name, each in found.items()} == {
        "whole": "stopped",
        "shut": "unreadable",
        "foreign": "stopped",
    }
    assert found["foreign"]["reward"] is None
    assert len(listed(tmp_path / "runs", as_json=False).splitlines()) == 4


def test_the_audit_first_says_how_a_run_stands_that_has_not_ended(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(tmp_path / "runs/here", "step", "checkpoint")
    asked = CliRunner().invoke(app, ["audit", "here"])
    first, second, *_ = asked.output.splitlines()
    assert first.startswith("run here is stopped at step 1 of 2: leeway up --run runs/here --resume")
    assert second == "audit passed for what is there: 7 lines, chain whole"
    assert "trained          1 in 1 step of 1, each once" in asked.output
    assert isinstance(asked.exception, AuditError)
    assert CliRunner().invoke(app, ["audit", "here", "--unfinished"]).exit_code == 0
    with only_writer(tmp_path / "runs/here/lock", "here"):
        assert CliRunner().invoke(app, ["audit"]).output.startswith("run here is at work, at step 1 of 2\n")
    run(tmp_path / "runs/hurt", "checkpoint", "step")
    said = CliRunner().invoke(app, ["audit", "runs/hurt", "--unfinished"]).output
    assert said.startswith("run hurt has crashed at step 1 of 2: leeway up --run runs/hurt --resume")
    (tmp_path / "copy.jsonl").write_bytes((tmp_path / "runs/hurt/ledger.jsonl").read_bytes())
    said = CliRunner().invoke(app, ["audit", "copy.jsonl", "--unfinished"]).output
    assert said.startswith("copy.jsonl has no end: it goes to step 1 of 2\n")
    run(tmp_path / "runs/whole", "step", "step", "checkpoint", "end")
    assert CliRunner().invoke(app, ["audit", "whole"]).output.startswith("audit passed: 12 lines, chain whole\n")
