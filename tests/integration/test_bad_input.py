"""A user's mistake is one clear line and its own exit code, and loses nothing."""

import json
import shutil
import uuid

import pytest

from tests.integration.running import leeway

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--set", "flow.max_stalenes=1"], 2, "did you mean 'flow.max_staleness'"),
        (["--set", "flow.max_staleness=-1"], 2, "greater than or equal to 0"),
        (["--preset", "nonsense"], 2, "shipped presets"),
        (["--set", "model.path=./nowhere"], 3, "model nowhere: there is no such folder"),
        (["--set", "data.path=./nowhere.jsonl"], 3, "no such file: ./nowhere.jsonl"),
        (["--redis-url", "redis://127.0.0.1:1/0"], 4, "no Redis at redis://127.0.0.1:1/0"),
        (["--run", "no spaces please"], 2, "run id 'no spaces please'"),
    ],
)
def test_a_mistake_is_named_at_once(home, words, code, message):
    done = leeway("up", "--preset", "tiny", *words, cwd=home)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert message in done.stderr
    assert done.stderr.startswith("leeway: ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "1+1"}, r"prompts.jsonl:2: a row without an answer"),
        ({"answer": "2"}, r"prompts.jsonl:2: key 'prompt' is missing"),
        ({"prompt": "1+\ud800", "answer": "2", "id": 1}, "prompts.jsonl:2: prompt: half a character"),
    ],
)
def test_a_broken_row_ends_the_run_with_its_file_and_line(home, row, message, request):
    path = home / "prompts.jsonl"
    path.write_text(json.dumps({"prompt": "1+1", "answer": "2"}) + "\n" + json.dumps(row) + "\n")
    run = f"rows-{len(row)}-{'prompt' in row}"
    done = leeway("up", "--preset", "tiny", "--run", run, "--set", f"data.path={path}", cwd=home)
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert line.startswith("leeway: ")
    assert message in line


def test_a_worker_of_an_unknown_run_says_so(home, redis_url):
    import subprocess
    import sys

    words = [sys.executable, "-m", "leeway_rl.rollout", "--run", "unknown", "--redis-url", redis_url, "--wait-s", "0"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 4
    assert "leeway rollout: run 'unknown' is not known" in done.stderr


@pytest.mark.parametrize("role", ["learner", "rollout", "verifier"])
def test_a_role_on_a_node_of_its_own_names_a_model_that_it_cannot_use(home, redis_url, tiny_model, role):
    model = home / f"model-{role}"
    shutil.copytree(tiny_model, model)
    for path in model.glob("*token*"):
        path.unlink()
    run = f"alone-{role}-{uuid.uuid4().hex[:8]}"
    where = ["--run", run, "--redis-url", redis_url]
    assert leeway("create", *where, "--preset", "tiny", "--set", f"model.path={model}", cwd=home).returncode == 0
    done = leeway(role, *where, cwd=home)
    leeway("clean", run, "--redis-url", redis_url, "--force", cwd=home)
    assert done.returncode == 3, done.stderr
    assert f"leeway {role}: model {model}: it has no tokenizer" in done.stderr


def test_a_model_that_cannot_work_is_refused_by_a_dry_run_and_before_a_folder_is_made(home, tiny_model):
    model = home / "gpt-oss"
    shutil.copytree(tiny_model, model)
    keys = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**keys, "model_type": "gpt_oss"}))
    for words in (["--dry-run"], []):
        done = leeway("up", "--preset", "tiny", "--set", f"model.path={model}", "--run", "sinks", *words, cwd=home)
        assert (done.returncode, done.stdout) == (3, ""), done.stderr
        assert done.stderr.startswith(
            f"leeway: model {model}: gpt_oss cannot be trained here: it needs attention sinks"
        )
        assert not (home / "runs/sinks").exists()


def test_a_context_longer_than_the_model_s_is_refused_before_anything_starts(home):
    longer = ["--set", "train.max_response_tokens=500", "--run", "long"]
    done = leeway("up", "--preset", "tiny", *longer, cwd=home)
    assert done.returncode == 3
    assert "data.max_prompt_tokens 32 + train.max_response_tokens 500 = 532 is more than the context" in done.stderr
    assert not (home / "runs/long").exists()


def test_a_dry_run_prints_the_arithmetic_and_touches_nothing(home):
    done = leeway("up", "--preset", "tiny", "--run", "dry", "--dry-run", cwd=home)
    assert done.returncode == 0
    assert "(1 + 1) x 16 = 32" in done.stdout
    assert "max_staleness = 1" in done.stdout
    assert not (home / "runs/dry").exists()


UNUSABLE = {
    "latin.jsonl": b'{"prompt": "1+\xe9", "answer": "2"}\n',
    "half.jsonl": b'{"prompt": "1+\\ud800", "answer": "2"}\n',
    "deep.jsonl": b"[" * 100_000 + b"]" * 100_000 + b"\n",
    "twice.jsonl": b'{"prompt": "1+1", "answer": "2", "answer": "3"}\n',
    "quote.csv": b'prompt,answer\n"1+1,2\n',
    "cut.jsonl.gz": b"\x1f\x8b\x08\x00",
    "empty.jsonl": b"",
    "none.jsonl": None,
}


def test_rows_that_nobody_can_use_are_named_by_eval_and_leave_no_trace(home, tiny_model):
    for name, content in UNUSABLE.items():
        if content is not None:
            (home / name).write_bytes(content)
    files = [f"{name.partition('.')[0]}={name}" for name in UNUSABLE]
    done = leeway("eval", "run", *files, "--model", str(tiny_model), "--out", "bad", "--engine", "torch", cwd=home)
    assert (done.returncode, "Traceback" in done.stderr) == (3, False), done.stderr
    for name in (
        "latin.jsonl:1: not UTF-8",
        "half.jsonl:1: column prompt: half",
        "deep.jsonl:1: not JSON: more than 100",
    ):
        assert name in done.stderr
    for name in (
        "twice.jsonl:1: not JSON: the key",
        "quote.csv:1: not CSV",
        "cut.jsonl.gz:1: the file breaks off here",
    ):
        assert name in done.stderr
    assert "none.jsonl: no such file" in done.stderr
    assert "there is nothing to ask" in done.stderr
    assert "problems.jsonl" not in done.stderr


def test_rows_that_nobody_can_use_are_named_by_sample_with_file_and_row(home, tiny_model):
    rows = [content for name, content in UNUSABLE.items() if name.endswith(".jsonl") and content]
    (home / "mixed.jsonl").write_bytes(b"".join(rows))
    words = ["--model", str(tiny_model), "--out", "bad-sample", "--engine", "torch", "--max-tokens", "8"]
    done = leeway("sample", "mixed.jsonl", *words, "--max-prompt-tokens", "16", cwd=home)
    assert (done.returncode, "Traceback" in done.stderr) == (3, False), done.stderr
    for number, why in enumerate(("not UTF-8", "prompt: half a", "not JSON: more than 100", "not JSON: the key"), 1):
        assert f"mixed.jsonl:{number}: {why}" in done.stderr
