"""``[[data]]``: several sources in presets; what is read, what is refused in which line. One stays as it was."""

import pytest
from leeway_rl.common.config import compose, dump, parse
from leeway_rl.common.errors import ConfigError

TWO = """\
[[data]]
name = "sums"
path = "{here}/sums.jsonl"
share = 3
suffix = "So:"
max_response_tokens = 32

[[data]]
name = "words"
source = "reasoning_gym"
path = "word_sorting"
rewards = []

[[stages]]
from_step = 5
shares = { words = 3 }
"""


def test_sources_take_the_place_of_an_earlier_presets_one(preset, tmp_path):
    config = compose(["tiny", preset(TWO)], [])
    assert [source.name for source in config.sources] == ["sums", "words"]
    assert config.sources[0].path == f"{tmp_path}/task/sums.jsonl"
    assert config.shares == (0.75, 0.25)
    assert config.at_stage(1).shares == (0.5, 0.5)
    assert config.source_of("words:17").path == "word_sorting"
    assert parse(dump(config)) == config


def test_one_source_is_stored_as_it_ever_was(preset):
    config = compose(["tiny"], [])
    assert "[data]" in dump(config)
    stored = config.model_dump(mode="json", exclude_none=True)
    assert not {"name", "share", "rewards", "max_response_tokens", "drop_solved", "prefer_half"} & {*stored["data"]}
    assert "reconsider_every" not in stored["flow"]
    again = compose(["tiny", preset(TWO), preset('[data]\npath = "x.jsonl"\n')], ["stages=[]"])
    assert (again.source.path, again.source_names) == ("x.jsonl", ())


def test_a_source_alone_is_judged_by_its_own_rewards(preset):
    rewards = '[[rewards]]\nuse = "regex"\noptions = { pattern = "a" }\n[[rewards]]\nuse = "row"\n'
    text = TWO.replace('suffix = "So:"', 'rewards = ["row"]') + rewards
    config = compose(["tiny", preset(text)], [])
    sums, words = (config.alone(source) for source in config.sources)
    assert [reward.called for reward in sums.rewards] == ["row"]
    assert words.rewards == ()
    assert (words.source.name, words.stages[0].shares, words.source_names) == (None, None, ())
    assert parse(dump(words)) == words


def test_a_source_without_a_rule_can_stand_alone_in_a_run_that_looks_at_results(preset):
    config = compose(["tiny", preset(TWO.replace("share = 3", "drop_solved = 3"))], ["flow.reconsider_every=4"])
    sums, words = (config.alone(source) for source in config.sources)
    assert (sums.flow.reconsider_every, words.flow.reconsider_every) == (4, None)
    assert parse(dump(words)) == words


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (TWO.replace("share = 3", "share = -3"), r"preset\.toml:4: data\.0\.share = -3: .* greater than or equal to 0"),
        (TWO.replace("share = 3", "share = inf"), r"preset\.toml:4: data\.0\.share = inf"),
        (TWO.replace("share = 3", "shaer = 3"), r"preset\.toml:4: unknown key 'data\.0\.shaer'; did you mean .*share"),
        (TWO.replace('"words"', '"sums"'), r"data\.1\.name = 'sums': a second source of that name"),
        (TWO.replace('name = "words"\n', ""), r'data\.1: a source without a name; .*name = "…"'),
        (TWO.replace('"words"', '"my words"'), r"preset\.toml:9: data\.1\.name = 'my words': a name is a letter"),
        (TWO.replace('"words"', '"a:b"'), r"data\.1\.name = 'a:b': a name is a letter"),
        (TWO.replace("words = 3", "wrods = 3"), r"stages\.0\.shares: no source is called 'wrods'; .*'words'"),
        (TWO.replace("words = 3", "words = -3"), r"stages\.0\.shares\.words = -3"),
        (TWO.replace("words = 3", "words = 0, sums = 0"), r"stage 1 .*the shares come to 0 \(sums 0, words 0\)"),
        (TWO.replace("share = 3", "share = 0") + "[x]", "unknown key 'x'"),
        (
            TWO.replace("rewards = []", 'rewards = ["exact"]'),
            r"data\.1\.rewards: no reward is called 'exact'; known: none",
        ),
        (
            TWO.replace("= 32", "= 3200"),
            r"data\.0\.max_response_tokens = 3200 is above train\.max_response_tokens = 64",
        ),
        ("data = []", "no source"),
        ("[data]\nshare = 2\n", r"data\.share = 2\.0: one source has none"),
        ("[[stages]]\nfrom_step = 3\nshares = { a = 1 }\n", r"stages\.0\.shares: there is one source"),
        ("[data]\nprefer_half = 1.0\n", r"preset\.toml:2: data\.prefer_half = 1\.0"),
        ("[data]\nprefer_half = 1e-5\n", r"preset\.toml:2: data\.prefer_half = 1e-05: .* 0\.01"),
        (TWO.replace("share = 3", "share = 1e308").replace('"words"', '"words"\nshare = 1e308', 1), "come to inf"),
        ("[flow]\nreconsider_every = 3\n", r"flow\.reconsider_every = 3: no source has drop_solved or prefer_half"),
        (TWO + "[flow]\nreconsider_every = 3\n", r"flow\.reconsider_every = 3: no source has"),
        ("[data]\ndrop_solved = 0\n", r"preset\.toml:2: data\.drop_solved = 0"),
    ],
)
def test_what_cannot_stand_is_refused(preset, text, wrong):
    with pytest.raises(ConfigError, match=wrong):
        compose(["tiny", preset(text)], [])


def test_shares_that_come_to_0_are_refused(preset):
    text = TWO.replace("share = 3", "share = 0").replace('name = "words"', 'name = "words"\nshare = 0')
    with pytest.raises(ConfigError, match=r"^data\.share: the shares come to 0 \(sums 0, words 0\)"):
        compose(["tiny", preset(text)], [])


def test_a_key_of_one_source_is_refused_where_there_are_several(preset):
    with pytest.raises(ConfigError, match=r"--set data\.suffix=x: data\.suffix: there are several .*\(sums, words\)"):
        compose(["tiny", preset(TWO)], ["data.suffix=x"])


def test_sources_may_be_set():
    config = compose(["tiny"], ['data=[{name="a",path="x",share=1},{name="b",path="y",share=2}]'])
    assert config.shares == (1 / 3, 2 / 3)


def test_what_takes_one_source_says_so(preset):
    config = compose(["tiny", preset(TWO)], [])
    with pytest.raises(ConfigError, match=r"several sources \(sums, words\), and this takes one"):
        config.source  # noqa: B018


def test_rewards_that_judge_rows_of_different_kinds_may_stand_in_different_sources(preset):
    rewards = '[[rewards]]\nuse = "math"\n[[rewards]]\nuse = "code"\n'
    text = TWO.replace("rewards = []", 'rewards = ["code"]').replace('suffix = "So:"', 'rewards = ["math"]')
    assert len(compose(["tiny", preset(text + rewards)], []).rewards) == 2
    with pytest.raises(ConfigError, match="judge different kinds of rows"):
        compose(["tiny", preset(TWO + rewards)], [])
