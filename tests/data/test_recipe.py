"""A recipe from end to end: every row accounted for, resumed behind what is done, the same bytes every time."""

import gzip
import json
import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from leeway_rl.common.batches import batched
from leeway_rl.common.errors import ConfigError, DataError
from leeway_rl.common.files import unfinished
from leeway_rl.data import output, recipe
from leeway_rl.data.dataset import BATCH, Dataset, Drop, divide

EXAMPLE = Path(__file__).resolve().parent.parent.parent / "examples" / "data"
QUICK = """
[[step]]
do = "verifiable"
[[step]]
do = "links"
[[step]]
do = "duplicates"
"""
RATE = """
[[step]]
do = "difficulty"
name = "M"
"""


def write_recipe(folder, text, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_text(content, errors="surrogateescape")
    (folder / "recipe.toml").write_text(text)
    return recipe.read_recipe(folder / "recipe.toml")


def run(found, out):
    said = []
    result = recipe.run(found, out / "datasets", jobs=1, say=said.append)
    output.write(result, found, out)
    return result, said


def one_source(rows, steps=QUICK, name="mine"):
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    return f'[[source]]\nname = "{name}"\npath = "rows.jsonl"\n{steps}', {"rows_jsonl": text}


GOOD = st.fixed_dictionaries(
    {
        "problem": st.sampled_from(
            ["Find 3 + 4.", "Find x for 2x = 8.", "Prove it.", "See http://a.b for 5.", "In the figure below, 6?"]
        ),
        "answer": st.sampled_from(["7", "4", "proof", "\\frac{1", "", None, 3, [1, 2]]),
    }
)
RATED = st.fixed_dictionaries(
    {
        "prompt": st.sampled_from(["Half of 1?", "Half of 2?", 3]),
        "reward_model": st.just({"ground_truth": "7", "style": "rule"}),
        "extra_info": st.fixed_dictionaries(
            {
                "model_difficulty": st.one_of(
                    st.sampled_from([None, [1], 3]),
                    st.dictionaries(
                        st.just("M"),
                        st.sampled_from([0, 3, 3.0, 16, 17, -1, 0.5, "3", True, None, float("nan"), float("inf")]),
                    ),
                )
            }
        ),
    }
)
ANY_VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=5,
)
KEYS = ("problem", "prompt", "answer", "tests", "solution", "ability", "reward_model", "extra_info")
BROKEN = ["not JSON", "[]", "{}", "3", '{"problem": 3}', "{", '{"problem": "\\ud800", "answer": "1"}', "\udce4"]
ROWS = st.lists(
    st.one_of(GOOD, RATED, st.sampled_from(BROKEN), st.dictionaries(st.sampled_from(KEYS), ANY_VALUE, max_size=5)),
    max_size=25,
)


