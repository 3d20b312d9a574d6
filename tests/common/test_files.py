"""Files that are whole or not there."""

import os

import pytest
from leeway_rl.common.files import unfinished, whole_file, write_whole


def test_a_file_has_its_name_once_it_is_whole(tmp_path):
    path = tmp_path / "page.html"
    with whole_file(path) as temporary:
        temporary.write_text("all of it")
        assert not path.exists()
        assert temporary == unfinished(path)
    assert path.read_text() == "all of it"
    assert [each.name for each in tmp_path.iterdir()] == ["page.html"]


def write_half(path):
    path.write_text("half of")
    raise ZeroDivisionError


def test_a_write_that_fails_leaves_what_was_there_and_the_next_one_replaces_it(tmp_path):
    path = tmp_path / "page.html"
    write_whole(path, "the old one, ü")
    with pytest.raises(ZeroDivisionError), whole_file(path) as temporary:
        write_half(temporary)
    assert path.read_text(encoding="utf-8") == "the old one, ü"
    write_whole(path, b"\x89PNG")
    assert path.read_bytes() == b"\x89PNG"
    assert [each.name for each in tmp_path.iterdir()] == ["page.html"]


def test_what_is_written_is_forced_to_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    done, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr("os.fsync", lambda file: done.append("on disk") or fsync(file))
    monkeypatch.setattr("os.replace", lambda *names: done.append("named") or replace(*names))
    write_whole(tmp_path / "page.html", "text")
    assert done == ["on disk", "named", "on disk"]
