"""Steps that look at one row: what leaves, and what must stay."""

import json
import shutil
from pathlib import Path

import pytest
from leeway_rl.common.errors import DataError
from leeway_rl.data import recipe
from leeway_rl.data.dataset import Dataset

ROOT = Path(__file__).resolve().parent.parent.parent


def judged(tmp_path, step, rows, **options):
    """The reason each row is dropped for, None where it is kept."""
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = recipe.Source(name="mine", path=str(tmp_path / "rows.jsonl"), format=options.pop("form", "plain"))
    recipe.load_alone(source, tmp_path / "dataset")
    chosen = recipe.STEPS[step]
    shutil.rmtree(tmp_path / "work", ignore_errors=True)  # as the step's runner does
    context = recipe.Context(tmp_path, tmp_path / "work", tmp_path / "asked", 1)
    judge = chosen.judge(Dataset(tmp_path / "dataset"), chosen.options(**options), context)
    return [judgement and judgement.reason for batch in judge for judgement in batch]


def reason(tmp_path, step, row, **options):
    (found,) = judged(tmp_path, step, [row], **options)
    return found


@pytest.mark.parametrize("answer", ["3", r"\frac{1}{2}", r"\left(1,2\right]", "-5", "Monday", r"\{1,2\}", "$x=3$", "∞"])
def test_golds_that_can_be_compared_stay(tmp_path, answer):
    assert reason(tmp_path, "verifiable", {"problem": "Find it.", "answer": answer}) is None


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("proof", "the gold says that there is none"),
        ("notfound", "the gold says that there is none"),
        (r"\frac{1}{2", "the gold does not parse"),
        ("}{", "the gold does not parse"),
        ("$3", "the gold does not parse"),
        (r"\left(1,2", "the gold does not parse"),
        ("-", "the gold does not parse"),
        ("1" * 300, "the gold is too long to compare"),
        (["3", "proof"], "the gold says that there is none"),
    ],
)
def test_golds_that_cannot_be_compared_leave(tmp_path, answer, why):
    assert reason(tmp_path, "verifiable", {"problem": "Find it.", "answer": answer}) == why


@pytest.mark.parametrize(
    ("problem", "why"),
    [
        ("Prove that it is so.", "asks for a proof"),
        ("Show that there are infinitely many.", "asks for a proof"),
        ("Show that it is an integer, and find it.", None),
        ("Find a number and prove nothing.", None),
    ],
)
def test_proofs_leave(tmp_path, problem, why):
    assert reason(tmp_path, "verifiable", {"problem": problem, "answer": "3"}) == why


def test_what_its_source_calls_invalid_leaves_unless_told_otherwise(tmp_path):
    row = {"problem": "Find it.", "answer": "3", "question_type": "MCQ", "problem_is_valid": "Incomplete"}
    assert reason(tmp_path, "verifiable", row, form="numina-1.5") == "called invalid by its source"
    assert reason(tmp_path, "verifiable", row, form="numina-1.5", trust_flags=False) is None
    row["problem_is_valid"] = "Yes"
    types = ("proof", "MCQ")
    assert reason(tmp_path, "verifiable", row, form="numina-1.5", question_types=types) == "of a question type to drop"


@pytest.mark.parametrize(
    ("tests", "why"),
    [
        ({"inputs": ["1"], "outputs": ["1"]}, None),
        ({"inputs": [], "outputs": []}, "there are no tests"),
        ({"inputs": ["1", "2"], "outputs": ["1"]}, "tests are incomplete"),
        ({"inputs": ["1", "2"], "outputs": ["1", ""]}, "tests are incomplete"),
        ({"inputs": ["1"], "outputs": None}, "tests are incomplete"),
        ({"test_code": "def check(f):\n    pass", "entry_point": "f"}, "there are no tests"),
        ({"test_code": "def check(f):\n    assert f(1) == 1", "entry_point": "f"}, None),
        ({"assert_case": []}, "there are no tests"),
    ],
)
def test_code_without_complete_tests_leaves(tmp_path, tests, why):
    assert reason(tmp_path, "verifiable", {"prompt": "Do it.", "tests": tests}) == why


