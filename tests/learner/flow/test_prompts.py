"""Rows of every kind become prompts, the choice depends on the ticket alone, and a broken row is named."""

import json

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from leeway_rl.common.config import Data
from leeway_rl.common.errors import DataError
from leeway_rl.common.prompts import sampling_seed
from leeway_rl.learner.flow.prompts import load_prompts


class Words:
    """A tokenizer of words, with a chat template that names the roles."""

    chat_template = "yes"

    def apply_chat_template(self, messages, tokenize, add_generation_prompt):
        return " ".join(f"<{m['role']}> {m['content']}" for m in messages) + " <assistant>"

    def __call__(self, text, add_special_tokens):
        self.last = text
        return {"input_ids": [len(word) for word in text.split()]}


def load(path, **changes):
    return load_prompts(Data(path=str(path), **changes), Words(), seed=3)


@pytest.fixture
def rows(tmp_path):
    """Write rows as JSONL and give the path."""

    def write(*values):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(value) + "\n" for value in values))
        return path

    return write


def test_plain_rows_and_rows_of_the_training_schema_mean_the_same(rows):
    plain = {"prompt": "add 1 2", "answer": "3"}
    schema = {
        "data_source": "x",
        "prompt": [{"role": "user", "content": "add 1 2"}],
        "ability": "math",
        "reward_model": {"ground_truth": '["3"]', "style": "rule"},
    }
    first, second = load(rows(plain, schema)).prompts
    np.testing.assert_array_equal(first.tokens_P, second.tokens_P)
    assert first.ground_truth == second.ground_truth == ("3",)
    assert (first.ability, first.prompt_id) == ("math", "rows.jsonl:1")


@pytest.mark.parametrize(
    ("truth", "golds"),
    [("204", ("204",)), ("0.50", ("0.50",)), ('["1", "2"]', ("1", "2")), ('"x=3"', ("x=3",)), ("(1,2)", ("(1,2)",))],
)
def test_a_ground_truth_is_taken_as_it_is_written(rows, truth, golds):
    row = {"prompt": "p", "reward_model": {"ground_truth": truth}}
    assert load(rows(row)).prompts[0].ground_truth == golds


def test_parquet_rows_are_read(tmp_path):
    path = tmp_path / "rows.parquet"
    table = {"prompt": [[{"role": "user", "content": "p q"}]], "reward_model": [{"ground_truth": "7", "style": "rule"}]}
    pyarrow.parquet.write_table(pyarrow.table(table), path)
    assert load(path).prompts[0].ground_truth == ("7",)


def test_system_examples_and_suffix_stand_where_they_belong(rows):
    tokenizer = Words()
    data = Data(
        path=str(rows({"prompt": "1+1", "answer": "2"})), system="be brief", suffix=" now", examples=(("0+1", "1"),)
    )
    load_prompts(data, tokenizer, seed=0)
    assert tokenizer.last == "<system> be brief <user> 0+1 <assistant> 1 <user> 1+1 now <assistant>"


def test_generated_problems_come_from_reasoning_gym():
    source = load("basic_arithmetic", source="reasoning_gym", size=5, options={"max_terms": 2})
    assert len(source) == 5
    assert source.prompts[0].prompt_id == "basic_arithmetic:0"


def test_prompts_that_are_too_long_are_dropped_and_counted(rows):
    path = rows({"prompt": "a b c d e f", "answer": "1"}, {"prompt": "a", "answer": "1"})
    source = load(path, max_prompt_tokens=4)
    assert (len(source), source.dropped) == (1, {"longer than data.max_prompt_tokens = 4": 1})


def rated(failures, **others):
    return {
        "prompt": "p",
        "answer": "1",
        "extra_info": {"index": 3, "model_difficulty": {"base-7B": failures, **others}},
    }


def test_the_offline_filter_drops_what_the_named_model_solved_never_or_always(rows):
    path = rows(rated(0), rated(16), rated(1), rated(15), rated(8), {"prompt": "p", "answer": "1"})
    assert (len(load(path)), load(path).dropped) == (6, {})
    source = load(path, difficulty_model="base-7B")
    assert [prompt.prompt_id for prompt in source.prompts] == ["rows.jsonl:3", "rows.jsonl:4", "rows.jsonl:5"]
    assert source.dropped == {
        "solved never or always by base-7B": 2,
        "not rated by data.difficulty_model = base-7B": 1,
    }
    assert len(load(path, difficulty_model="base-7B", difficulty_tries=32)) == 4


@pytest.mark.parametrize("failures", [17, -1, "many"])
def test_a_row_without_a_usable_difficulty_is_named(rows, failures):
    with pytest.raises(
        DataError, match=rf"rows.jsonl:2: .*'base-7B'\] = '?{failures}'?: .* 0 to data.difficulty_tries"
    ):
        load(rows(rated(3), rated(failures)), difficulty_model="base-7B")


def test_a_model_that_no_row_is_rated_by_is_named(rows):
    with pytest.raises(DataError, match=r"no prompt is left \(1 not rated by data.difficulty_model = other"):
        load(rows(rated(3)), difficulty_model="other")


