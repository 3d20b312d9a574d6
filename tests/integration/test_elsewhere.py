"""A run loses its machine, and goes on from its copies on another one: bit for bit as if nothing had happened."""

import shlex
import shutil

import pytest
from leeway_rl.common.elsewhere.copies import copies_at
from leeway_rl.common.elsewhere.place import Place

from tests.integration.running import SMALL, last_checksum, leeway, metrics

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

START = "leeway up --preset tiny --run my-run --set checkpoints.copy_to=s3://my-bucket/leeway"
COMMANDS = [
    "leeway pull s3://my-bucket/leeway/my-run",
    "leeway pull s3://my-bucket/leeway/my-run --step 40",
    "leeway up --run my-run --resume",
    "leeway audit my-run",
    "leeway copy my-run --to s3://my-bucket/leeway",
]
"""As documented in docs/how-to/checkpoints-elsewhere.md; here the bucket, the steps and the machine are smaller."""


def test_on_an_empty_machine_a_run_goes_on_from_its_copy_and_ends_with_the_same_weights(s3, tmp_path):
    begin = shlex.split(START.replace("s3://my-bucket/leeway", s3))[1:]
    keys = ("train.checkpoint_every=2", "flow.max_staleness=0")
    done = leeway(*begin, *SMALL[2:], *(word for key in keys for word in ("--set", key)), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    folder, there = tmp_path / "runs" / "my-run", Place(f"{s3}/my-run")
    ended, log = last_checksum(folder), (folder / "logs" / "learner.log").read_text()
    assert metrics(folder)[-1]["checkpoint/copied_version"] in (-1, 2, 4, 6)
    newest, before = copies_at(there)[0]
    assert (newest.step, before.step in (2, 4)) == (6, True)  # steps as short as these leave one of the two out
    assert "test-secret-key" not in log + (folder / "config.toml").read_text()

    shutil.rmtree(tmp_path / "runs")  # with it go its Redis, its ledger and its checkpoints
    there.remove(f"{newest.name}/checkpoint/state.json")
    said = [
        each.replace("s3://my-bucket/leeway", s3).replace("--step 40", f"--step {before.step}") for each in COMMANDS
    ]
    refused, pulled, resumed, audited, copied = (leeway(*shlex.split(each)[1:], cwd=tmp_path) for each in said)
    assert refused.returncode == 3
    assert "state.json is missing" in refused.stderr
    assert f"The copy before it is of step {before.step}: {said[1]}" in refused.stderr
    assert f"step {before.step} from" in pulled.stdout
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert last_checksum(folder) == ended
    assert [line["version"] for line in metrics(folder)] == [1, 2, 3, 4, 5, 6]
    assert audited.returncode == 0
    assert "24 in 6 steps of 4, each once" in audited.stdout
    assert "the bound held" in audited.stdout
    assert copies_at(there)[0][0].name == "step-000006-2"
    assert newest.name not in there.folders()  # passed over, and removed once there was another
    assert f"{s3}/my-run/step-000006-2: whole and verified" in copied.stdout
