"""A run's checkpoint, exported, behind vLLM's own server: what it answers is what transformers answers."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from leeway_rl.leeway.running.server import free_port

from tests.integration.running import SMALL, leeway

pytest.importorskip("vllm")
pytestmark = [pytest.mark.slow, pytest.mark.vllm, pytest.mark.timeout(900)]

QUESTIONS = ["12+34", "58+27", "90+9"]


def test_the_server_gives_the_exported_model_s_greedy_answers(tmp_path, wait_until):
    done = leeway("up", "--run", "served", *SMALL, "--set", "train.steps=2", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    done = leeway("export", "served", "--out", "model", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "model\n"), done.stderr
    port = free_port()
    words = ["--model", str(tmp_path / "model"), "--served-model-name", "mine", "--host", "127.0.0.1"]
    small = ["--port", str(port), "--enforce-eager", "--max-model-len", "256", "--max-num-seqs", "4"]
    environment = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *words, *small],
            env=environment,
            stdout=log,
            stderr=log,
        )
        try:
            wait_until(lambda: server.poll() is not None or answers(port), "the server's start", 300)
            assert server.poll() is None, (tmp_path / "server.log").read_text()[-3000:]
            assert [asked(port, question) for question in QUESTIONS] == expected(tmp_path / "model")
        finally:
            server.terminate()
            server.wait(200)


def answers(port):
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).status == 200
    except (urllib.error.URLError, OSError):
        return False


def asked(port, question):
    body = {"model": "mine", "messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 40}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=600) as reply:
        return json.load(reply)["choices"][0]["message"]["content"]


def expected(folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    found = []
    for question in QUESTIONS:
        chat = [{"role": "user", "content": question}]
        ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        output = model.generate(**ids, max_new_tokens=40, do_sample=False)
        found.append(tokenizer.decode(output[0, ids["input_ids"].shape[1] :], skip_special_tokens=True))
    return found