def test_sampling_seeds_differ_by_ticket_and_run():
    assert len({sampling_seed(run, ticket) for run in range(10) for ticket in range(100)}) == 1000
    assert sampling_seed(1, 2) == sampling_seed(1, 2) < 2**62


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "p"}, "rows.jsonl:2: a row without an answer"),
        ({"answer": "1"}, "rows.jsonl:2: key 'prompt' is missing; keys found: answer"),
        ({"prompt": "", "answer": "1"}, "prompt is a text or a list"),
        ({"prompt": [{"role": "user"}], "answer": "1"}, "prompt is a text or a list"),
        ({"prompt": "p", "answer": []}, "answer is a text or a list of texts"),
        ({"prompt": "p", "answer": " "}, "answer is a text or a list of texts"),
        ({"prompt": "p", "reward_model": {"ground_truth": None}}, "reward_model.ground_truth is a JSON text"),
        (["p"], "a row is an object"),
    ],
)
def test_a_broken_row_is_named_by_file_and_line(rows, row, message):
    with pytest.raises(DataError, match=message):
        load(rows({"prompt": "p", "answer": "1"}, row))


def test_broken_json_is_named_by_line(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "p", "answer": "1"}\n{"prompt": \n')
    with pytest.raises(DataError, match=r"rows.jsonl:2: not JSON"):
        load(path)


def test_files_that_are_not_there_or_not_known_are_named(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        load(tmp_path / "none.jsonl")
    (tmp_path / "rows.xml").touch()
    with pytest.raises(DataError, match=r"\.xml ending"):
        load(tmp_path / "rows.xml")
    (tmp_path / "rows.parquet").write_text("no")
    with pytest.raises(DataError, match="not a Parquet file"):
        load(tmp_path / "rows.parquet")


def test_an_empty_file_and_only_long_prompts_are_refused(rows):
    with pytest.raises(DataError, match="no prompt is left"):
        load(rows())


def test_an_unknown_generator_is_named():
    with pytest.raises(DataError, match="no_such_generator"):
        load("no_such_generator", source="reasoning_gym")


def test_a_hub_dataset_that_cannot_be_loaded_is_named(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match="cannot be loaded"):
        load("nobody/nothing", source="hub")


def test_a_dataset_loaded_by_the_hubs_own_library_is_read(rows, tmp_path):
    """The real loading code on a local dataset folder, which load_dataset takes like a hub name."""
    rows({"prompt": "p", "answer": "1"}, {"prompt": "q", "answer": "2"})
    assert [p.ground_truth for p in load(tmp_path, source="hub").prompts] == [("1",), ("2",)]


def test_tests_of_a_code_row_pass_through_as_one_json_text(rows):
    tests = {"inputs": ["0.50\n"], "outputs": ["1"]}
    skywork = {"prompt": "p", "ability": "code", "reward_model": {"ground_truth": json.dumps(tests)}}
    for row in ({"prompt": "p", "tests": tests}, {"prompt": "p", "tests": json.dumps(tests)}, skywork):
        prompt = load(rows(row)).prompts[0]
        assert prompt.ability == "code"
        assert [json.loads(text) for text in prompt.ground_truth] == [tests]


@pytest.mark.parametrize("tests", ["", "{", {}, [], 7])
def test_a_code_row_without_tests_is_named(rows, tests):
    with pytest.raises(DataError, match=r"rows.jsonl:1: the tests of a code row"):
        load(rows({"prompt": "p", "tests": tests}))


@pytest.mark.parametrize("name", ["rows.csv", "rows.json"])
def test_training_reads_other_files_and_columns_by_their_names(tmp_path, name):
    path = tmp_path / name
    row = {"question": "add 1 2", "solution": "3"}
    path.write_text("question,solution\nadd 1 2,3\n" if name == "rows.csv" else json.dumps({"rows": [row]}))
    (prompt,) = load(path, columns={"prompt": "question", "answer": "solution"}).prompts
    assert (prompt.prompt_id, prompt.ground_truth) == (f"{name}:1", ("3",))
    with pytest.raises(
        DataError, match=rf"{name}:1: key 'prompt' is missing; keys found: question, solution; data.col"
    ):
        load(path)
    with pytest.raises(DataError, match=rf"{name}:1: no column 'query'.* columns found: question, solution"):
        load(path, columns={"prompt": "query"})


def test_chat_rows_are_read_by_their_messages(rows):
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "add 1 2"}]
    plain, written = load(rows({"messages": chat, "answer": "3"}, {"prompt": json.dumps(chat), "answer": "3"})).prompts
    np.testing.assert_array_equal(plain.tokens_P, written.tokens_P)
    assert len(plain.tokens_P) == 7


def test_columns_of_a_published_set_go_by_their_names_too(rows, tmp_path):
    rows({"question": "p", "solution": "1"})
    columns = {"prompt": "question", "answer": "solution"}
    assert load(tmp_path, source="hub", columns=columns).prompts[0].ground_truth == ("1",)
    with pytest.raises(DataError, match=r"row 1: no column 'gold'.* columns found: question, solution"):
        load(tmp_path, source="hub", columns={"prompt": "question", "answer": "gold"})
