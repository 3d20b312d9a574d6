"""``leeway config`` tells every key in plain words, with its bounds. What must stand there is taken from pydantic's own
JSON schema of the configuration."""

import json
import re

import pytest
from leeway_rl.common.config import Config, known_keys
from leeway_rl.common.described import described

KEYS = {key.name: key for key in described()}
SCHEMA = Config.model_json_schema()
BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "minItems": "of {} ",
}


def definition_of(name):
    """The key's part of the schema."""
    section, _, key = name.partition(".")
    found = SCHEMA["properties"][section]
    found = found.get("oneOf", [found])[0]  # data is one table or a list of such
    found = found.get("items") or found.get("anyOf", [found])[0]
    return SCHEMA["$defs"][found["$ref"].rpartition("/")[2]]["properties"][key]


def due(part):
    """What the words must hold: every bound and every choice, wherever it stands in the schema."""
    if isinstance(part, list):
        for each in part:
            yield from due(each)
    elif isinstance(part, dict):
        for name, value in part.items():
            if name in BOUNDS:
                yield BOUNDS[name].format(value)
            elif name in ("enum", "const"):
                yield from (json.dumps(choice) for choice in (value if name == "enum" else [value]))
            elif name not in ("default", "description", "title"):
                yield from due(value)


def test_every_key_is_there_and_says_what_it_means():
    assert list(KEYS) == known_keys()
    assert [name for name, key in KEYS.items() if not key.meaning] == []


@pytest.mark.parametrize("name", KEYS)
def test_a_key_is_told_in_plain_words_with_its_bounds_and_choices(name):
    said, definition = KEYS[name].describe(), definition_of(name)
    assert not re.search(
        r"Union|Annotated|FieldInfo|Literal|Optional|typing|None|NoneType|<class|tuple|dict|\bint\b|\bstr\b|\bbool\b|``",
        said.partition("\n")[0],
    ), said
    assert [words for words in due(definition) if words not in KEYS[name].kind] == []
    assert KEYS[name].required == ("default" not in definition and "options" not in name and "columns" not in name)
    assert KEYS[name].default == ("" if definition.get("default") is None else json.dumps(definition["default"])) or (
        name in ("data.options", "data.columns", "rewards.options", "environment.options", "objective.loss_options")
        and KEYS[name].default == "{}"
    )


def test_the_words():
    assert KEYS["flow.least_ess"].kind == "a number of at least 0 and less than 1"
    assert KEYS["flow.pipeline_depth"].kind == 'a whole number of at least 1 and at most 2147483647 or "auto"'
    assert (
        KEYS["train.betas"]
        .describe()
        .startswith("train.betas: a list of 2 numbers of at least 0 and less than 1; [0.9, 0.999] by default\n")
    )
    assert KEYS["data.examples"].kind == "a list of lists of 2 texts"
    assert KEYS["data.columns"].kind.startswith('a table whose keys are "id", "prompt", ')
    assert KEYS["train.minibatch_groups"].describe().splitlines()[0] == (
        "train.minibatch_groups: a whole number of at least 1; not set by default"
    )
    assert (
        KEYS["train.steps"].describe().splitlines()[0]
        == "train.steps: a whole number of at least 1 and at most 1000000000; required"
    )
