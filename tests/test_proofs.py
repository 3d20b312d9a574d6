"""The proofs of ``tests/proofs`` in short forms; as long as they are meant, they are run by hand or by make."""

import json
import re
from pathlib import Path

import pytest

from tests.programs import number, said_by

ROOT = Path(__file__).resolve().parent.parent
PROOFS = ROOT / "tests/proofs"
pytestmark = pytest.mark.timeout(900)


def test_mutated_messages_are_refused_or_decode_within_their_bounds():
    said = said_by(PROOFS / "fuzz_codec.py", "--messages 6000 --seed 1")
    assert number(r"^([\d,]+) mutated messages in", said.replace(",", "")) == 6000
    for name in ("Ticket", "Responses", "Scores", "Heartbeat", "record", "weights"):
        assert re.search(rf"^{name} refused +[1-9]", said, re.M), said


@pytest.mark.slow
def test_a_learner_killed_at_some_of_its_writes_ends_as_one_left_alone():
    said = said_by(PROOFS / "killed_learner.py", "--every 40 --transports file --side-by-side 3")
    assert number(r"^file +(\d+) points of a learner left alone", said) > 100
    assert number(r"kills, (\d+) ended otherwise", said) == 0


@pytest.mark.slow
def test_a_short_soak_is_flat_and_draws_its_picture(tmp_path):
    said = said_by(PROOFS / "soak.py", "--groups 960 --every 0.1 --out", str(tmp_path))
    assert "audit passed" in said
    assert number(r"^learner\.rss +([\d.]+) ", said) > 50
    assert {path.name for path in tmp_path.iterdir()} == {"soak.csv", "soak.png"}


def test_many_mixed_jobs_are_counted_after():
    said = json.loads(said_by(PROOFS / "code_leaks.py", "--jobs 40 --seats 1"))
    assert (said["jobs"], said["errors"], set(said["left"].values())) == (40, 0, {0})


def test_some_kinds_of_models_are_loaded_sampled_trained_and_sampled_again():
    kinds = ["llama", "gemma3_text", "deepseek_v3"]
    said = said_by(PROOFS / "models.py", "--engines torch --kinds gemma2", *kinds)
    assert said.endswith("4 of 4 architectures are as they must be\n")
    for kind in kinds:
        assert number(rf"^{kind}: torch (\S+) vllm nan alone", said) < 1e-4
    assert "gemma2: gemma2 cannot be trained here" in said


@pytest.mark.parametrize("folder", ["benchmarks", "tests/proofs"])
def test_every_program_stands_in_the_list_of_its_folder_with_the_page_that_names_it(folder):
    text = (ROOT / folder / "README.md").read_text()
    assert {path.name for path in (ROOT / folder).glob("*.py")} == set(re.findall(r"\[(\w+\.py)\]\(\1\)", text))
    rows = re.findall(r"^\| \[(\w+\.py)\].* \| (?:\[\w+\]\(([^)]+)\)|none) \|$", text, re.M)
    assert len(rows) >= 8
    for program, page in rows:
        assert not page or program in (ROOT / folder / page).read_text(), (program, page)
