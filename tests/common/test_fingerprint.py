"""Fingerprints: the same for the same, another for whatever a verdict or a prompt depends on."""

import json
import shutil

import pytest
from leeway_rl.common import fingerprint as module
from leeway_rl.common.config import Verifier, compose
from leeway_rl.common.fingerprint import fingerprint, judged_by, of_run_inputs, of_tokenizer, verifier_version
from transformers import AutoTokenizer


def test_the_order_of_keys_does_not_matter_and_everything_else_does():
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    assert len({fingerprint(each) for each in (1, "1", [1], {"1": 1}, None, "\ud800")}) == 6


def test_a_verdict_depends_on_the_settings_that_judge_and_on_no_other():
    same = judged_by(Verifier())
    assert same == judged_by(Verifier(workers=3, jobs=9, on_timeout="refund", allow_unsandboxed=True))
    others = [Verifier(math="report"), Verifier(timeout_s=5.0), Verifier(memory_bytes=1 << 30)]
    assert len({same, *map(judged_by, others)}) == 4
    assert judged_by(Verifier(math="report", timeout_s=5.0)).startswith("math=report timeout_s=5.0 verifier ")


@pytest.mark.parametrize("where", ["verifier/*.py", "verifier/*/*.py", "common/ground_truth.py"])
def test_a_verdict_depends_on_all_of_the_verifier_s_code(tmp_path, monkeypatch, where):
    for pattern in module.JUDGES:
        for path in module.PACKAGE.glob(pattern):
            copy = tmp_path / path.relative_to(module.PACKAGE)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    monkeypatch.setattr(module, "PACKAGE", tmp_path)
    verifier_version.cache_clear()
    before = verifier_version()
    changed = sorted(tmp_path.glob(where))[-1]
    changed.write_text(changed.read_text() + "# another\n")
    verifier_version.cache_clear()
    assert verifier_version() != before
    verifier_version.cache_clear()


def test_a_tokenizer_is_its_vocabulary_and_its_template(tiny_model):
    tokenizer, again = (AutoTokenizer.from_pretrained(tiny_model) for _ in range(2))
    assert of_tokenizer(tokenizer) == of_tokenizer(again)
    again.chat_template = "{{ messages[0].content }}"
    assert of_tokenizer(tokenizer) != of_tokenizer(again)
    again = AutoTokenizer.from_pretrained(tiny_model)
    again.add_tokens(["another"])
    assert of_tokenizer(tokenizer) != of_tokenizer(again)


def test_a_run_s_inputs_are_its_rows_and_its_model_s_files(tmp_path, tiny_model, monkeypatch):
    shutil.copytree(tiny_model, tmp_path / "model")
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": "1", "answer": "1"}))
    config = compose(["tiny"], [f"data.path={rows}", f"model.path={tmp_path / 'model'}"])
    marks = [of_run_inputs(config)]
    rows.write_text(json.dumps({"prompt": "1", "answer": "2"}))
    marks.append(of_run_inputs(config))
    assert (marks[0]["data.path"] != marks[1]["data.path"], marks[0]["model.path"]) == (True, marks[1]["model.path"])
    weights = next((tmp_path / "model").glob("*.safetensors"))
    monkeypatch.setattr(module, "WHOLE_BYTES", 1000)  # as if they were large
    monkeypatch.setattr(module, "END_BYTES", 100)
    large = of_run_inputs(config)["model.path"]
    with weights.open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    assert of_run_inputs(config)["model.path"] != large
    assert of_run_inputs(compose(["tiny"], ["data.path=none.jsonl", "model.path=./none"])) == {}
