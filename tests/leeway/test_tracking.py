"""What is new in a run's folder goes to a tracker: every step and key, every turn of the dial, every sample, once; what
a rollback repeats is sent again."""

import json
import math
import os
import re
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from leeway_rl.common.config import compose
from leeway_rl.common.errors import ConfigError, DataError, RunExistsError
from leeway_rl.common.files import write_whole
from leeway_rl.common.ledger import Ledger
from leeway_rl.common.locks import only_writer
from leeway_rl.common.metrics import read_steps
from leeway_rl.common.samples import FILE, line_of
from leeway_rl.leeway.reporting.pictures import PANELS
from leeway_rl.leeway.running import dry_run, trackers, up
from leeway_rl.leeway.tracking import following
from leeway_rl.leeway.tracking.charts import OTHERS, charted
from leeway_rl.leeway.tracking.news import COLUMNS, Folder, Mark, Samples, Step, Turn, samples_of, step_of, turn_of
from leeway_rl.leeway.tracking.to_mlflow import ToMlflow, flat
from leeway_rl.leeway.tracking.tracker import About

from tests.documented_metrics import DOCS
from tests.leeway.test_samples import response, sample

LINE = {"role": "learner", "stage": 0, "flow/overflow": "wait", "reward/mean": 0.5}


def write_steps(folder, steps, at, *, anew=False):
    """Append steps to the run's metrics; ``anew``: leave out those from the first of them on, as a resume does."""
    kept = [line for line in read_steps(folder) if not anew or line["step"] < steps[0]]
    kept += [LINE | {"step": step, "version": step + 1, "at": at + step} for step in steps]
    text = "".join(json.dumps(line) + "\n" for line in kept)
    path = folder / "metrics.jsonl"
    write_whole(path, text) if anew else path.write_text(text)


class Reader:
    """Looks again and again, as a tracker's process does."""

    def __init__(self, folder):
        self.folder, self.mark = Folder(folder), Mark()

    def close(self):
        """Give its file back."""
        self.folder.close()

    def new(self, kind):
        """What is new of one kind."""
        found = list(self.folder.news(self.mark))
        self.mark = found[-1][1]
        return [news for news, _ in found if isinstance(news, kind)]


@pytest.fixture
def reader(run):
    """A reader of the run's folder."""
    with closing(Reader(run[0])) as found:
        yield found


class Kept:
    """A tracker that keeps what it is sent."""

    id, where = "kept", "here"

    def __init__(self):
        self.sent, self.dies_at = [], math.inf

    def step(self, step, row):
        if step.step == self.dies_at:
            raise ConnectionError("no route")
        self.sent.append((row, step.step, step.at))

    def turn(self, turn):
        self.sent.append(turn.title)

    def samples(self, samples, row):
        self.sent.append((row, "samples", samples.step))

    def flush(self):
        pass

    def close(self, *, finished):
        self.sent.append("finished" if finished else "open")


@pytest.fixture
def kept(monkeypatch):
    tracker = Kept()
    monkeypatch.setattr(following, "opened", lambda name, about, id: tracker)
    monkeypatch.setattr(following, "stop_on_signals", lambda name, folder: threading.Event())
    return tracker


@pytest.fixture
def run(tmp_path):
    """A run's folder whose ledger is open."""
    folder = tmp_path / "a-run"
    folder.mkdir()
    ledger = Ledger(folder / "ledger.jsonl")
    ledger.write("run", run="a-run", steps=6)
    ledger.write("started", incarnation=1, version=0)
    yield folder, ledger
    ledger.close()


