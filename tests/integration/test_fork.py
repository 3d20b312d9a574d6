"""A fork with nothing changed ends as the run that it comes from; with a key changed, everything says so."""

import json
import shlex

import pytest

from tests.integration.running import last_checksum, leeway, metrics

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

COMMANDS = [
    "leeway fork my-run --step 20 --run my-fork --set objective.kl_beta=1e-3",
    "leeway up --run my-fork --resume",
    "leeway audit my-fork",
]
"""As documented in docs/how-to/forks.md; here the run is shorter, and so is its step."""
KEYS = (
    "steps=3",
    "groups_per_step=4",
    "group_size=4",
    "minibatch_groups=2",
    "checkpoint_every=1",
    "keep_checkpoints=9",
)


def done(*words, cwd):
    found = leeway(*words, cwd=cwd)
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


def test_a_fork_ends_as_its_parent_unless_a_key_differs_and_then_the_audit_tells_which(tmp_path):
    sets = [word for key in KEYS for word in ("--set", f"train.{key}")]
    done("up", "--preset", "tiny", "--run", "my-run", "--set", "flow.max_staleness=0", *sets, cwd=tmp_path)
    ended = last_checksum(tmp_path / "runs" / "my-run")

    done("fork", "my-run", "--step", "1", "--run", "same", cwd=tmp_path)
    assert json.loads(done("runs", "--json", cwd=tmp_path))[0]["state"] == "stopped"
    done("up", "--run", "same", "--resume", cwd=tmp_path)
    assert last_checksum(tmp_path / "runs" / "same") == ended
    assert [line["version"] for line in metrics(tmp_path / "runs" / "same")] == [2, 3]
    assert "forked from      run my-run, step 1" in done("audit", "same", cwd=tmp_path)

    said = [done(*shlex.split(each.replace("--step 20", "--step 2"))[1:], cwd=tmp_path) for each in COMMANDS]
    assert last_checksum(tmp_path / "runs" / "my-fork") != ended
    assert "step 2" in said[-1]
    assert "; objective.kl_beta 0.0 -> 0.001\n" in said[-1]
    assert "forked from my-run at step 2" in (tmp_path / "runs" / "my-fork" / "report.html").read_text()
    assert "audit passed" in done("audit", "my-run", cwd=tmp_path)
