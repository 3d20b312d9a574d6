"""Rows of every kind of file are the same rows, their columns are found by name, and what is wrong is named."""

import csv
import gzip
import io
import json

import pyarrow
import pyarrow.parquet
import pytest
from leeway_rl.common.config import Data, compose
from leeway_rl.common.errors import ConfigError, DataError
from leeway_rl.common.prompts import row_of
from leeway_rl.common.rows import file_rows, under_known_names

ROWS = [
    {"question": 'Say "a, b"\nor é 北.', "solution": "0.50"},
    {"question": "1+1?", "solution": "2"},
]


def as_csv(rows):
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_parquet(rows):
    made = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), made)
    return made.getvalue()


def as_lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


KINDS = {
    "r.jsonl": as_lines,
    "r.JSONL.gz": lambda rows: gzip.compress(as_lines(rows), mtime=0),
    "r.gz": lambda rows: gzip.compress(as_lines(rows), mtime=0),
    "r.json": lambda rows: json.dumps(rows).encode(),
    "r.bom.json": lambda rows: b"\xef\xbb\xbf" + json.dumps(rows, indent=1).encode(),
    "r.held.json": lambda rows: json.dumps({"version": 1, "data": rows}).encode(),
    "r.json.gz": lambda rows: gzip.compress(json.dumps(rows).encode(), mtime=0),
    "r.csv": as_csv,
    "r.bom.CSV": lambda rows: b"\xef\xbb\xbf" + as_csv(rows),
    "r.csv.gz": lambda rows: gzip.compress(as_csv(rows), mtime=0),
    "r.parquet": as_parquet,
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_gives_the_same_rows_under_our_names(tmp_path, name):
    (tmp_path / name).write_bytes(KINDS[name](ROWS))
    data = Data(path="", columns={"prompt": "question", "answer": "solution"})
    found = list(file_rows(tmp_path / name, data.columns))
    assert [number for number, _ in found] == [1, 2]
    rows = [row_of(values, "id", "where", data) for _, values in found]
    assert [(row.messages[0]["content"], row.ground_truth) for row in rows] == [
        ('Say "a, b"\nor é 北.', ("0.50",)),
        ("1+1?", ("2",)),
    ]


@pytest.mark.parametrize("name", KINDS)
def test_a_column_that_is_not_there_is_named_with_the_row_and_the_columns_found(tmp_path, name):
    (tmp_path / name).write_bytes(KINDS[name](ROWS))
    (_, first), (_, second) = file_rows(tmp_path / name, {"prompt": "quest"})
    for number, wrong in ((1, first), (2, second)):
        said = f"{name}:{number}: no column 'quest', which data.columns.prompt names; columns found: question, solution"
        with pytest.raises(DataError, match=said):
            row_of(wrong, "id", "where")


def read(tmp_path, name, content, columns=None):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(file_rows(tmp_path / name, columns))


CSV = "prompt,answer\n"


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        (
            "r.json",
            '{"prompt": "p"}\n{"prompt": "q"}\n',
            r"r.json: not JSON.*a row a line is JSON lines: name .* .jsonl",
        ),
        ("r.json", "[{", r"r.json: not JSON: Expecting"),
        ("r.json", b'["\xe9"]', r"r.json: not UTF-8: byte 0xe9 at position 3"),
        (
            "r.json",
            '{"prompt": "p", "answer": "1"}',
            r"an object with the keys prompt, answer; expected a list of rows",
        ),
        (
            "r.json",
            '{"prompt": ["p"], "answer": ["1"]}',
            r"an object with the keys prompt, answer; expected a list of rows",
        ),
        ("r.json", '{"train": [], "test": []}', r"an object with 2 lists \(train, test\); expected a list of rows"),
        ("r.json", '{"rows": {"0": 1}}', r"an object with 0 lists; expected a list of rows"),
        ("r.json", "7", r"found int; expected a list of rows"),
        ("r.csv", "a,b,a\n1,2,3\n", r"r.csv: the first line has the column 'a' twice"),
        ("r.csv", "a,,b\n1,2,3\n", r"r.csv: the first line has a column without a name"),
        ("r.csv.gz", "prompt,answer\np,1\n", r"r.csv.gz:1: the file breaks off here"),
        ("r.json.gz", gzip.compress(b"[" + b"1," * 9999, mtime=0)[:-20], r"r.json.gz:1: the file breaks off here"),
        ("r.xlsx", "", r".xlsx ending; rows are read from .jsonl, .json, .csv"),
        ("r", "", r"no ending"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path, name, content, why):
    with pytest.raises(DataError, match=why):
        read(tmp_path, name, content)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (
            "p",
            r"r.csv:2: not as many fields as the first line: 1 fields, the first line has 2 \(prompt, answer\); a text",
        ),
        ("p,q,1", r"r.csv:2: .*: 3 fields, the first line has 2"),
        ('"p"q,1', r"r.csv:2: not CSV: .* \(line 3 of the file\)"),
        (b"\xe9,1", r"r.csv:2: not UTF-8: byte 0xe9 in column 'prompt'"),
        ("p,", r"r.csv:2: a row without an answer"),
        (",1", r"r.csv:2: prompt is a text or a list"),
    ],
)
def test_a_row_of_csv_that_cannot_be_read_is_named_and_the_others_are_read(tmp_path, line, why):
    line = line if isinstance(line, bytes) else line.encode()
    (_, first), (number, bad), (_, last) = read(tmp_path, "r.csv", CSV.encode() + b"a,1\n" + line + b"\n\nb,2\n")
    assert (first["prompt"], number, last["prompt"]) == ("a", 2, "b")
    with pytest.raises(DataError, match=why):
        row_of(bad, "id", f"{tmp_path}/r.csv:{number}")