def test_a_tracker_goes_on_where_it_stopped_and_is_sent_again_what_a_rollback_repeats(run, kept):
    folder, ledger = run
    write_steps(folder, range(4), at=100)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "torn')  # its writer is in the middle of it
    following.follow("wandb", folder, "leeway", wait=False)
    assert kept.sent == [(1, 0, 100), (2, 1, 101), (3, 2, 102), (4, 3, 103), "open"]
    assert following.read_mark(folder / "trackers/wandb.json").step == 3

    kept.sent.clear()
    following.follow("wandb", folder, "leeway", wait=False)
    assert kept.sent == ["open"]

    kept.sent.clear()
    write_steps(folder, range(2, 6), at=200, anew=True)  # nobody followed at the rollback
    ledger.write("rolled_back", to_line=ledger.line)
    ledger.write("started", incarnation=2, version=2)
    ledger.write("control", name="max_staleness", value=3, previous=1, version=4)
    ledger.write("end", version=6)
    following.follow("wandb", folder, "leeway", wait=True)
    steps = [(5, 2, 202), (6, 3, 203), (7, 4, 204), (8, 5, 205)]
    assert kept.sent == ["resumed at step 2", "η = 3", *steps, "finished"]


def test_a_tracker_that_is_told_to_leave_at_its_very_end_keeps_its_code(run, tmp_path):
    folder = run[0]
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal\n"
        "class Last:\n"
        "    def __del__(self, kill=os.kill, pid=os.getpid(), number=signal.SIGTERM):\n"
        "        kill(pid, number)  # the interpreter has its own handlers back\n"
        "last = Last()\n"
    )
    command = [sys.executable, "-m", "leeway_rl.leeway.tracking", "trackio", str(folder), "--project", "mine"]
    here = {name: text for name, text in os.environ.items() if name != "LEEWAY_SUPERVISOR"}
    (folder / "trackers").mkdir(exist_ok=True)
    with only_writer(folder / "trackers/trackio.lock", "it", error=RunExistsError):
        done = subprocess.run(command, env=here | {"PYTHONPATH": str(tmp_path)}, timeout=250, check=False)
    assert done.returncode == RunExistsError.exit_code


def test_a_rollback_that_is_seen_as_it_happens_is_sent_again_too(run, reader):
    folder, _ = run

    def steps():
        return [(step.step, step.at) for step in reader.new(Step)]

    write_steps(folder, range(3), at=100)
    assert steps() == [(0, 100), (1, 101), (2, 102)]
    write_steps(folder, range(1, 2), at=200, anew=True)
    assert steps() == [(1, 201)]
    write_steps(folder, range(2, 4), at=200)
    assert steps() == [(2, 202), (3, 203)]


def test_what_a_tracker_died_of_is_sent_by_its_next_process(run, kept):
    folder, _ = run
    write_steps(folder, range(4), at=100)
    kept.dies_at = 2
    with pytest.raises(ConnectionError):
        following.follow("wandb", folder, "leeway", wait=False)
    kept.dies_at = math.inf
    following.follow("wandb", folder, "leeway", wait=False)
    assert {sent[1] for sent in kept.sent if isinstance(sent, tuple)} == {0, 1, 2, 3}


def test_a_sample_is_sent_once_though_its_file_is_written_anew(run, reader):
    folder, _ = run
    samples = [sample(2, response(0, 1.0), ticket=ticket, at=100.0 + ticket) for ticket in range(4)]

    def tickets(lines):
        write_whole(folder / FILE, "".join(map(line_of, lines)))  # as long as before, and within one tick of the clock
        return [samples.ticket for samples in reader.new(Samples)]

    assert tickets(samples[:3]) == [0, 1, 2]
    assert tickets([samples[0], samples[2], samples[3]]) == [3]  # thinned out


def test_a_table_of_samples_has_prompt_response_rewards_and_staleness():
    group = sample(2, response(0, 1.0))
    row = dict(zip(COLUMNS, samples_of(group).rows[0], strict=True))
    answer = group.responses[0]
    assert group.prompt[0].text in row["prompt"]
    assert answer.segments[0].text in row["response"]
    assert (row["reward"], row["verdict"]) == (answer.reward, answer.verdict)
    assert (row["staleness_mean"], row["staleness_max"]) == (answer.staleness["mean"], answer.staleness["max"])


