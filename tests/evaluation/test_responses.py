"""Responses on disk: parts, the one file, and what an interruption leaves."""

import shutil

import pyarrow.parquet as pq
import pytest
from leeway_rl.common.errors import DataError
from leeway_rl.evaluation.folder import same_or_refused
from leeway_rl.evaluation.responses import ResponseStore


def rows(problem, count=2):
    return [
        {
            "id": problem,
            "index": index,
            "response": f"{problem}-{index}",
            "tokens": 3,
            "finished": True,
            "verdict": "wrong",
            "reason": "",
            "version": 0,
            "reasoning_open": False,
        }
        for index in range(count)
    ]


def test_parts_become_one_file_and_later_ones_join_it(tmp_path):
    store = ResponseStore(tmp_path)
    store.append(rows("a"))
    store.append(rows("b"))
    assert store.join() == tmp_path / "responses.parquet"
    assert [path.name for path in tmp_path.iterdir()] == ["responses.parquet"]
    store.append(rows("c"))
    assert store.counts() == {"a": 2, "b": 2, "c": 2}
    store.join()
    assert [row["response"] for row in store.rows()] == ["a-0", "a-1", "b-0", "b-1", "c-0", "c-1"]


@pytest.mark.parametrize("lacking", [["conversation"], ["reward", "conversation"]])
def test_a_folder_of_an_older_build_lacks_columns_which_are_null(tmp_path, lacking):
    store = ResponseStore(tmp_path)
    store.append(rows("a"))
    older = pq.read_table(store.join()).drop_columns(lacking)
    pq.write_table(older, store.whole)
    store.append([row | {"conversation": "[]", "reward": 0.5} for row in rows("b")])
    assert [row["conversation"] for row in store.rows()] == [None, None, "[]", "[]"]
    assert [row["reward"] for row in store.rows(["id", "reward"])] == [None, None, 0.5, 0.5]
    store.join()
    assert [row["conversation"] for row in store.rows()] == [None, None, "[]", "[]"]


def test_a_join_that_was_killed_before_its_parts_went_repeats_no_row(tmp_path):
    store = ResponseStore(tmp_path)
    store.append(rows("a"))
    store.append(rows("b"))
    shutil.copytree(tmp_path / "parts", tmp_path / "kept")
    store.join()
    (tmp_path / "kept").rename(tmp_path / "parts")
    assert store.counts() == {"a": 2, "b": 2}
    store.join()
    assert store.counts() == {"a": 2, "b": 2}


def test_an_unfinished_part_is_not_there(tmp_path):
    store = ResponseStore(tmp_path)
    store.append(rows("a"))
    (tmp_path / "parts" / ".000001-7.parquet.tmp").write_bytes(b"PAR1 torn")
    assert store.counts() == {"a": 2}
    store.append(rows("b"))
    assert store.counts() == {"a": 2, "b": 2}
    store.join()
    assert [path.name for path in tmp_path.iterdir()] == ["responses.parquet"]


def test_another_file_in_its_place_is_named(tmp_path):
    (tmp_path / "responses.parquet").write_text("not Parquet")
    with pytest.raises(DataError, match=r"responses\.parquet does not hold responses of Leeway"):
        ResponseStore(tmp_path).counts()


def test_a_folder_keeps_to_what_was_asked_first(tmp_path):
    same_or_refused(tmp_path, {"seed": 1})
    same_or_refused(tmp_path, {"weights": "abc"})
    same_or_refused(tmp_path, {"seed": 1, "weights": "abc"})
    with pytest.raises(DataError, match="made with seed = 1, and now it is 2; ask the same, or name another --out"):
        same_or_refused(tmp_path, {"seed": 2})


def test_of_a_problem_that_two_collectors_wrote_the_first_counts(tmp_path):
    store = ResponseStore(tmp_path)
    store.append(rows("a"))
    (part,) = (tmp_path / "parts").glob("*.parquet")
    store.append([*rows("a"), *rows("b")])
    part.rename(part.with_name("000001-1.parquet"))  # both were the next one
    assert store.counts() == {"a": 2, "b": 2}
    store.join()
    assert [row["id"] for row in store.rows()] == ["a", "a", "b", "b"]


def test_a_finished_folder_is_not_taken_for_another_model_s_or_another_question(tmp_path, tiny_model, bus):
    import shutil

    from leeway_rl.common.config import compose
    from leeway_rl.common.service import Service
    from leeway_rl.evaluation.sample import sample
    from safetensors.torch import load_file, save_file

    model, out = tmp_path / "model", tmp_path / "out"
    shutil.copytree(tiny_model, model)
    problems = tmp_path / "p.jsonl"
    problems.write_text('{"id": "a", "prompt": "1+2", "answer": "3"}\n')
    row = {"id": "a", "index": 0, "response": r"\boxed{3}", "tokens": 3, "finished": True, "verdict": "correct"}
    ResponseStore(out).append([row | {"reason": "", "version": 0, "reasoning_open": False}])

    def again(*settings):
        config = compose(["tiny"], [f"model.path={model}", f"data.path={problems}", *settings])
        with Service(bus.learner, "collector", lease_s=30.0, heartbeat_s=2.0) as service:
            sample(bus.learner, service, config, out, 1, 1.0)

    again()
    again()
    for setting, key in (
        ("data.suffix= Why?", "suffix"),
        ("data.system=Think.", "system"),
        ("verifier.math=report", "verifier"),
        ("rollout.engine=vllm", "engine"),
        ("flow.temperature=0.5", "temperature"),
    ):
        with pytest.raises(DataError, match=rf"made with {key} = .*; ask the same, or name another --out"):
            again(setting)
    (weights,) = model.glob("*.safetensors")
    tensors = load_file(weights)
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, weights, {"format": "pt"})
    with pytest.raises(
        DataError, match=rf"the model's weights \({model}\) changed since it was begun \(\w+ then, \w+ now"
    ):
        again()
    save_file(tensors, weights, {"format": "pt"})
    again()
    template = model / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    with pytest.raises(DataError, match=rf"tokenizer or its chat template \({model}\) changed since it was begun"):
        again()