@given(ROWS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_in_are_rows_kept_and_rows_dropped_by_reason(tmp_path, rows):
    folder = tmp_path / "funnel"
    shutil.rmtree(folder, ignore_errors=True)
    text, files = one_source(rows, QUICK + RATE)
    result, _ = run(write_recipe(folder, text, **files), folder)
    due = len(rows)
    for number, (name, funnel) in enumerate(result.funnels):
        count = funnel.total()
        assert count.rows_in == due == count.kept + count.dropped.total(), name
        dataset = next(folder.glob(f"datasets/{number:02}-*"))
        assert len(Dataset(dataset)) == count.kept
        reasons = pq.read_table(dataset / "dropped.parquet").column("reason").to_pylist()
        assert sorted(reasons) == sorted(count.dropped.elements())
        due = count.kept
    assert pq.read_metadata(folder / "data.parquet").num_rows == due


@given(st.lists(st.booleans(), max_size=40))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_step_divides_exactly_the_rows_it_was_given(tmp_path, keeps):
    text, files = one_source([{"problem": f"P {number}", "answer": "1"} for number in range(len(keeps))], "")
    shutil.rmtree(tmp_path / "d", ignore_errors=True)
    result, _ = run(write_recipe(tmp_path / "d", text, **files), tmp_path / "d")
    judgements = [None if keep else Drop("so") for keep in keeps]
    funnel = divide(Dataset(result.dataset), tmp_path / "d" / "new", batched(judgements, BATCH))
    assert (funnel.total().kept, funnel.total().dropped.total()) == (sum(keeps), len(keeps) - sum(keeps))
    if keeps:
        with pytest.raises(ValueError, match="shorter"):
            divide(Dataset(result.dataset), tmp_path / "d" / "new", iter([]))


def test_the_same_recipe_on_the_same_input_gives_the_same_bytes(tmp_path):
    text, files = one_source([{"problem": f"Find {number} + {number}.", "answer": 2 * number} for number in range(9)])
    rated = {
        "prompt": "Rated.",
        "reward_model": {"ground_truth": "1", "style": "rule"},
        "extra_info": {"index": 1, "model_difficulty": {"some-7B": 5, "other-1B": 16}},
    }
    files["rows_jsonl"] += json.dumps(rated) + "\n"
    folders = [tmp_path / "one", tmp_path / "another" / "place"]
    for folder in folders:
        run(write_recipe(folder, text, **files), folder / "out")
    names = {path.name for path in (folders[0] / "out").iterdir()}
    assert names == {"data.parquet", "card.md", "recipe.json", "difficulty.png", "datasets"}
    for name in names - {"datasets"}:
        assert (folders[0] / "out" / name).read_bytes() == (folders[1] / "out" / name).read_bytes(), name


def test_rows_come_out_in_the_published_schema_and_training_reads_them(tmp_path):
    from leeway_rl.common.config import Data
    from leeway_rl.learner.flow.prompts import load_prompts
    from transformers import AutoTokenizer

    rated = {
        "prompt": [{"role": "system", "content": "S"}, {"role": "user", "content": "Half of 1?"}],
        "reward_model": {"ground_truth": '["0.50"]', "style": "rule"},
        "extra_info": {"index": 1, "model_difficulty": {"some-7B": 5}},
    }
    code = {"prompt": "Echo.", "tests": {"inputs": ["1"], "outputs": ["1"]}}
    text, files = one_source([rated, {"problem": "3 + 4?", "answer": 7}, code], '[output]\nsuffix = " Box it."\n')
    run(write_recipe(tmp_path, text, **files), tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "data.parquet").to_pylist()
    assert rows[0]["reward_model"] == {"ground_truth": '["0.50"]', "style": "rule"}
    assert rows[0]["extra_info"] == {"index": 0, "model_difficulty": {"some-7B": 5}}
    assert [row["prompt"][-1]["content"] for row in rows] == ["Half of 1? Box it.", "3 + 4? Box it.", "Echo."]
    assert rows[1]["provenance"] | {"sha256": ""} == {
        "source": "mine", "file": "rows.jsonl", "row": 2, "subset": None, "sha256": "",
    }  # fmt: skip
    model = EXAMPLE.parent.parent / "presets" / "tiny" / "model"
    data = Data(source="file", path=str(tmp_path / "out" / "data.parquet"))
    prompts = load_prompts(data, AutoTokenizer.from_pretrained(model), seed=1).prompts
    assert [prompt.ability for prompt in prompts] == ["math", "math", "code"]
    assert prompts[1].ground_truth == ("7",)


def test_a_finished_step_is_not_done_again_and_a_changed_one_is(tmp_path, monkeypatch):
    rows = [{"problem": f"Find {number} + 4, see www.here.", "answer": "7"} for number in range(3)]
    text, files = one_source(rows)
    done = []
    real = recipe.finish
    monkeypatch.setattr(recipe, "finish", lambda folder, *rest: done.append(folder.name[3:]) or real(folder, *rest))
    first, _ = run(write_recipe(tmp_path, text, **files), tmp_path / "out")
    again, _ = run(write_recipe(tmp_path, text, **files), tmp_path / "out")
    assert done == ["load", "verifiable", "links", "duplicates"]
    assert [funnel.as_json() for _, funnel in again.funnels] == [funnel.as_json() for _, funnel in first.funnels]
    changed = text.replace('"links"', '"links"\nfigures = false')
    run(write_recipe(tmp_path, changed, **files), tmp_path / "out")
    assert done[4:] == ["links"]  # what comes behind it gets the same rows as before
    run(
        write_recipe(tmp_path, changed, rows_jsonl=files["rows_jsonl"] + '{"problem": "6", "answer": 1}\n'),
        tmp_path / "out",
    )
    assert done[5:] == ["load", "verifiable", "links", "duplicates"]


def test_a_stopped_step_is_done_again(tmp_path, monkeypatch):
    text, files = one_source([{"problem": "Find 3 + 4.", "answer": "7"}])
    found = write_recipe(tmp_path, text, **files)

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("leeway_rl.data.recipe.divide", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(found, tmp_path / "out")
    result, _ = run(found, tmp_path / "out")
    assert result.funnels[-1][1].total().kept == 1


def test_what_is_not_there_is_named_and_the_rest_is_done(tmp_path):
    text, files = one_source([{"problem": "Find 3 + 4.", "answer": "7"}], "")
    text += '[[source]]\nname = "gone"\npath = "gone/*.parquet"\n'
    text += '[[step]]\ndo = "decontaminate"\nagainst = ["rows.jsonl", "nowhere.jsonl"]\n'
    (tmp_path / "broken.parquet").write_text("no Parquet")
    text += '[[source]]\nname = "broken"\npath = "broken.parquet"\n'
    found = write_recipe(tmp_path, text, **files)
    result, _ = run(found, tmp_path / "out")
    assert [what.split(":")[0] for what in result.missing] == [
        "source gone",
        "source broken",
        "evaluation set nowhere.jsonl",
    ]
    assert result.funnels[-1][1].total().dropped == {"contaminated by rows.jsonl": 1}
    assert "**Not there, and so not in it:** source gone" in (tmp_path / "out" / "card.md").read_text()
    (tmp_path / "nowhere.jsonl").write_text("{}\n")
    again, _ = run(found, tmp_path / "out")
    assert len(again.missing) == 2
    assert again.funnels[-1][1].notes == [
        "evaluation problem nowhere.jsonl:1 cannot be compared with: column 'problem' or 'question' or 'prompt' is "
        "missing: columns found: answer, tests"
    ]


def test_a_broken_row_is_kept_beside_its_reason(tmp_path):
    text, files = one_source(["{broken", {"problem": "P", "answer": "1"}], "")
    run(write_recipe(tmp_path, text, **files), tmp_path / "out")
    (dropped,) = pq.read_table(tmp_path / "out" / "datasets" / "00-load" / "dropped.parquet").to_pylist()
    assert (dropped["source"], dropped["file"], dropped["row"], dropped["reason"]) == (
        "mine",
        "rows.jsonl",
        1,
        "not JSON",
    )
    assert "line 1 column 2" in dropped["detail"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[source]", "not TOML"),
        ("[sources]", "sources: no such key"),
        ("source = 3", r"write \[\[source\]\]"),
        ("", "sources are at least one"),
        ('[[source]]\nname = "a"\n', "give either path or hub"),
        (
            '[[source]]\nname = "a"\npath = "b"\nformat = "numina"\n',
            "format = 'numina': no such format; known: numina-1.5",
        ),
        ('[[source]]\nname = "a"\npath = "b"\nsubset = "x"\n', "source 1: subset: .*known: name"),
        ('[[source]]\nname = "a"\npath = "b"\n[[source]]\nname = "a"\npath = "c"\n', "different names"),
        ('[[source]]\nname = "a"\npath = "b"\n[[step]]\nname = "links"\n', "step 1: there is no key do; known: verif"),
        ('[[source]]\nname = "a"\npath = "b"\n[[step]]\ndo = "dedup"\n', "do = 'dedup': no such step; known: verif"),
        (
            '[[source]]\nname = "a"\npath = "b"\n[[step]]\ndo = "length"\n',
            r"step 1 \(length\): tokenizer: Field required",
        ),
        ('[[source]]\nname = "a"\npath = "b"\n[[step]]\ndo = "links"\nfigure = 1\n', "figure: .*known: figures"),
        ('[[source]]\nname = "a"\npath = "b"\n[[step]]\ndo = "decontaminate"\nagainst = []\n', "against: .*at least 1"),
    ],
)
def test_a_wrong_recipe_is_refused_with_file_entry_and_key(tmp_path, text, said):
    with pytest.raises(ConfigError, match=said) as refused:
        write_recipe(tmp_path, text)
    assert "recipe.toml" in str(refused.value)


def test_a_recipe_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"recipe\.toml: No such file"):
        recipe.read_recipe(tmp_path / "recipe.toml")


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    text, files = one_source([{"problem": "Find 3 + 4.", "answer": "7"}], "")
    run(write_recipe(tmp_path, text, **files), tmp_path / "out")
    source = recipe.Source(name="mine", path=str(tmp_path / "rows.jsonl"))
    with pytest.raises(DataError, match=r"not a dataset of leeway data, it holds out"):
        recipe.load_alone(source, tmp_path)
    assert (tmp_path / "rows.jsonl").exists()


