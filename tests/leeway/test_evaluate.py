"""What the desk shows of an evaluation, and the configuration that it stores for its workers."""

import io
import json
import shutil
from dataclasses import replace

import pytest
from leeway_rl.common.config import compose, dump
from leeway_rl.common.errors import ConfigError, DataError
from leeway_rl.common.settings import written
from leeway_rl.evaluation.compare import read_result
from leeway_rl.leeway.evaluating.evaluate import asked_as, columns_to_prepare, evaluate, exported_run, regrade, table
from leeway_rl.leeway.evaluating.sampling import Asking, begin, configuration
from leeway_rl.leeway.reporting.evaluation_pictures import of_one
from rich.console import Console

ASKING = Asking(
    engine="torch",
    temperature=0.6,
    top_p=0.95,
    max_tokens=64,
    max_prompt_tokens=32,
    seed=5,
    workers=2,
    redis_url=None,
    run=None,
    settings=("verifier.jobs=3",),
)


def test_the_workers_find_what_was_asked(tmp_path, tiny_model):
    config = configuration(tmp_path / "p.jsonl", str(tiny_model), tmp_path / "out", 16, ASKING)
    assert (config.rollout.engine, config.flow.temperature, config.flow.seed) == ("torch", 0.6, 5)
    assert (config.train.max_response_tokens, config.data.max_prompt_tokens) == (64, 32)
    assert config.train.group_size == 16  # room for it in an engine
    assert (config.weights.dtype, config.rollout.dtype) == ("float32", "float32")  # the model's own
    assert config.weights.folder == str(tmp_path / "out" / "weights")
    assert config.verifier.jobs == 3


def test_more_than_the_models_context_is_refused_before_anything_starts(tmp_path, tiny_model):
    with pytest.raises(ConfigError, match=r"--max-tokens 32768 = 32800 is more than .*max_position_embeddings = 512"):
        configuration(tmp_path / "p.jsonl", str(tiny_model), tmp_path, 4, replace(ASKING, max_tokens=32768))


def test_the_longer_context_of_yarn_can_be_sampled(tmp_path, tiny_model):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    keys = json.loads((folder / "config.json").read_text())
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
    (folder / "config.json").write_text(json.dumps(keys | {"max_position_embeddings": 64, "rope_parameters": yarn}))
    fits, longer = (replace(ASKING, max_tokens=tokens) for tokens in (100, 300))
    configured = configuration(tmp_path / "p.jsonl", str(folder), tmp_path / "out", 16, fits)
    assert configured.longest_sequence == 132
    with pytest.raises(ConfigError, match=r"300 = 332 is more than .* 64 x factor 4 of its yarn rope = 256"):
        configuration(tmp_path / "p.jsonl", str(folder), tmp_path / "out", 16, longer)


def test_a_missing_model_is_told_before_benchmarks_are_fetched(tmp_path):
    with pytest.raises(DataError, match="model nowhere: there is no such folder"):
        evaluate(["aime24"], "nowhere", None, tmp_path / "out", [], ASKING)


def test_a_command_that_was_refused_does_not_bind_the_mended_one(tmp_path, tiny_model):
    many = replace(ASKING, max_tokens=32768)
    for name in ("one", "other"):
        (tmp_path / f"{name}.jsonl").write_text('{"prompt": "1+2=", "answer": "3"}\n')
        with pytest.raises(ConfigError, match="is more than the context of"):
            evaluate([str(tmp_path / f"{name}.jsonl")], str(tiny_model), None, tmp_path / "out", [], many)


def test_a_folder_without_a_result_is_not_compared(tmp_path):
    with pytest.raises(DataError, match="its evaluation has not ended"):
        read_result(tmp_path)


def test_a_step_of_what_is_no_run_is_refused(tmp_path, tiny_model):
    with pytest.raises(ConfigError, match="is no run's folder"):
        evaluate(["aime24"], str(tiny_model), 3, tmp_path / "out", [], ASKING)


def test_a_run_is_asked_as_it_was_trained():
    trained = compose(["tiny"], ['data.suffix="\\n=?"', 'data.examples=[["1+1", "2"]]'])
    again = compose(["tiny"], asked_as(trained))
    assert (again.data.suffix, again.data.examples) == ("\n=?", (("1+1", "2"),))
    assert again.rollout.engine == "torch"


def test_what_a_run_s_sources_do_not_agree_on_is_left_to_its_default_with_a_word_on_it(capsys):
    sources = 'data=[{name="a",path="x",system="s",suffix="="},{name="b",path="y",system="s"}]'
    again = compose(["tiny"], asked_as(compose(["tiny"], [sources])))
    assert (again.data.system, again.data.suffix) == ("s", None)
    said = capsys.readouterr().err
    assert said == "data.suffix is not the run's: its sources differ (a '=', b None); --set data.suffix=… chooses\n"


def test_a_run_s_environment_is_left_out_with_a_word_on_it(capsys):
    again = compose(["tiny"], asked_as(compose(["tiny"], ["environment.use=calculator"])))
    assert again.environment is None
    said = capsys.readouterr().err
    assert said.startswith("the run's environment (calculator) is left out: each problem is answered in one turn")


