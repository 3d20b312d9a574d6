"""docs/how-to/own-environment.md, as it stands: from nothing to a policy that is answered by a class of ten lines."""

import json
import re

import pytest
from leeway_rl.common.config import parse
from leeway_rl.common.ledger import read

from tests.integration.pages import ROOT, blocks, commands, run
from tests.integration.running import leeway, metrics

PAGE = ROOT / "docs" / "how-to" / "own-environment.md"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

COMMANDS = [
    "leeway init my-game --environment",
    "python -m pytest my-game",
    "leeway check my-game/preset.toml",
    "leeway up --preset my-game/preset.toml --run my-second",
    "leeway samples my-second --best 3",
    "leeway audit my-second",
]


def test_the_page_trains_with_its_own_environment(tmp_path):
    assert commands(PAGE) == COMMANDS
    folder, said = tmp_path / "my-game", {}
    for command in COMMANDS:
        said[command] = run(command, tmp_path)
        if command == "leeway init my-game --environment":
            (code,), (keys,) = blocks(PAGE, "python"), blocks(PAGE, "toml")
            assert code == (folder / "environment.py").read_text()
            assert all(part in (folder / "preset.toml").read_text() for part in keys.split("\n\n"))
    looked = said["leeway check my-game/preset.toml"]
    assert "environment.py:SecondTry, at most 8 turns; digest of your code" in looked
    assert re.search(r"^ +policy: .*\n +environment: \d\d\+\d\d=\n", looked, re.M), "a second try was seen"
    rewards = [line["reward/mean"] for line in metrics(tmp_path / "runs" / "my-second")]
    assert 0 < sum(rewards[-5:]) > sum(rewards[:5])
    assert "audit passed" in said["leeway audit my-second"]
    started = [line for line in read(tmp_path / "runs" / "my-second" / "ledger.jsonl") if line["event"] == "started"]
    stored = parse((tmp_path / "runs" / "my-second" / "config.toml").read_text()).environment.digest
    assert [line["environment_digest"] for line in started] == [stored]


def test_an_environment_that_is_not_there_is_told_before_anything_starts(tmp_path):
    assert leeway("init", "my-game", "--environment", cwd=tmp_path).returncode == 0
    (tmp_path / "my-game" / "environment.py").write_text("class SecondTri:\n    pass\n")
    done = leeway("up", "--preset", "my-game/preset.toml", "--run", "none", cwd=tmp_path)
    assert done.returncode == 2
    assert "has no 'SecondTry'; did you mean 'SecondTri'?" in done.stderr
    assert not (tmp_path / "runs" / "none").exists()


def test_a_template_that_rewrites_turns_is_told_before_a_model_loads(tmp_path):
    assert leeway("init", "my-game", "--environment", cwd=tmp_path).returncode == 0
    model = tmp_path / "model"
    model.mkdir()
    for file in (ROOT / "presets" / "tiny" / "model").iterdir():
        (model / file.name).write_bytes(file.read_bytes())
    template = "{% for m in messages %}{{ messages | length }}{{ m['content'] }}{% endfor %}="
    (model / "chat_template.jinja").write_text(template)
    config = json.loads((model / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    words = ("--preset", "my-game/preset.toml", "--set", f"model.path={model}", "--run", "none")
    done = leeway("up", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert "environment.role = 'user': the model's chat template rewrites earlier turns" in done.stderr
    assert not (tmp_path / "runs" / "none").exists()