@pytest.mark.parametrize("killed_at", [unfinished(Path("step.json")).name, "kept.parquet", "dropped.parquet"])
def test_a_dataset_that_was_killed_in_its_making_is_made_anew(tmp_path, killed_at):
    """A process can be killed with any of a dataset's files just begun."""
    text, files = one_source([{"problem": "Find 3 + 4.", "answer": "7"}], "")
    path = write_recipe(tmp_path, text, **files)
    run(path, tmp_path / "whole")
    rows = (tmp_path / "whole" / "data.parquet").read_bytes()
    for made in sorted((tmp_path / "whole" / "datasets").iterdir()):
        (made / "step.json").unlink()
        (made / killed_at).write_bytes(b"")
    run(path, tmp_path / "whole")
    assert (tmp_path / "whole" / "data.parquet").read_bytes() == rows


def test_the_commands_know_every_step():
    from leeway_rl.data.__main__ import STEP_NAMES

    assert tuple(recipe.STEPS) == STEP_NAMES


def test_a_published_set_is_streamed_and_one_that_is_not_there_is_named(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.jsonl").write_text('{"question": "3 + 4?", "answer": "7"}\n{"question": "3?"}\n')
    text = f'[[source]]\nname = "still"\nformat = "still-3"\nhub = "{tmp_path}/set"\n'
    text += f'[[source]]\nname = "gone"\nhub = "{tmp_path}/set"\nsplit = "nosuch"\n'
    result, _ = run(write_recipe(tmp_path, text), tmp_path / "out")
    counts = result.funnels[0][1].sources["still"]
    assert (counts.rows_in, counts.kept, counts.dropped) == (2, 1, {"the answer is null": 1})
    assert [what[:12] for what in result.missing] == ["source gone:"]


def test_csv_rows_are_read_and_broken_ones_named(tmp_path):
    rows = b'problem,answer\n"Find, if 2x = 6, x.",3\nA,1,2\nB\nC,\n\xff\xfe,4\n'
    (tmp_path / "rows.csv").write_bytes(rows)
    found = write_recipe(tmp_path, '[[source]]\nname = "mine"\npath = "rows.csv"\n')
    result, _ = run(found, tmp_path / "out")
    assert result.funnels[0][1].total().dropped == {
        "not as many fields as the first line": 2,
        "the answer is null": 1,
        "not UTF-8": 1,
    }
    assert [row["problem"] for row in Dataset(result.dataset).each("problem")] == ["Find, if 2x = 6, x."]


def test_grading_goes_on_behind_what_is_graded(tmp_path):
    from leeway_rl.data.grading import UNREADABLE, graded

    requests = [
        {"response": r"\boxed{7}", "answer": "7"},
        {"response": "no box", "answer": "7"},
        {"response": "", "tests": {"inputs": [], "outputs": []}},
    ]
    said = list(graded(iter(requests), tmp_path, jobs=1, timeout_s=10))
    assert [verdict for verdict, _ in said] == ["correct", "no_answer", UNREADABLE]
    assert "the list of tests is empty" in said[2][1]
    verdicts = tmp_path / "verdicts.jsonl"
    first = json.loads(verdicts.read_text().splitlines()[0]) | {"reason": "from before"}
    verdicts.write_text(json.dumps(first) + "\n" + '{"id": 2, "verd')
    again = list(graded(iter(requests), tmp_path, jobs=1, timeout_s=10))
    assert again == [("correct", "from before"), *said[1:]]


def test_what_cannot_be_used_is_dropped_by_its_reason_whatever_the_file(tmp_path):
    lines = [
        b'{"problem": "P", "answer": "\\ud800"}',
        b'{"problem": "P", "answer": NaN}',
        b'{"problem": "x \\u0000 y", "answer": "1"}',
        b'{"problem": "P", "answer": "\\frac12"}',
        b'{"problem": "P", "answer": "1", "answer": "2"}',
        b'{"problem": "P", "tests": {"inputs": ["\\ud800"], "outputs": ["1"]}}',
        b'{"problem": "P", "answer": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"problem": "\xe9", "answer": "1"}',
        b'{"problem": "P", "answer": ' + b"7" * 10_000 + b"}",
    ]
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(b"\n".join(lines), mtime=0))
    (tmp_path / "folder.jsonl").mkdir()
    os.mkfifo(tmp_path / "pipe.jsonl")
    text = '[[source]]\nname = "mine"\npath = "rows.jsonl.gz"\n'
    text += "".join(f'[[source]]\nname = "{name}"\npath = "{name}.jsonl"\n' for name in ("folder", "pipe"))
    result, _ = run(write_recipe(tmp_path, text), tmp_path / "out")
    assert result.funnels[0][1].sources["mine"].dropped == {
        "the answer is no text or number": 2,
        "not JSON": 2,
        "the tests cannot be written as JSON": 1,
        "not UTF-8": 1,
        "a control character in the prompt or the gold": 2,
    }
    assert [what.partition(".jsonl: ")[2][:10] for what in result.missing] == ["a folder; ", "no regular"]