def test_several_sources_are_no_question_of_an_evaluation(tmp_path, tiny_model):
    several = replace(ASKING, settings=('data=[{name="a",path="x"},{name="b",path="y"}]',))
    with pytest.raises(ConfigError, match="the rows of the file that is named to them"):
        configuration(tmp_path / "p.jsonl", str(tiny_model), tmp_path / "out", 16, several)


def test_columns_are_those_of_the_files_that_are_prepared_and_not_of_the_problems_made_of_them():
    said = ['data.columns={prompt="question"}', "verifier.jobs=3", "data.columns.answer=final"]
    asking, words = columns_to_prepare(replace(ASKING, settings=tuple(said)), ["--size", "3"])
    assert asking.settings == ("verifier.jobs=3",)
    assert words[:3] == ["--size", "3", "--columns"]
    assert json.loads(words[3]) == {"prompt": "question", "answer": "final"}
    assert columns_to_prepare(ASKING, ["--size", "3"]) == (ASKING, ["--size", "3"])
    with pytest.raises(ConfigError, match=r"data.columns.promt"):
        columns_to_prepare(replace(ASKING, settings=("data.columns.promt=q",)), [])


def test_a_run_s_texts_reach_its_evaluation_whole():
    said = {"data.system": "be 😀 \\boxed{}", "data.suffix": "\n=?"}
    trained = compose(["tiny"], [written(key, value) for key, value in said.items()])
    again = compose(["tiny"], asked_as(trained))
    assert (again.data.system, again.data.suffix) == tuple(said.values())


def estimate(value):
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


RESULT = {
    "asked": {"temperature": 1.0, "top_p": 1.0, "max_tokens": 64, "seed": 0},
    "benchmarks": {
        "sums": {
            "problems": 2,
            "ungraded": 1,
            "n": 4,
            "avg_at_n": estimate(0.5),
            "pass_at_k": {"1": estimate(0.5), "2": estimate(0.7), "4": estimate(0.9)},
            "tokens_mean": 1234.5,
            "truncated_share": 0.25,
            "no_answer_share": 0.125,
            "lengths": {"edges": [0, 32, 64], "correct": [1, 2], "not correct": [0, 2], "truncated": [0, 2]},
            "by_problem": {"a": {"graded": 4, "correct": 3}, "b": {"graded": 3, "correct": 0}},
        },
        "broken": {"problems": 0, "ungraded": 4, "by_problem": {}},
    },
}


def test_the_table_has_a_row_a_benchmark():
    console = Console(width=120, file=io.StringIO())
    console.print(table(RESULT))
    said = console.file.getvalue()
    assert "2 (1 ungraded)" in said
    assert "0.500 [0.400, 0.600]" in said
    assert "@4 0.900 [0.800, 1.000]" in said
    assert "25.0 %" in said
    assert "nothing is graded" in said


def test_the_picture_passes_over_what_has_no_figure():
    assert of_one("e", RESULT).startswith(b"\x89PNG")
    assert of_one("e", RESULT | {"benchmarks": {}}).startswith(b"\x89PNG")


def run_of(tmp_path, *steps):
    """A run's folder, as far as it is looked at."""
    run = tmp_path / "runs" / "my-run"
    for step in steps:
        (run / "checkpoints" / f"step-{step:06d}").mkdir(parents=True)
    (run / "config.toml").write_text(dump(compose(["tiny"], [])))
    return run


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (
            None,
            r"step 2 of run my-run, and --model .*, whose newest checkpoint is step 4 now; --model .* --step 2 goes on",
        ),
        (4, r"step 2 of run my-run, and --model is run my-run, and --step is 4; --model .* --step 2 goes on with it"),
    ],
)
def test_an_evaluation_goes_on_with_the_checkpoint_that_it_was_begun_with(tmp_path, step, why):
    out, run = tmp_path / "out", run_of(tmp_path, 2, 4)
    (out / "model").mkdir(parents=True)
    (out / "model" / "README.md").write_text("---\nlicense: x\n---\n# my-run, step 2\n")
    assert exported_run(str(run), 2, out, ASKING)[1] == str(out / "model")
    with pytest.raises(ConfigError, match=why):
        exported_run(str(run), step, out, ASKING)
    other = run.rename(run.with_name("another"))
    with pytest.raises(ConfigError, match="begun with step 2 of run my-run, and --model is run another"):
        exported_run(str(other), 2, out, ASKING)


def test_begun_anew_a_folder_loses_what_was_made_there_and_nothing_else(tmp_path):
    for name in ("sample.json", "responses.parquet", "verdicts.json", "notes.txt"):
        (tmp_path / name).write_text("x")
    for name in ("parts", "model", "mine"):
        (tmp_path / name).mkdir()
    begin(tmp_path, ASKING)
    assert len(list(tmp_path.iterdir())) == 7
    begin(tmp_path, replace(ASKING, anew=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "notes.txt"]


def test_grading_anew_takes_settings_of_the_verifier_alone(tmp_path):
    with pytest.raises(ConfigError, match=r"--set data.suffix=x: grading anew takes keys of verifier alone"):
        regrade(tmp_path, ("data.suffix=x",), anew=False)
    with pytest.raises(ConfigError, match=r"verifier.math"):
        regrade(tmp_path, ("verifier.math=guess",), anew=False)
