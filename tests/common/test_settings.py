"""A ``--set`` means what it says, however it is typed, or is refused with how to say it."""

import pytest
from leeway_rl.common.config import compose
from leeway_rl.common.errors import ConfigError
from leeway_rl.common.settings import read, written


def suffix(typed):
    return compose(["tiny"], [f"data.suffix={typed}"]).data.suffix


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ('"\\nAnswer:"', "\nAnswer:"),  # --set 'data.suffix="\nAnswer:"'
        ("'\\nAnswer:'", "\\nAnswer:"),  # TOML's single quotes, on purpose
        ("\nAnswer:", "\nAnswer:"),  # a real line end: --set $'data.suffix=\nAnswer:', or a script
        ("\n", "\n"),
        (" Answer:", " Answer:"),
        ("Answer: ", "Answer: "),
        ("Answer:", "Answer:"),
        ("", ""),
        ('""', ""),
        ("put it in \\boxed{}.", "put it in \\boxed{}."),
        ("'put it in \\boxed{}.'", "put it in \\boxed{}."),
        ('"put it in \\\\boxed{}."', "put it in \\boxed{}."),
        ('"\\nput it in \\\\boxed{}."', "\nput it in \\boxed{}."),
        ("as \\(x\\) or \\frac{1}{2}", "as \\(x\\) or \\frac{1}{2}"),
        ("say \"x\" or 'y'", "say \"x\" or 'y'"),
        ("1 + 1 = 2", "1 + 1 = 2"),
        ("4\nsteps = 5", "4\nsteps = 5"),  # not the number 4
        ('"é 北 😀"', "é 北 😀"),
        ("é 北 😀", "é 北 😀"),
        ('"\\u00e9"', "é"),
    ],
)
def test_a_text_is_read_as_it_was_meant(typed, meant):
    assert suffix(typed) == meant


@pytest.mark.parametrize(
    "typed", ["\\nAnswer:", "So:\\n", "a\\tb", "\\r", 'say \\"x\\"', "\\\\boxed{}", "\\u00e9", "\\text{x}"]
)
def test_a_backslash_that_may_be_an_escape_is_refused_with_both_ways_to_say_it(typed):
    with pytest.raises(
        ConfigError, match=r'may be meant as an escape or as a backslash.* data.suffix="….*data.suffix=\'…'
    ):
        suffix(typed)


@pytest.mark.parametrize("typed", ['"\\(x\\)"', '"half', "'half", '"a" b', "\"\\nAnswer:'"])
def test_quotes_that_are_no_toml_are_not_taken_for_a_part_of_the_text(typed):
    with pytest.raises(ConfigError, match="begins with a quote and is no TOML text"):
        suffix(typed)


@pytest.mark.parametrize("typed", ['"in \\boxed{}"', '"\\frac"'])
def test_an_escape_that_nobody_means_is_refused_as_in_a_preset(typed):
    with pytest.raises(ConfigError, match=r"control character .* in single quotes"):
        suffix(typed)


def test_spaces_around_the_equals_sign_are_no_part_of_a_value():
    config = compose(["tiny"], ["data.suffix = So: ", "train.steps = 7", "model.path = ./here"])
    assert (config.data.suffix, config.train.steps, config.model.path) == ("So:", 7, "./here")


@pytest.mark.parametrize("value", ["\nAnswer 😀:", "a\\nb", " 'x' \"y\"", "", 3, 0.5, True, [["q 😀", "\\boxed{1}"]]])
def test_what_a_command_writes_for_another_reads_back(value):
    assert read(written("data.x", value)) == {"data": {"x": value}}
