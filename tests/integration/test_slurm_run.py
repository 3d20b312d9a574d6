"""A run under a real Slurm, all of whose nodes are this machine: its head job is queued again and a rollout task is
pre-empted, and the run comes to its last step."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.integration.running import SMALL, leeway, metrics, pause
from tests.slurm import SCRIPTS, Slurm, missing

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(missing()), reason=f"no Slurm here: apt-get install slurm-wlm munge ({missing()})"),
]


def test_a_run_outlives_its_head_queued_again_and_a_worker_pre_empted(tmp_path, wait_until):
    shutil.copytree(SCRIPTS, tmp_path / "deploy/slurm")
    folder, on_path = tmp_path / "runs/my-run", f"{Path(sys.executable).parent}:"
    (tmp_path / "slurm").mkdir()
    with Slurm(tmp_path / "slurm", cpus=3) as slurm:
        wait_until(lambda: slurm.ready() or slurm.why_not(), "the nodes take jobs", 300)
        if why := slurm.why_not():
            pytest.skip(f"Slurm is installed, and may not be started here: {why}")
        path = {"PATH": on_path + slurm.environment["PATH"], "OMP_NUM_THREADS": "1"}
        words = ["deploy/slurm/submit.sh", "my-run", *SMALL, "--set", "train.steps=24"]
        where = {"ROLLOUT_OPTIONS": "--partition=spot --nodelist=n0"}
        where |= {"LEARNER_OPTIONS": "--nodelist=n1", "VERIFIER_OPTIONS": "--nodelist=n1"}
        said = slurm.run("bash", *words, cwd=tmp_path, **where, **path)
        head, rollout, _ = (folder / "slurm-jobs").read_text().split()
        assert f"head job {head} (1 nodes), rollout array {rollout} (1 workers)" in said
        try:
            wait_until(lambda: len(metrics(folder)) >= 1, "the first step", 300)
            with pause(folder):  # the command would come too late
                assert len(metrics(folder)) < 24
            urgent = ("sbatch", "--partition=urgent", "--nodelist=n0", "--exclusive", "--wrap=true")
            wait_until(lambda: "Submitted" in slurm.run(*urgent, cwd=tmp_path), "the urgent job is queued", 300)
            wait_until(lambda: slurm.restarts(f"{rollout}_0") >= 1, "the rollout task is queued again", 300)
            warned = ("scancel", "--batch", "--signal=USR1", head)  # as before the time limit
            wait_until(lambda: not slurm.run(*warned), "the head is warned", 300)
            wait_until(lambda: slurm.restarts(head) == 1, "the head is queued again", 300)
            wait_until(lambda: slurm.jobs().get(head) == "RUNNING", "the head runs again", 300)
            wait_until(lambda: leeway("resume", "my-run", cwd=tmp_path).returncode == 0, "the run goes on", 300)
            wait_until(lambda: not slurm.jobs(), "the run and all its jobs end", 300)
        finally:
            logs = "\n".join(path.read_text() for path in sorted((folder / "logs").glob("slurm-*")))
            print(said, slurm.jobs(), logs)
    assert len(metrics(folder)) == 24
    audit = leeway("audit", "my-run", cwd=tmp_path)
    assert (audit.returncode, "incarnations     2" in audit.stdout) == (0, True)
    assert "rollout has ended with 130" in logs
    assert "not done within broker.drain_s" not in logs
    assert (folder / "report.html").exists()
    assert not (folder / "redis-url").exists()
