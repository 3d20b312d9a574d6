"""A copy of a checkpoint is whole or not there, is read back, and takes the old ones' place only then. The places are a
folder, and a real S3 protocol: moto's server on this machine, spoken to by s3fs."""

import json
import shutil

import pytest
from leeway_rl.common.config import compose, dump
from leeway_rl.common.elsewhere.copies import LIST, PULLED, copies_at
from leeway_rl.common.elsewhere.place import OutOfReach, Place
from leeway_rl.common.errors import AuditError, DataError
from leeway_rl.learner.copying import copy, order_of
from leeway_rl.leeway.running.elsewhere import pull
from s3fs import S3FileSystem

from tests.elsewhere import Run


@pytest.fixture
def run(tmp_path):
    made = Run(tmp_path / "runs" / "my-run")
    for step in (2, 4, 6):
        made.checkpoint(step)
    return made


def steps(place):
    return [each.step for each in copies_at(Place(f"{place}/my-run"))[0]]


def tree(folder):
    return {each.relative_to(folder).as_posix(): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def test_what_is_copied_comes_back_byte_for_byte_on_an_empty_machine(place, run, tmp_path):
    done = copy(run.order(place, 6))
    assert done["unremoved"] == ""
    before = tree(run.folder)
    shutil.rmtree(run.folder)
    said = pull(f"{place}/my-run", tmp_path / "runs", step=None)
    assert "step 6" in said
    after = tree(run.folder)
    assert json.loads(after.pop(PULLED))["passed_over"] == []
    assert after == {
        name: body for name, body in before.items() if "step-000002" not in name and "step-000004" not in name
    }
    assert done["bytes"] == sum(map(len, after.values()))


def test_a_url_of_a_folder_is_a_place_too(run, tmp_path):
    copy(run.order(f"file://{tmp_path / 'elsewhere'}", 6))
    assert steps(tmp_path / "elsewhere") == [6]


def test_the_copies_that_are_kept_are_the_newest_and_the_others_go_after_the_new_one_is_verified(place, run):
    for step in (2, 4, 6):
        copy(run.order(place, step))
    assert steps(place) == [6, 4]
    left = Place(f"{place}/my-run").files()
    assert not [name for name in left if "step-000002" in name]


def test_a_place_that_keeps_other_bytes_gets_no_list_and_the_older_copies_stay(place, run, monkeypatch):
    copy(run.order(place, 2, keep=1))
    put = Place.put

    def changed(self, source, name):
        put(self, source, name)
        if name.endswith("weights.pt"):
            self.write(name, source.read_bytes()[:-1] + b"x")

    monkeypatch.setattr(Place, "put", changed)
    with pytest.raises(OutOfReach, match=r"the bytes of checkpoints/step-000004/policy/weights.pt are not those"):
        copy(run.order(place, 4, keep=1))
    assert steps(place) == [2]
    monkeypatch.undo()


def test_sizes_alone_are_checked_where_that_is_asked(place, run, monkeypatch):
    monkeypatch.setattr(Place, "digest", lambda *_: pytest.fail("a byte was read back"))
    copy(run.order(place, 2, verify="sizes"))
    put = Place.put
    monkeypatch.setattr(Place, "put", lambda self, source, name: (put(self, source, name), self.write(name, b"")))
    with pytest.raises(OutOfReach, match="has 0 bytes where"):
        copy(run.order(place, 4, verify="sizes"))


def test_a_byte_that_has_changed_on_this_disk_since_the_checkpoint_was_written_is_no_copy(place, run):
    (run.folder / "checkpoints/step-000004/policy/weights.pt").write_bytes(b"y" * 1000)
    with pytest.raises(OutOfReach, match=r"weights\.pt are not those"):
        copy(run.order(place, 4))


def test_the_same_checkpoint_again_sends_only_what_has_grown_and_at_a_start_nothing(place, run):
    copy(run.order(place, 6))
    run.note("end", version=6)
    done = copy(run.order(place, 6, ledger_line=5))
    found = copies_at(Place(f"{place}/my-run"))[0]
    assert [each.ledger_line for each in found] == [5]
    assert 0 < done["bytes"] < 1000  # not the weights
    assert not [name for name in Place(f"{place}/my-run").files() if "/run-4/" in name]
    assert copy(run.order(place, 6, ledger_line=3, unless_there=True))["bytes"] == 0


def test_a_copy_that_was_torn_off_does_not_count_and_is_swept(place, run, tmp_path):
    copy(run.order(place, 2))
    copy(run.order(place, 4))
    Place(f"{place}/my-run").remove(f"step-000004-1/{LIST}")  # as far as a process came that was killed
    assert steps(place) == [2]
    copy(run.order(place, 6))
    assert steps(place) == [6, 2]
    assert {name.split("/")[0] for name in Place(f"{place}/my-run").files()} == {"step-000002-1", "step-000006-1"}


def test_a_damaged_copy_is_refused_by_word_and_the_one_before_is_named_and_goes_on(place, run, tmp_path):
    copy(run.order(place, 4))
    copy(run.order(place, 6))
    shutil.rmtree(run.folder)
    there, name = Place(f"{place}/my-run"), "step-000006-1/checkpoint/policy/weights.pt"
    for damage, words in (
        (lambda: there.write(name, b"z" * 1000), "the bytes of .*weights.pt"),
        (lambda: there.write(name, b"z"), "has 1 bytes where 1000"),
        (lambda: there.remove(name), "weights.pt is missing"),
    ):
        damage()
        with pytest.raises(DataError, match=rf"{words}.*The copy before it is of step 4: .*--step 4"):
            pull(f"{place}/my-run", tmp_path / "runs", step=None)
        assert list((tmp_path / "runs").iterdir()) == []
    assert "passed over: step-000006-1" in pull(f"{place}/my-run", tmp_path / "runs", step=4)
    again = Run(run.folder)
    again.note("started", incarnation=2)
    again.checkpoint(6)
    copy(again.order(place, 6, incarnation=2))
    assert [each.name for each in copies_at(there)[0]] == ["step-000006-2", "step-000004-1"]


def test_copies_of_another_history_are_neither_overwritten_nor_removed(place, run, tmp_path):
    copy(run.order(place, 6))
    other = Run(tmp_path / "others" / "my-run")
    other.note("started", incarnation=1)
    for step in (2, 4, 6):
        other.checkpoint(step)
    with pytest.raises(DataError, match="step-000006-1 there is of another history"):
        copy(other.order(place, 6, incarnation=2))
    assert [each.name for each in copies_at(Place(f"{place}/my-run"))[0]] == ["step-000006-1"]


def test_a_copy_of_another_format_is_refused_with_both_versions_named(place, run, tmp_path):
    copy(run.order(place, 6))
    there = Place(f"{place}/my-run")
    made = json.loads(there.read(f"step-000006-1/{LIST}"))
    there.write(f"step-000006-1/{LIST}", json.dumps(made | {"format": 7, "leeway": "3.2.1"}).encode())
    shutil.rmtree(run.folder)
    with pytest.raises(DataError, match=r"Leeway 3\.2\.1 made this copy, in format 7; this is Leeway .*format 1"):
        pull(f"{place}/my-run", tmp_path / "runs", step=None)


def test_a_place_that_cannot_be_reached_is_tried_a_few_times_and_then_named(run, s3, monkeypatch):
    S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(OutOfReach, match="s3://checkpoints/leeway/my-run") as caught:
        copy(run.order(s3, 6))
    assert "test-secret-key" not in str(caught.value)


def test_a_bucket_that_is_not_there_is_named_and_not_made(run, s3):
    with pytest.raises(OutOfReach, match="no-such-bucket"):
        copy(run.order("s3://no-such-bucket/x", 6))
    import boto3

    assert [each["Name"] for each in boto3.client("s3").list_buckets()["Buckets"]] == ["checkpoints"]


@pytest.mark.parametrize(("text", "error"), [(b"", DataError), (b"\xff\xfe\n", AuditError), (b"[]\n", AuditError)])
def test_a_run_whose_ledger_is_damaged_is_not_copied_and_says_so(text, error, place, run):
    (run.folder / "config.toml").write_text(dump(compose(["tiny"], [])))
    checkpoint = run.folder / "checkpoints/step-000006"
    (checkpoint / "state.json").write_text('{"incarnation": 1}')
    (checkpoint / "complete.json").write_text('{"files": {}}')
    assert order_of(run.folder, str(place)).ledger_line == run.line_of(6)
    (run.folder / "ledger.jsonl").write_bytes(text)
    with pytest.raises(error, match=r"ledger\.jsonl"):
        order_of(run.folder, str(place))