def test_every_key_of_a_step_is_sent():
    record = LINE | {"step": 3, "version": 4, "at": 1.5, "loss": 0.25, "progress/updates": 8, "refunds/poison": 0}
    step = step_of(record)
    numbers = {"1 answers/reward/mean": 0.5, "4 update/loss": 0.25, "3 groups/refunds/poison": 0.0}
    numbers |= {"progress/updates": 8.0, "progress/version": 4.0, "progress/stage": 0.0}
    assert step == Step(3, 1.5, numbers, {"7 machines/flow/overflow": "wait"})


def test_the_headings_stand_in_the_order_of_the_reports_pictures():
    drawn = [charted((each.needs or (each.of,))[0]) for each in PANELS]
    headings = [name.partition("/")[0] for name in drawn]
    assert OTHERS not in headings
    firsts = list(dict.fromkeys(headings))
    assert firsts == sorted(firsts)


def test_every_documented_metric_has_a_heading():
    cells = re.findall(r"^\| (`[^|]*?`) \|", (DOCS / "reference" / "metrics.md").read_text(), re.M)
    names = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    assert len(names) > 90
    assert [name for name in names if charted(name).startswith(OTHERS)] == []


def test_parameters_are_flat():
    config = {"train": {"steps": 3}, "data": [{"path": "a"}, {"path": "b"}], "flow": {"sizes": [1, 2]}}
    assert flat(config) == {"train.steps": "3", "data.0.path": "a", "data.1.path": "b", "flow.sizes": "[1, 2]"}


def test_an_unknown_tracker_is_refused_with_what_was_meant():
    with pytest.raises(ConfigError, match=r"no tracker is called 'wandbb'; did you mean 'wandb'\?"):
        trackers.known(["wandbb"])


def test_a_missing_package_is_refused_with_its_extra(monkeypatch):
    monkeypatch.setattr(trackers, "find_spec", lambda module: None if module == "sqlalchemy" else object())
    trackers.known(["wandb", "trackio"])
    with pytest.raises(ConfigError, match=r"mlflow needs sqlalchemy, .*: pip install 'leeway-rl\[mlflow\]'"):
        trackers.known(["mlflow"])


def test_a_dry_run_names_the_package_that_a_start_would_refuse(monkeypatch):
    monkeypatch.setattr(trackers, "find_spec", lambda module: None)
    config = compose(["tiny"], ["metrics.trackers=['trackio']"])
    assert "leeway up would refuse this here: the tracker trackio needs trackio" in dry_run.whole(config)
    with pytest.raises(ConfigError, match="the tracker trackio needs trackio"):
        up.up("a-run", ["tiny"], ["metrics.trackers=['trackio']"], None, Path("nowhere"), resume=False)
    with pytest.raises(ConfigError, match=r"metrics.trackers.*'wandbb'"):
        compose(["tiny"], ["metrics.trackers=['wandbb']"])


def test_turns_name_who_turned():
    line = {"event": "control", "name": "target_entropy", "previous": 0.2, "value": 0.3, "version": 7, "by": "guard"}
    assert turn_of(line) == Turn(7, "target_entropy", "target 0.3", "target_entropy: 0.2 → 0.3, by the guard")
    assert turn_of({"event": "started", "incarnation": 1, "version": 0}) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"steps": 3}', "\x00"])
def test_a_mark_that_is_damaged_is_named_with_what_to_do(text, run, kept):
    mark = run[0] / "trackers/mlflow.json"
    mark.parent.mkdir()
    mark.write_text(text)
    with pytest.raises(DataError, match=r"mlflow\.json: .* sent from the beginning"):
        following.follow("mlflow", run[0], "p", wait=False)
    assert kept.sent == []


@pytest.mark.filterwarnings("ignore")  # MLflow's, of its own dependencies
def test_a_run_that_mlflow_no_longer_has_is_named_with_what_to_do(run, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    about = About(folder=run[0], project="p", config={})
    with pytest.raises(DataError, match=r"has no run 0123456789abcdef.* or remove .*trackers/mlflow\.json"):
        ToMlflow(about, "0123456789abcdef0123456789abcdef")
