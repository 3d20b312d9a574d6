"""A log line says which run, role, worker, version and ticket it is about, in text and in JSON."""

import json
import logging

import pytest
from leeway_rl.common import logs


@pytest.fixture
def begun(monkeypatch, capsys):
    """Start logging in a format; gives the lines written since. The root logger is put back afterwards."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level

    def begin(style):
        monkeypatch.setenv(logs.VARIABLE, style)
        context = logs.begin("r", "rollout")
        context.worker, context.version = "w-1", lambda: 3
        return lambda: capsys.readouterr().err.splitlines()

    yield begin
    root.handlers[:] = before
    root.setLevel(level)


def test_text_lines_carry_the_ticket_of_their_thread(begun):
    lines = begun("text")
    with logs.about("7-1"):
        logging.getLogger("x").info("generated")
    logging.getLogger("x").warning("idle")
    logging.getLogger("x").warning("given up", extra={"ticket": "8-1"})
    inside, outside, named = (line.partition(" run=")[2] for line in lines())
    assert inside == "r role=rollout version=3 ticket=7-1 x: generated"
    assert outside == "r role=rollout version=3 x: idle"
    assert named == "r role=rollout version=3 ticket=8-1 x: given up"


def test_json_lines_are_one_object_each_even_with_a_trace(begun):
    lines = begun("json")
    with logs.about("7-1"):
        try:
            raise ValueError("two\nlines")
        except ValueError:
            logging.getLogger("x").exception("failed")
    (line,) = lines()
    found = json.loads(line)
    assert found["trace"].endswith("ValueError: two\nlines")
    assert {name: found[name] for name in ("level", "run", "role", "worker", "version", "ticket", "message")} == {
        "level": "ERROR",
        "run": "r",
        "role": "rollout",
        "worker": "w-1",
        "version": 3,
        "ticket": "7-1",
        "message": "failed",
    }