def test_a_quote_that_never_closes_does_not_swallow_the_rest_in_silence(tmp_path):
    found = read(tmp_path, "r.csv", CSV + 'p,1\n"q,1\nr,1\n')
    assert (found[0][1]["prompt"], len(found)) == ("p", 2)
    assert "r.csv:2: not CSV: unexpected end of data" in str(found[1][1])


def test_objects_messages_and_tests_of_a_csv_file_are_json_texts(tmp_path):
    tests = {"inputs": ["1\n" * 70_000], "outputs": ["1"]}  # longer than Python's own limit of a field
    rows = [
        {
            "messages": json.dumps([{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]),
            "reward_model": json.dumps({"ground_truth": '["2", "5"]'}),
            "extra_info": json.dumps({"model_difficulty": {"m": 3}}),
            "tests": "",
        },
        {"messages": "[1, 2] reversed?", "reward_model": "", "extra_info": "", "tests": json.dumps(tests)},
    ]
    first, second = (row_of(values, "id", "w") for _, values in read(tmp_path, "r.csv", as_csv(rows)))
    assert [message["role"] for message in first.messages] == ["system", "user"]
    assert (first.ground_truth, first.difficulty) == (("2", "5"), {"m": 3})
    assert (second.messages[0]["content"], second.ability) == ("[1, 2] reversed?", "code")
    assert json.loads(second.ground_truth[0]) == tests


def test_a_broken_parquet_file_is_named_and_of_its_rows_the_broken_one_alone(tmp_path):
    whole = as_parquet([{"prompt": "p" * 50, "answer": str(n)} for n in range(5000)])
    middle = len(whole) // 2
    with pytest.raises(DataError, match=r"r.parquet: cannot be read behind row \d+|not a Parquet file"):
        read(tmp_path, "r.parquet", b"PAR1" + b"\xff" * (middle - 4) + whole[middle:])
    texts = pyarrow.array([b"a", b"\xe9", b"c"]).cast(pyarrow.string(), safe=False)
    pyarrow.parquet.write_table(pyarrow.table({"prompt": texts}), tmp_path / "r.parquet")
    first, bad, last = (values for _, values in file_rows(tmp_path / "r.parquet"))
    assert (first, last) == ({"prompt": "a"}, {"prompt": "c"})
    with pytest.raises(DataError, match=r"r.parquet:2: column prompt: not UTF-8: byte 0xe9"):
        row_of(bad, "id", "r.parquet:2")


def known(row, **columns):
    return under_known_names(row, columns, "f:1")


def test_messages_are_the_prompt_where_there_is_no_other():
    chat = [{"role": "user", "content": "u"}]
    assert known({"messages": chat})["prompt"] == chat
    assert known({"messages": chat, "prompt": "p"})["prompt"] == "p"
    assert known({"conversation": chat, "prompt": "p"}, messages="conversation")["prompt"] == chat
    assert known({"conversation": chat}, prompt="conversation")["prompt"] == chat


def test_a_column_inside_an_object_is_named_with_a_dot_and_a_whole_name_goes_before():
    row = {"extra": {"gold": {"text": "5"}}, "a.b": "whole", "a": {"b": "inner"}}
    found = known(row, answer="extra.gold.text", prompt="a.b")
    assert (found["answer"], found["prompt"]) == ("5", "whole")
    with pytest.raises(DataError, match=r"f:1: no column 'extra.gold.x'.* columns found: extra, a.b, a"):
        known(row, answer="extra.gold.x")


def test_a_row_is_judged_by_the_columns_that_are_named_and_by_no_other():
    row = {"prompt": "p", "answer": "a long solution", "final": "5", "tests": {"inputs": [""], "outputs": [""]}}
    assert row_of(known(row), "id", "w").ability == "code"
    judged = row_of(known(row, answer="final"), "id", "w")
    assert (judged.ability, judged.ground_truth) == ("math", ("5",))
    swapped = known({"prompt": "5", "answer": "1+4?"}, prompt="answer", answer="prompt")
    assert (swapped["prompt"], swapped["answer"]) == ("1+4?", "5")


def test_rows_that_are_judged_in_two_ways_may_each_lack_the_other_column():
    columns = {"answer": "gold", "tests": "cases"}
    assert known({"prompt": "p", "gold": "5"}, **columns)["answer"] == "5"
    assert known({"prompt": "p", "cases": {"inputs": [""]}}, **columns)["tests"] == {"inputs": [""]}
    with pytest.raises(DataError, match=r"no column 'gold'.* columns found: prompt"):
        known({"prompt": "p"}, **columns)


def test_columns_are_said_in_a_preset_or_one_by_one_and_others_are_refused(tmp_path):
    preset = tmp_path / "mine.toml"
    preset.write_text('[data]\ncolumns = {prompt = "question", answer = "solution"}\n')
    config = compose(["tiny", str(preset)], ["data.columns.answer=final.text"])
    assert config.data.columns == {"prompt": "question", "answer": "final.text"}
    assert compose(["tiny"], ['data.columns={prompt="q"}']).data.columns == {"prompt": "q"}
    with pytest.raises(ConfigError, match=r"data.columns.promt = .*'prompt'"):
        compose(["tiny"], ["data.columns.promt=q"])


def test_an_empty_prompt_beside_messages_is_no_prompt_and_empty_messages_are_no_messages():
    chat = [{"role": "user", "content": "u"}]
    assert known({"messages": chat, "prompt": None})["prompt"] == chat  # as Parquet has them
    assert known({"messages": None, "prompt": "p"})["prompt"] == "p"
    assert known({"messages": None, "prompt": "p"}, messages="messages")["prompt"] == "p"


# --- what nobody could use: named with file, row and column, never a traceback ---------------------------------------

GOOD = b'{"prompt": "1+2", "answer": "3"}\n'
DEEP = b"[" * 100_000 + b"]" * 100_000
MILLION = b"7" * 1_000_000
BROKEN_LINES = {
    "latin-1": (b'{"prompt": "1+\xe92", "answer": "3"}', "not UTF-8: byte 0xe9 at position 15 of the line"),
    "half a character as bytes": (b'{"prompt": "\xed\xa0\x80", "answer": "3"}', "not UTF-8: byte 0xed"),
    "half a character in the prompt": (b'{"prompt": "a\\ud800", "answer": "3"}', r"prompt: half a character"),
    "in an alternative": (b'{"prompt": "1", "answer": ["3", "\\ud800"]}', r"answer: half a character"),
    "in a test": (b'{"prompt": "1", "tests": {"inputs": ["\\ud800"]}}', r"column tests.inputs\[0\]: half a char"),
    "in a key": (b'{"prompt": "1", "tests": {"\\ud800": 1}}', "column tests: a key that is no text"),
    "in a role": (b'{"prompt": [{"role": "\\udfff", "content": "1"}], "answer": "3"}', "prompt: half a character"),
    "in a name of a column": (b'{"\\ud800": 1}', r"key 'prompt' is missing; keys found: \\ud800"),
    "deep": (DEEP, "not JSON: more than 100 lists and objects inside"),
    "deep in a column nobody uses": (
        b'{"prompt": "1", "answer": "3", "x": ' + DEEP + b"}",
        "more than 100 lists and objects",
    ),
    "deep enough to be read": (
        b'{"prompt": "1", "tests": {"inputs": ' + b"[" * 300 + b"]" * 300 + b"}}",
        "not JSON: more than 100 lists and objects",
    ),
    "NUL": (b'{"prompt": "1\x002", "answer": "3"}', "not JSON: Invalid control character"),
    "a line of NULs": (b"\x00\x00", "not JSON: Expecting value"),
    "a control character": (b'{"prompt": "1\\u00002", "answer": "3"}', r"the control character '\\x00'"),
    "a key twice": (
        b'{"prompt": "1", "answer": "3", "answer": "4"}',
        "not JSON: the key 'answer' stands twice in one object",
    ),
    "NaN": (b'{"prompt": "1", "answer": NaN}', "answer is a text or a list of texts, found 'nan'"),
    "Infinity": (b'{"prompt": "1", "answer": -Infinity}', "answer is a text or a list of texts, found '-inf'"),
    "no object": (b"[1]", "a row is an object with prompt and answer, found list"),
    "a million digits for a prompt": (b'{"prompt": ' + MILLION + b', "answer": "3"}', "prompt is a text or a list"),
}


@pytest.mark.parametrize("what", BROKEN_LINES)
def test_a_line_that_cannot_be_used_is_named_and_the_others_are_read(tmp_path, what):
    line, why = BROKEN_LINES[what]
    (_, first), (number, bad), (_, last) = read(tmp_path, "r.jsonl", GOOD + line + b"\n" + GOOD)
    assert first == last == {"prompt": "1+2", "answer": "3"}
    with pytest.raises(DataError, match=rf"r.jsonl:2: .*{why}") as told:
        row_of(bad, "id", f"{tmp_path}/r.jsonl:{number}")
    assert str(told.value).encode()
    assert len(str(told.value)) < 1000


def test_a_number_of_a_million_digits_is_read_as_what_it_is(tmp_path):
    ((_, row),) = read(tmp_path, "r.jsonl", b'{"prompt": "1", "answer": ' + MILLION + b"}\n")
    assert row_of(row, "id", "w").ground_truth == (MILLION.decode(),)


@pytest.mark.parametrize("name", ["r.json", "r.json.gz"])
def test_a_list_in_json_that_is_nested_too_deep_is_refused_with_its_file(tmp_path, name):
    for content in (DEEP, b"[" * 100_000, b'[{"prompt": "1"}, ' + DEEP + b"]"):
        content = gzip.compress(content, mtime=0) if name.endswith("gz") else content
        with pytest.raises(DataError, match=rf"{name}: not JSON: more than 100 lists"):
            read(tmp_path, name, content)


def test_the_first_line_of_a_csv_file_is_utf_8_too(tmp_path):
    for content in (b"prompt,answ\xe9r\n1,2\n", "prompt,answer\n1,2\n".encode("utf-16")):
        with pytest.raises(DataError, match=r"r.csv: the first line is not UTF-8: byte 0x(e9|ff); write the file"):
            read(tmp_path, "r.csv", content)


def test_what_is_no_file_is_told_from_what_is_not_there(tmp_path):
    import os

    (tmp_path / "folder.jsonl").mkdir()
    os.mkfifo(tmp_path / "pipe.jsonl")
    for name, why in (("folder.jsonl", "a folder"), ("pipe.jsonl", "no regular file"), ("none.jsonl", "no such file")):
        with pytest.raises(DataError, match=rf"{name}: {why}"):
            list(file_rows(tmp_path / name))


def test_values_of_a_table_that_cannot_be_read_or_written_again_are_named_where_they_are_needed(tmp_path):
    import datetime
    import decimal

    far = pyarrow.array([2**62, 1], pyarrow.timestamp("us"))
    table = {"prompt": ["a", "b"], "answer": ["1", "2"], "when": far, "image": [b"\xff", b"x"]}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "r.parquet")
    rows = [row_of(values, "id", "w").ground_truth for _, values in file_rows(tmp_path / "r.parquet")]
    assert rows == [("1",), ("2",)], "columns that nobody needs do no harm"
    for column, value, why in (
        ("answer", decimal.Decimal("1.50"), "answer is a text or a list of texts, found '1.50'"),
        ("answer", datetime.date(2020, 1, 1), "answer is a text or a list of texts, found '2020-01-01'"),
        ("prompt", b"1", "prompt is a text or a list"),
        ("tests", {"inputs": [b"\xff"], "outputs": ["1"]}, r"column tests.inputs\[0\]: bytes, expected a text"),
    ):
        row = {"prompt": "a", "answer": "1"} | {column: value}
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "r.parquet")
        ((_, bad),) = file_rows(tmp_path / "r.parquet")
        with pytest.raises(DataError, match=f"r.parquet:1: {why}"):
            row_of(bad, "id", "r.parquet:1")
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "r.parquet")
    (_, bad), (_, good) = file_rows(tmp_path / "r.parquet", {"answer": "when"})
    assert str(good["answer"]) == "1970-01-01 00:00:00.000001"
    with pytest.raises(
        DataError, match=r"r.parquet:1: column answer: cannot be read: .*range .answer is column 'when'"
    ):
        row_of(bad, "id", "r.parquet:1", Data(path="", columns={"answer": "when"}))
