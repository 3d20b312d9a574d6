"""The scripts of ``deploy/slurm``: that they can be read, that what they call exists, what they ask Slurm for, and
which exit code of a role leads where. Programs of Slurm are stand-ins here that note how they were called; the real
ones run in ``integration/test_slurm_run.py``."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.slurm import SCRIPTS

NOTE = """#!/bin/bash
printf '%s\\n' "$(basename "$0") $(printf '%q ' "$@")" >>"$CALLS"
"""
STAND_INS = {
    "sbatch": NOTE + 'echo $((100 + $(grep -c ^sbatch "$CALLS")))\n',
    "scontrol": NOTE,
    "scancel": NOTE,
    "squeue": '#!/bin/bash\n[[ "$*" == *--jobs=* ]] || cat "$QUEUE"\n',
    "sleep": f"#!/bin/bash\nexec {shutil.which('sleep')} 0.05\n",
    "srun": '#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"\n',
}
ROLE = f"""#!{shutil.which("bash")}
printf '%s\\n' "leeway $*" >>"$CALLS"
case $1 in
server)
    folder=$(sed 's/.*--folder \\([^ ]*\\).*/\\1/' <<<"$*")
    echo redis://somewhere >"$folder/url"
    exec {sys.executable} -c 'import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit()); signal.pause()'
    ;;
learner | rollout | verifier)
    code=$(head -n 1 "$CODES") && sed -i 1d "$CODES"
    exit "${{code:-0}}"
    ;;
