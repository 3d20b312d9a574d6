"""Places that copies go to in the tests: a folder, and an S3 server of moto's on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from leeway_rl.common.files import checksum
from leeway_rl.common.ledger import Ledger, read
from leeway_rl.learner.copying import Order

BUCKET = "checkpoints"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 server; its credentials are taken from the environment, as on any machine."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server, monkeypatch) -> str:
    """A bucket of its own, by its URL; whatever this process starts may use it."""
    import boto3
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()  # one that was made under another address
    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "test-key-id",
        "AWS_SECRET_ACCESS_KEY": "test-secret-key",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    yield f"s3://{BUCKET}/leeway"
    for each in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        client.delete_object(Bucket=BUCKET, Key=each["Key"])
    client.delete_bucket(Bucket=BUCKET)
    client.close()


@pytest.fixture(params=["folder", "s3"])
def place(request, tmp_path) -> str:
    """The address of a place that nothing is at yet."""
    return request.getfixturevalue("s3") if request.param == "s3" else str(tmp_path / "elsewhere")


class Run:
    """The folder of a run that has only what a copy takes: a ledger, metrics, and checkpoints of a few bytes."""

    def __init__(self, folder: Path) -> None:
        """Make it, where it is not there."""
        self.folder = folder
        if folder.exists():
            return
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "config.toml").write_text("# a configuration\n")
        self.note("run", run=folder.name, steps=9)

    def note(self, event: str, **values: object) -> None:
        """Write a line of the ledger."""
        with closing(Ledger(self.folder / "ledger.jsonl")) as ledger:
            ledger.write(event, **values)

    def line_of(self, step: int) -> int:
        """The number of the ledger's line on the checkpoint of ``step``."""
        found = [line["line"] for line in read(self.folder / "ledger.jsonl") if line.get("step") == step]
        return found[-1]

    def checkpoint(self, step: int) -> None:
        """Write the checkpoint of ``step``, as the learner's list says it."""
        path = self.folder / "checkpoints" / f"step-{step:06d}"
        (path / "policy").mkdir(parents=True)
        (path / "policy" / "weights.pt").write_bytes(bytes([step]) * 1000)
        (path / "state.json").write_text(json.dumps({"version": step}))
        names = ("policy/weights.pt", "state.json")
        (path / "complete.json").write_text(json.dumps({"sha256": {name: checksum(path / name) for name in names}}))
        self.note("checkpoint", step=step)
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"step": step - 1, "version": step}) + "\n")

    def order(self, to: str, step: int, **more: object) -> Order:
        """To copy the checkpoint of ``step`` to the place ``to``, and not to wait between tries."""
        given = {"incarnation": 1, "keep": 2, "wait_s": 0.0, "tries": 2, "ledger_line": self.line_of(step)} | more
        name = f"step-{step:06d}"
        path = self.folder / "checkpoints" / name / "complete.json"
        digests = json.loads(path.read_text())["sha256"] if path.exists() else None
        return Order(
            folder=str(self.folder), to=f"{to}/{self.folder.name}", checkpoint=name, step=step, digests=digests, **given
        )
