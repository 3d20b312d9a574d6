"""What may be named as a place, and what is never said of it."""

import pytest
from leeway_rl.common.config import compose
from leeway_rl.common.elsewhere import address
from leeway_rl.common.elsewhere.address import masked, scheme_of, why_missing, why_not
from leeway_rl.common.elsewhere.place import OutOfReach, Place
from leeway_rl.common.errors import ConfigError
from leeway_rl.leeway.running.server import free_port


@pytest.mark.parametrize(
    "good", ["s3://bucket/folder", "gs://bucket", "file:///data/copies", "/data/copies", "~/copies", "sftp://me@host/x"]
)
def test_places_that_may_be_named(good):
    assert why_not(good) is None
    assert compose(["tiny"], [f"checkpoints.copy_to={good}"]).checkpoints.copy_to == good


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("copies", "depends on where somebody stands"),
        ("memory://x", "nothing stays there"),
        ("simplecache::s3://b/x", "depends on where"),
        ("s3://b/x::zip://y", "several places"),
        ("s3://key:SECRET@bucket/x", "the environment is the place for it"),
        ("s3://key:SEC/RET@bucket/x", "the environment is the place for it"),
        ("https://host/x?signature=SECRET", "the environment is the place for it"),
    ],
)
def test_places_that_are_refused_and_no_secret_is_repeated(bad, words):
    with pytest.raises(ConfigError, match=words) as caught:
        compose(["tiny"], [f"checkpoints.copy_to={bad}"])
    assert str(caught.value).startswith("checkpoints.copy_to = '")
    assert "SECRET" not in str(caught.value)
    assert "RET@" not in str(caught.value)
    with pytest.raises(ConfigError, match=words):
        Place(bad)


def test_a_text_is_masked_wherever_a_url_stands_in_it():
    text = "cannot reach s3://a:b@c/d nor https://h/p?X-Amz-Signature=1&b=2 now"
    assert masked(text) == "cannot reach s3://***@c/d nor https://h/p?*** now"


def test_a_package_that_is_missing_is_named_with_what_installs_it(monkeypatch):
    there = address.find_spec
    monkeypatch.setattr(address, "find_spec", lambda name: None if name in ("s3fs", "gcsfs") else there(name))
    assert "needs s3fs, which is not here: pip install 'leeway-rl[s3]'" in why_missing("s3://b/x")
    assert "needs gcsfs, which is not here: pip install 'leeway-rl[gcs]'" in why_missing("gs://b/x")
    assert why_missing("/data") is None
    assert "fsspec knows no places that begin with nowhere://" in why_missing("nowhere://x")
    monkeypatch.setattr(address, "find_spec", lambda _: None)
    assert "needs fsspec" in why_missing("/data")


def test_a_path_is_a_file():
    assert [scheme_of(each) for each in ("/data", "S3://b", "gs://b")] == ["file", "s3", "gs"]


def test_a_place_that_is_looked_for_when_it_is_opened_and_is_not_there_is_named():
    address = f"ftp://127.0.0.1:{free_port()}/x"
    with pytest.raises(OutOfReach, match=f"{address}: cannot be opened: ConnectionRefusedError"):
        Place(address, tries=1)