esac
"""
"""A command line whose roles end with the codes of a file, one after the other."""


@pytest.fixture
def cluster(tmp_path):
    """A folder with the stand-ins, and the environment in which they are found."""
    (tmp_path / "bin").mkdir()
    for name, text in STAND_INS.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    for name in ("calls", "queue", "codes"):
        (tmp_path / name).touch()
    return tmp_path


def ran(cluster, *words, own_leeway=True, **variables):
    """A script's end."""
    if own_leeway:
        (cluster / "bin/leeway").write_text(ROLE)
        (cluster / "bin/leeway").chmod(0o755)
    path = [str(cluster / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
    environment = os.environ | {"PATH": os.pathsep.join(path)} | variables
    environment |= {name.upper(): str(cluster / name) for name in ("calls", "queue", "codes")}
    return subprocess.run(
        ["bash", *map(str, words)],
        cwd=cluster,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def calls(cluster, program):
    """The words of each call of a program."""
    lines = (cluster / "calls").read_text().splitlines()
    return [words[1:] for line in lines if (words := shlex.split(line))[0] == program]


# --- what stands there -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["submit.sh", "head.sh", "worker.sh", "job.sh"])
def test_bash_can_read_it(name):
    read = subprocess.run(["bash", "-n", str(SCRIPTS / name)], capture_output=True, text=True, check=False)
    assert (read.returncode, read.stderr) == (0, "")


def called_commands():
    """(command, its options) wherever a script calls leeway."""
    for path in SCRIPTS.glob("*.sh"):
        text = path.read_text().replace("\\\n", " ")
        code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
        for command, rest in re.findall(r"\bleeway ([a-z]+)\b([^\n;|&']*)", code):
            yield command, set(re.findall(r"(?<= )--[a-z-]+", rest))


def test_every_command_and_option_of_the_scripts_exists():
    from leeway_rl.leeway.cli import app

    found = list(called_commands())
    assert {command for command, _ in found} >= {"up", "server", "create", "learner", "audit", "report"}
    for command, options in [*found, ("rollout", set()), ("verifier", set())]:
        shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
        assert shown.exit_code == 0, command
        for option in options:
            assert option in shown.output, f"leeway {command} has no {option}"


# --- what a run asks for ---------------------------------------------------------------------------------------------


def submitted(cluster, *words, **variables):
    done = ran(cluster, SCRIPTS / "submit.sh", *words, own_leeway=False, **variables)
    assert done.returncode == 0, done.stderr
    return calls(cluster, "sbatch")


def test_nodes_gpus_and_processors_come_from_the_configuration(cluster):
    options = {"ROLLOUT_OPTIONS": "--partition=spot", "GPU": "gpu:h100"}
    head, rollout, verifier = submitted(cluster, "big", "--preset", "skywork-or1-32b", **options)
    assert {"--nodes=2", "--gres=gpu:h100:8", "--cpus-per-task=64", "--requeue", "--hold"} <= set(head)
    assert head[-4:] == [str(SCRIPTS), "big", "--preset", "skywork-or1-32b"]
    assert {"--array=0-3", "--gres=gpu:h100:4", "--partition=spot", "--requeue", "--dependency=after:101"} <= set(
        rollout
    )
    assert rollout[-4:] == [str(SCRIPTS), "rollout", "big", "101"]
    assert {"--array=0-0", "--cpus-per-task=8"} <= set(verifier)
    assert not any(word.startswith("--gres") for word in verifier)
    assert (cluster / "runs/big/slurm-jobs").read_text() == "101 102 103\n"
    assert calls(cluster, "scontrol") == [["release", "101"]]


def test_a_job_is_told_to_leave_a_drain_and_more_before_its_time_limit(cluster):
    jobs = submitted(cluster, "tiny", "--preset", "tiny", "--set", "broker.drain_s=300", ROLLOUT_WORKERS="3")
    assert all("--signal=B:USR1@420" in job for job in jobs)
    assert not any(word.startswith("--gres") for job in jobs for word in job)
    assert "--array=0-2" in jobs[1]


def test_what_cannot_be_submitted_is_refused(cluster):
    shared = ["--preset", "skywork-or1-7b", "--set", "placement.rollout=learner"]
    shared += ["--set", "rollout.gpu_memory_utilization=0.3"]
    submit = SCRIPTS / "submit.sh"
    refused = ran(cluster, submit, "shared", *shared, own_leeway=False)
    assert refused.returncode == 1
    assert "--set placement.rollout=gpu" in refused.stderr
    assert ran(cluster, submit, "typo", "--preset", "tinny", own_leeway=False).returncode == 2
    (cluster / "runs/there").mkdir(parents=True)
    (cluster / "runs/there/slurm-jobs").write_text("77 78 79\n")
    (cluster / "queue").write_text("77\n")
    again = ran(cluster, submit, "there", "--preset", "tiny", own_leeway=False)
    assert (again.returncode, "in the queue already, as job 77" in again.stderr) == (5, True)
    (cluster / "queue").write_text("")
    (cluster / "runs/there/config.toml").touch()
    other = ran(cluster, submit, "there", "--preset", "tiny", own_leeway=False)
    assert (other.returncode, "goes on with it" in other.stderr) == (5, True)
    assert calls(cluster, "sbatch") == []


@pytest.mark.parametrize(
    ("run", "variables", "said"),
    [
        ("elsewhere/r", {}, "elsewhere/r: a run of this folder's runs/ by its id"),
        ("../r", {}, "../r: a run of this folder's runs/"),
        ("r", {"ROLLOUT_WORKERS": "-1"}, "ROLLOUT_WORKERS=-1: a whole number"),
        ("r", {"ROLLOUT_WORKERS": "two"}, "ROLLOUT_WORKERS=two: a whole number"),
        ("r", {"LEEWAY_SETUP": "no/setup.sh"}, "LEEWAY_SETUP=no/setup.sh: there is no such file"),
    ],
)
def test_a_mistake_in_what_is_said_of_the_jobs_is_named_before_any_is_made(run, variables, said, cluster):
    refused = ran(cluster, SCRIPTS / "submit.sh", run, "--preset", "tiny", own_leeway=False, **variables)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(said)
    assert calls(cluster, "sbatch") == []
    assert not (cluster / "runs").exists()


def test_a_run_is_submitted_by_its_folder_too(cluster):
    head, *_ = submitted(cluster, "runs/r/", "--preset", "tiny")
    assert "--job-name=leeway-r" in head
    assert (cluster / "runs/r/slurm-jobs").exists()


def test_a_run_in_a_long_queue_is_found(cluster):
    """grep that has found a line leaves squeue with a broken pipe."""
    (cluster / "runs/there").mkdir(parents=True)
    (cluster / "runs/there/slurm-jobs").write_text("77 78 79\n")
    (cluster / "queue").write_text("77\n" + "".join(f"{number}\n" for number in range(100_000, 200_000)))
    again = ran(cluster, SCRIPTS / "submit.sh", "there", "--preset", "tiny", own_leeway=False)
    assert (again.returncode, "in the queue already, as job 77" in again.stderr) == (5, True)
    assert calls(cluster, "sbatch") == []


def test_no_job_is_left_where_slurm_refuses_another(cluster):
    refuses = '[[ "$*" != *--partition=typo* ]] || { echo "invalid partition" >&2; exit 1; }\n'
    (cluster / "bin/sbatch").write_text(STAND_INS["sbatch"].replace("echo", f"{refuses}echo", 1))
    refused = ran(
        cluster, SCRIPTS / "submit.sh", "r", "--preset", "tiny", own_leeway=False, VERIFIER_OPTIONS="--partition=typo"
    )
    assert (refused.returncode, "invalid partition" in refused.stderr) == (1, True)
    assert calls(cluster, "scancel") == [["101", "102"]]
    assert calls(cluster, "scontrol") == []
    assert not (cluster / "runs/r/slurm-jobs").exists()


SETUP = """export SEEN="$SEEN:$NOBODY_HAS_SET_THIS"
false
export LEEWAY_HOST=from-setup
"""
"""Scripts that activate environments, conda's for one, name variables that may not be set, and go on where a command
fails."""


def test_a_script_that_sets_up_an_environment_is_not_held_to_our_rules(cluster):
    (cluster / "setup").write_text(SETUP)
    submitted(cluster, "r", "--preset", "tiny", LEEWAY_SETUP="setup")
    code, _, said = ended(cluster, "head.sh", "r", "--preset", "tiny", codes=[0], LEEWAY_SETUP="setup")
    assert code == 0, said
    assert "from-setup:20015" in calls(cluster, "leeway")[2]


# --- which code leads where ------------------------------------------------------------------------------------------


def ended(cluster, *words, codes, queue="7 RUNNING\n", noted="7 8 9\n", **variables):
    """(exit code, what it told Slurm to do with its own job, what it said) of a script of job 7 or 8."""
    (cluster / "codes").write_text("".join(f"{code}\n" for code in codes))
    (cluster / "queue").write_text(queue)
    (cluster / "runs/r").mkdir(parents=True, exist_ok=True)
    if noted is not None:
        (cluster / "runs/r/slurm-jobs").write_text(noted)
    job = "7" if words[0] == "head.sh" else "8"
    variables = {"LEEWAY_HOST": "here"} | variables
    variables |= {"SLURM_JOB_ID": job, "SLURM_JOB_NUM_NODES": "2", "SLURM_NODEID": "1"}
    done = ran(cluster, SCRIPTS / words[0], SCRIPTS, *words[1:], **variables)
    own = [call[0] for call in calls(cluster, "scontrol") if call[1:] == [job]]
    return done.returncode, own, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("codes", "code", "told"),
    [
        ([0], 0, []),  # the run is over
        ([130], 1, ["requeue"]),  # asked to leave, and not by us: a pre-emption with a grace time
        ([2], 2, []),
        ([3], 3, []),  # a mistake, which it would meet again
        ([4, 4, 0], 0, []),  # Redis was away
        ([1, 7, 137, 0], 0, []),
        ([1, 1, 1, 1, 1, 0], 1, []),
    ],
)
def test_a_worker_goes_where_the_code_of_its_role_says(cluster, codes, code, told):
    (cluster / "runs/r").mkdir(parents=True)
    (cluster / "runs/r/redis-url").write_text("redis://somewhere\n")
    found, own, said = ended(cluster, "worker.sh", "rollout", "r", "7", codes=codes)
    assert (found, own) == (code, told), said
    assert calls(cluster, "leeway") == [["rollout", "r"]] * (5 if codes[-2:] == [1, 0] else len(codes))


def test_a_worker_waits_for_its_head_then_gives_its_node_back_and_leaves_where_the_head_is_gone(cluster):
    worker = ["worker.sh", "rollout", "r", "7"]
    _, own, said = ended(cluster, *worker, codes=[], queue="7 PENDING\n", PATIENCE_S="0")
    assert own == ["requeuehold"]
    assert "the head job 7 is PENDING" not in said  # there was no patience
    code, own, said = ended(cluster, *worker, codes=[], queue="70 RUNNING\n")
    assert (code, own) == (0, ["requeuehold"])
    assert "the head job 7 is no more in the queue" in said
    assert calls(cluster, "leeway") == []


@pytest.mark.parametrize(
    ("codes", "code", "told"),
    [([0], 0, []), ([130], 1, ["requeue"]), ([2], 2, []), ([1, 4, 0], 0, []), ([1, 1, 1, 1, 1], 1, [])],
)
def test_the_head_goes_where_the_code_of_the_learner_says_and_ends_the_workers_with_the_run(cluster, codes, code, told):
    found, own, said = ended(cluster, "head.sh", "r", "--preset", "tiny", codes=codes)
    assert (found, own) == (code, told), said
    commands = calls(cluster, "leeway")
    assert commands[0][:5] == ["server", "--host", "0.0.0.0", "--port", "20014"]
    assert commands[1] == ["create", "r", "--preset", "tiny"]
    learner = ["learner", "r", "--nodes", "2", "--node", "2", "--first-node", "here:20015"]
    assert [words for words in commands if words[0] == "learner"] == [learner] * len(codes)
    assert (["audit", "r"] in commands) is (code == 0)
    assert (["--quiet", "8", "9"] in calls(cluster, "scancel")) is not told
    assert ["release", "8", "9"] in calls(cluster, "scontrol")
    assert not (cluster / "runs/r/redis-url").exists()


@pytest.mark.parametrize("noted", [None, "", "7  \n"])
def test_a_head_that_knows_no_workers_cancels_nothing(cluster, noted):
    """scancel with a state and no number would cancel every job of this user."""
    (cluster / "runs/r").mkdir(parents=True)
    jobs = cluster / "runs/r/slurm-jobs"
    found, _, said = ended(cluster, "head.sh", "r", "--preset", "tiny", codes=[2], noted=noted)
    assert found == 2, said
    assert jobs.exists() is (noted is not None)
    assert calls(cluster, "scancel") == []


def test_the_dry_run_has_its_layout_for_machines():
    from leeway_rl.leeway.cli import app

    done = CliRunner().invoke(app, ["up", "--preset", "skywork-or1-32b", "--dry-run", "--json"])
    plan = json.loads(done.stdout)
    assert plan["config"]["train"]["ranks"] == sum(each["ranks"] for each in plan["processes"]) == 16
    assert [each["name"] for each in plan["processes"]] == [
        "learner",
        "learner",
        *(f"rollout-{index}" for index in range(4)),
        "verifier-0",
    ]
    assert plan["processes"][3] == {"name": "rollout-1", "node": 3, "gpus": [4, 5, 6, 7], "ranks": 0, "shared": False}
    refused = CliRunner().invoke(app, ["up", "--preset", "tiny", "--json"])
    assert "--json is for --dry-run" in str(refused.exception or refused.output)