@pytest.mark.parametrize(
    ("problem", "why"),
    [
        ("See https://example.org/a.png.", "an external link"),
        ("See [this](/images/a.png).", "an external link"),
        ("![](a.png) Find the area.", "a figure"),
        ("In the figure, $ABCD$ is a square.", "a figure"),
        ("In the adjoining diagram, $ABCD$ is a square.", "a figure"),
        ("The graph is shown below.", "a figure"),
        ("[asy] draw((0,0)--(1,1)); [/asy] Find it.", "a figure"),
        (r"\begin{tikzpicture}\end{tikzpicture} Find it.", "a figure"),
        ("A 5-figure number is even.", None),
        ("How many figures does 2^100 have?", None),
        ("She draws a picture of a cat and sells it for 3 dollars.", None),
        ("The graph of $y = x^2$ meets the line at $P$.", None),
        ("Show your work.", None),
    ],
)
def test_links_and_figures_leave(tmp_path, problem, why):
    assert reason(tmp_path, "links", {"problem": problem, "answer": "3"}) == why


def test_code_keeps_its_links(tmp_path):
    row = {"prompt": "See https://example.org.", "tests": {"inputs": ["1"], "outputs": ["1"]}}
    assert reason(tmp_path, "links", row) is None


def test_long_prompts_leave(tmp_path):
    rows = [{"problem": "3 + 4", "answer": "7"}, {"problem": "3 + 4 " * 100, "answer": "7"}]
    tokenizer = str(ROOT / "presets" / "tiny" / "model")
    assert judged(tmp_path, "length", rows, tokenizer=tokenizer, max_tokens=50) == [None, "the prompt is too long"]


def test_prompts_that_the_chat_template_refuses_leave_and_the_others_stay(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(ROOT / "presets" / "tiny" / "model", folder)
    refusing = "{% if '9' in messages[0]['content'] %}{{ raise_exception('no nines') }}{% endif %}"
    (folder / "chat_template.jinja").write_text(refusing + "{{ messages[0]['content'] }}")
    rows = [{"problem": problem, "answer": "7"} for problem in ("3 + 4", "9 - 2", "5 + 2")]
    whys = judged(tmp_path, "length", rows, tokenizer=str(folder), max_tokens=50)
    assert whys == [None, "the chat template refuses the prompt", None]


def test_a_tokenizer_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"length: tokenizer = './no/such': no such folder"):
        judged(tmp_path, "length", [{"problem": "3", "answer": "7"}], tokenizer="./no/such")


def test_written_solutions_are_read_again_by_the_verifier(tmp_path):
    rows = [
        {"problem": "a", "answer": "0.5", "solution": r"So it is \boxed{\frac{1}{2}}."},
        {"problem": "b", "answer": "24", "solution": "There are 24."},
        {"problem": "c", "answer": "24", "solution": "There are 25."},
        {"problem": "d", "answer": "24"},
        {"problem": "e", "answer": "24", "solution": "I do not know."},
    ]
    differs = "the solution's answer is not the gold"
    assert judged(tmp_path, "answers", rows) == [None, None, differs, None, differs]
    assert reason(tmp_path, "answers", rows[3], without_solution="drop") == "no written solution"


def test_reference_solutions_are_run_against_their_tests(tmp_path):
    def row(tests, *programs):
        return {"question": "q", "input_output": json.dumps(tests), "solutions": json.dumps(programs)}

    double = {"inputs": ["1\n", "4\n"], "outputs": ["2\n", "8\n"]}
    rows = [
        row(double, "print(2 * int(input()))"),
        row(double, "print(2)"),
        row({"inputs": ["1"], "outputs": [["not", 3]]}, "print(2)"),
        row(double),
        row(double, "print(2)", "print(2 * int(input()))"),
    ]
    fails, broken = "the reference solution fails", "tests are incomplete"
    assert judged(tmp_path, "tests", rows, form="taco") == [None, fails, broken, "no reference solution", fails]
    assert reason(tmp_path, "tests", rows[4], form="taco", tries=2) is None
