"""A Slurm of one machine for tests: munge, a controller, and several nodes that are all this machine. It needs no
rights and touches nothing outside its folder."""

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

from leeway_rl.leeway.running.server import free_port

SCRIPTS = Path(__file__).resolve().parent.parent / "deploy" / "slurm"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue", "scancel")
NODES = 2

CONF = """
ClusterName=leeway
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,bf_interval=1
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=70
{nodes}
PartitionName=normal Nodes=ALL Default=YES State=UP PriorityTier=10 PreemptMode=OFF
PartitionName=spot Nodes=ALL State=UP PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=ALL State=UP PriorityTier=20
"""
"""``cred_expire`` is also how long a job waits that has been queued again; by default that is two minutes."""


def path() -> str:
    """PATH with the folders of system programs, where the daemons are."""
    return os.pathsep.join([os.environ["PATH"], "/usr/local/sbin", "/usr/sbin", "/sbin"])


def missing() -> list[str]:
    """The programs of Slurm that are not here."""
    return [name for name in PROGRAMS if shutil.which(name, path=path()) is None]


class Slurm:
    """Daemons in the foreground of their own processes, until the context ends."""

    def __init__(self, folder: Path, cpus: int) -> None:
        self.folder, host = folder, socket.gethostname().partition(".")[0]
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": path()}
        self._daemons: list[subprocess.Popen[bytes]] = []
        folder.chmod(0o755)  # or munge takes its socket for one that others cannot reach
        (folder / "state").mkdir()
        key = folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        nodes = "\n".join(
            f"NodeName=n{index} NodeHostname={host} NodeAddr=127.0.0.1 Port={free_port()} CPUs={cpus} RealMemory=1000"
            for index in range(NODES)
        )
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        text = CONF.format(host=host, port=free_port(), user=user, folder=folder, nodes=nodes)
        (folder / "slurm.conf").write_text(text)

    def __enter__(self) -> "Slurm":
        at = {name: str(self.folder / f"munge.{name}") for name in ("socket", "pid", "log", "seed")}
        munge = [f"--socket={at['socket']}", f"--pid-file={at['pid']}", f"--log-file={at['log']}"]
        self._start("munged", "--foreground", "--force", f"--key-file={self.folder}/munge.key", *munge, at["seed"])
        self._start("slurmctld", "-D")
        for index in range(NODES):
            self._start("slurmd", "-D", "-N", f"n{index}")
        return self

    def __exit__(self, *_: object) -> None:
        self.run("scancel", "--me", "--full", "--signal=KILL")
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in self._daemons:
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def _start(self, program: str, *options: str) -> None:
        if program == "munged":
            options = (*options[:-1], f"--seed-file={options[-1]}")
        with (self.folder / f"{program}.out").open("ab") as out:
            found = shutil.which(program, path=path())
            daemon = subprocess.Popen([str(found), *options], stdout=out, stderr=out, env=self.environment)
        self._daemons.append(daemon)

    def run(self, *words: str, cwd: Path | None = None, **variables: str) -> str:
        """What a command prints, of Slurm or of ours."""
        done = self._done(*words, cwd=cwd, **variables)
        return done.stdout + done.stderr

    def _done(self, *words: str, cwd: Path | None = None, **variables: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            words, cwd=cwd, env=self.environment | variables, capture_output=True, text=True, timeout=200, check=False
        )

    def ready(self) -> bool:
        """Whether every node takes jobs."""
        return (
            self.run("sinfo", "--noheader", "--Node", "--partition=normal", "--format=%t").split() == ["idle"] * NODES
        )

    def why_not(self) -> str:
        """The last words of daemons that have ended, where they may not run here; empty while all run."""
        ended = [daemon.args for daemon in self._daemons if daemon.poll() is not None]
        said = [path.read_text()[-500:] for path in sorted(self.folder.glob("*.out"))]
        return f"{ended}: {' '.join(said)}" if ended else ""

    def jobs(self) -> dict[str, str]:
        """The state of every job and array task in the queue, by job_task. A busy controller may not answer, which is
        no empty queue."""
        done = self._done("squeue", "--noheader", "--array", "--format=%i %T")
        if done.returncode:
            return {"squeue": done.stderr}
        return dict(line.split() for line in done.stdout.splitlines() if len(line.split()) == 2)

    def restarts(self, job: str) -> int:
        """How often a job has been queued again; 0 where a busy controller does not answer."""
        found = re.search(r"Restarts=(\d+)", self.run("scontrol", "show", "job", job))
        return int(found[1]) if found else 0
