"""What is wrong with a prompt is told before a model is loaded."""

import json
import shutil

import pytest
from leeway_rl.common.activity import Activity, Doing
from leeway_rl.common.config import compose
from leeway_rl.common.errors import DataError
from leeway_rl.learner import train


class Silent:
    """A service that keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[Doing] = []

    def doing(self, what: str) -> None:
        self.told.append(what)


def test_a_template_without_a_system_message_ends_a_run_before_its_model_is_loaded(tmp_path, tiny_model, monkeypatch):
    folder, rows = tmp_path / "model", tmp_path / "rows.jsonl"
    shutil.copytree(tiny_model, folder)
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system here') }}{% endif %}"
    (folder / "chat_template.jinja").write_text(refusing + "{{ messages[0]['content'] }}")
    chat = [{"role": "system", "content": "1"}, {"role": "user", "content": "1+1="}]
    rows.write_text('{"prompt": "1+1=", "answer": "2"}\n' + json.dumps({"messages": chat, "answer": "2"}) + "\n")
    config = compose(["tiny"], [f"model.path={folder}", f"data.path={rows}"])
    monkeypatch.setattr(train, "Policy", lambda config: pytest.fail("the model was loaded"))
    service = Silent()
    with pytest.raises(
        DataError, match=r"rows.jsonl:2: the model's chat template refuses .*system, user.*no system here"
    ):
        train.learn(None, service, config, tmp_path)
    assert service.told == [Doing(Activity.READING_PROMPTS)]
