"""What each release has left is audited, reported, exported and gone on with by this one, or refused by word."""

import json
import re
import socket
import tarfile
from contextlib import closing
from pathlib import Path

import pytest
from leeway_rl import __version__
from leeway_rl.common.errors import AuditError, DataError
from leeway_rl.common.ledger import FORMAT, Ledger, is_complete, read
from leeway_rl.common.samples import FILE, read_samples
from leeway_rl.learner.export import export
from leeway_rl.learner.fork import fork
from leeway_rl.learner.startup import refuse_older
from leeway_rl.leeway.proving.audit import audit
from leeway_rl.leeway.reporting.report import write_report
from leeway_rl.leeway.running.up import up

from tests.integration.running import leeway
from tests.releases.freeze import RUN, STEPS, STOPPED_AT, packed, unpacked

RELEASES = Path(__file__).parent / "releases"
ARCHIVES = sorted(RELEASES.glob("*.tar.xz"))


@pytest.fixture(scope="module", params=ARCHIVES, ids=lambda path: path.name.removesuffix(".tar.xz"))
def left(request, tmp_path_factory):
    """The folder with what a release has left."""
    return unpacked(request.param, tmp_path_factory.mktemp("left"))


def test_every_release_in_the_changelog_has_left_a_run():
    released = re.findall(r"^## (\d+\.\d+\.\d+)", (RELEASES.parent.parent / "CHANGELOG.md").read_text(), re.M)
    assert __version__ in released
    assert sorted(released) == [path.name.removesuffix(".tar.xz") for path in ARCHIVES]


def test_what_is_frozen_has_the_same_files_when_it_is_packed_again_and_names_no_machine(newest, tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "a-machine-of-ours")  # a short one stands in any file
    archive = tmp_path / "again.tar.xz"
    packed(newest, archive)
    with tarfile.open(archive) as again, tarfile.open(RELEASES / f"{__version__}.tar.xz") as first:
        assert [(each.name, each.size) for each in again] == [(each.name, each.size) for each in first]
    (newest / "finished" / RUN / "ledger.jsonl").write_text(f"{newest}\n")
    with pytest.raises(SystemExit, match=r"ledger\.jsonl: it names this machine"):
        packed(newest, archive)


def format_of(run):
    return next(read(run / "ledger.jsonl")).get("format", 1)


def of_another(run):
    """Whether what is in the folder is of another format. It is refused then, and that is what is tested."""
    if format_of(run) == FORMAT:
        return False
    with pytest.raises(DataError, match=f"this is Leeway {__version__}"):
        export(run, run / "model")
    return True


def test_its_finished_run_is_audited_reported_read_and_exported(left, tmp_path):
    run = left / "finished" / RUN
    if of_another(run):
        return
    assert is_complete(run)
    account = audit(run / "ledger.jsonl")
    assert (account.ended, account.version) == (True, STEPS)
    assert "<h2>" in write_report(run).read_text()
    assert [text for sample in read_samples(run / FILE) for text in (sample.prompt,)]
    out = export(run, tmp_path / "model")
    assert (out / "model.safetensors").exists()
    assert "equal, bit for bit, to what the run published" in (out / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_its_stopped_run_goes_on_to_its_end(left):
    runs = left / "stopped"
    if of_another(runs / RUN):
        return
    assert audit(runs / RUN / "ledger.jsonl", unfinished=True).version == STOPPED_AT
    done = leeway("up", "--run", RUN, "--resume", "--runs-dir", str(runs), cwd=left)
    assert done.returncode == 0, done.stdout + done.stderr
    account = audit(runs / RUN / "ledger.jsonl")
    assert (account.ended, account.version) == (True, STEPS)


@pytest.fixture
def newest(tmp_path):
    """What this version leaves."""
    return unpacked(RELEASES / f"{__version__}.tar.xz", tmp_path)


@pytest.mark.parametrize(("number", "version"), [(FORMAT + 1, "9.8.7"), (0, "0.0.9")])
def test_a_run_of_a_later_or_an_earlier_format_is_refused_with_both_versions_and_what_to_do(newest, number, version):
    run = newest / "stopped" / RUN
    lines = list(read(run / "ledger.jsonl"))
    (run / "ledger.jsonl").unlink()
    with closing(Ledger(run / "ledger.jsonl")) as ledger:
        for line in lines:
            changed = {"format": number, "leeway": version} if line["event"] in ("run", "started") else {}
            ledger.write(**{key: value for key, value in line.items() if key not in ("line", "chain")} | changed)
    (run / "config.toml").write_text((run / "config.toml").read_text() + "\n[a_later_section]\nkey = 1\n")
    words = (
        f"Leeway {re.escape(version)} wrote it, in format {number}; this is Leeway {re.escape(__version__)}, which "
        f"reads format {FORMAT}: go on with it, audit it and export it with that version"
    )
    again = {"presets": [], "settings": [], "redis_url": None, "runs_dir": run.parent, "resume": True}
    for refused in (
        lambda: up(RUN, **again),
        lambda: export(run, newest / "model"),
        lambda: fork(run, newest / "fork", step=None, settings=[]),
    ):
        with pytest.raises(DataError, match=words):
            refused()
    with pytest.raises(AuditError, match=words):
        audit(run / "ledger.jsonl", unfinished=True)


def test_a_checkpoint_of_a_later_format_is_refused_although_an_earlier_version_began_the_run(newest):
    checkpoints = newest / "stopped" / RUN / "checkpoints"
    refuse_older(checkpoints)
    (made,) = checkpoints.glob("*/complete.json")
    made.write_text(json.dumps(json.loads(made.read_text()) | {"format": FORMAT + 1, "leeway": "9.8.7"}))
    with pytest.raises(DataError, match=rf"Leeway 9\.8\.7 wrote it, in format {FORMAT + 1}; this is Leeway"):
        refuse_older(checkpoints)
