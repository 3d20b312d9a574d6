"""What the desk does with copies: a run is brought here once, and none is begun over another's copies."""

import pytest
from leeway_rl.common.config import compose
from leeway_rl.common.elsewhere.copies import copies_at
from leeway_rl.common.elsewhere.place import OutOfReach
from leeway_rl.common.errors import ConfigError, DataError, RunExistsError
from leeway_rl.learner.copying import copy
from leeway_rl.leeway.running import elsewhere
from leeway_rl.leeway.running.dry_run import whole
from leeway_rl.leeway.running.elsewhere import brought, pull, refuse_copied

from tests.elsewhere import Run


@pytest.fixture
def copied(tmp_path):
    """The configuration of a run that has a copy of step 4, and the folder of runs of another machine."""
    run = Run(tmp_path / "first" / "my-run")
    run.checkpoint(4)
    copy(run.order(str(tmp_path / "elsewhere"), 4))
    return compose(["tiny"], [f"checkpoints.copy_to={tmp_path / 'elsewhere'}"]), tmp_path / "second"


def test_a_learner_brings_a_run_of_which_there_is_nothing_here_and_no_other(copied, monkeypatch):
    config, runs = copied
    listed = []
    monkeypatch.setattr(elsewhere, "copies_at", lambda place: listed.append(place.address) or copies_at(place))
    assert brought(compose(["tiny"], []), "my-run", runs) is None
    assert brought(config, "other-run", runs) is None
    assert not runs.exists()
    listed.clear()
    assert "step 4" in brought(config, "my-run", runs)
    assert len(listed) == 1, "a listing reads a file of every copy"
    assert (runs / "my-run" / "checkpoints" / "step-000004" / "state.json").exists()
    assert brought(config, "my-run", runs) is None


def test_a_new_run_is_not_begun_over_the_copies_of_another(copied):
    config, _ = copied
    with pytest.raises(RunExistsError, match=r"has copies up to step 4 at .*/my-run: leeway pull .*/my-run brings it"):
        refuse_copied(config, "my-run")
    refuse_copied(config, "other-run")
    refuse_copied(compose(["tiny"], []), "my-run")


def test_a_place_that_cannot_be_written_is_known_before_anything_starts(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutOfReach, match="file/x: cannot write"):
        refuse_copied(compose(["tiny"], [f"checkpoints.copy_to={tmp_path / 'file/x'}"]), "my-run")
    monkeypatch.setattr(elsewhere, "why_missing", lambda _: "s3fs is not here")
    with pytest.raises(ConfigError, match="s3fs is not here"):
        elsewhere.refuse_missing_package(compose(["tiny"], ["checkpoints.copy_to=s3://bucket/x"]))


def test_what_is_here_is_not_overwritten_and_what_is_not_there_is_named(copied, tmp_path):
    _, runs = copied
    place = str(tmp_path / "elsewhere")
    pull(f"{place}/my-run", runs, step=None)
    with pytest.raises(RunExistsError, match="it is not overwritten"):
        pull(f"{place}/my-run", runs, step=None)
    with pytest.raises(DataError, match="there are my-run under it: name one of them"):
        pull(place, tmp_path / "third", step=None)
    with pytest.raises(DataError, match="no whole copy of step 9; there is step 4"):
        pull(f"{place}/my-run", tmp_path / "third", step=9)
    with pytest.raises(DataError, match="has no whole copy of a run"):
        pull(f"{place}/nothing", tmp_path / "third", step=None)


def test_a_dry_run_says_what_the_copies_take(tmp_path):
    page = whole(compose(["tiny"], [f"checkpoints.copy_to={tmp_path}"]))
    assert "copies of checkpoints" in page
    assert "at checkpoints.copy_to, at most" in page
    assert "(3 kept + 1 being written)" in page  # on this disk, one that is still being copied
    assert "(2 kept + 1 being written)" in page
    assert "copy_to" not in whole(compose(["tiny"], []))
