"""Which process has which GPUs, for every preset and every refusal. The numbers of GPUs are made up: none is here."""

import pytest
from leeway_rl.common.config import compose, preset_names
from leeway_rl.common.errors import ConfigError
from leeway_rl.leeway.planning.arithmetic import shape_of
from leeway_rl.leeway.running.placement import (
    commands,
    lay_out,
    lay_out_learner,
    lay_out_workers,
    page,
    refuse_split_instances,
)

ON_GPUS = ["rollout.engine=vllm", "placement.learner=gpu", "placement.rollout=gpu"]


def asking(*settings, preset="tiny"):
    return compose([preset], list(settings))


def placed(layout):
    return {(each.name, each.node): each.gpus for each in layout.placed}


# --- every preset ----------------------------------------------------------------------------------------------------

SEVEN = {("learner", 0): (0, 1, 2, 3), **{(f"rollout-{index}", 0): (4 + index,) for index in range(4)}}
THIRTY_TWO = {
    ("learner", 0): tuple(range(8)),
    ("learner", 1): tuple(range(8)),
    ("rollout-0", 2): (0, 1, 2, 3),
    ("rollout-1", 2): (4, 5, 6, 7),
    ("rollout-2", 3): (0, 1, 2, 3),
    ("rollout-3", 3): (4, 5, 6, 7),
}
LAYOUTS = {
    "skywork-or1-1.5b": {("learner", 0): (0, 1), **{(f"rollout-{index}", 0): (2 + index,) for index in range(6)}},
    "skywork-or1-1.5b-one-gpu": {("learner", 0): (0,), ("rollout-0", 0): (0,)},
    "skywork-or1-7b": SEVEN,
    "skywork-or1-7b-scripts": SEVEN,
    "skywork-or1-math-7b": SEVEN,
    "skywork-or1-32b": THIRTY_TWO,
    "skywork-or1-32b-scripts": THIRTY_TWO,
    "smollm2": {("learner", 0): (0,), ("rollout-0", 0): (1,)},
    # The torch engine computes on the CPU.
    **{name: {("learner", 0): (0,), ("rollout-0", 0): ()} for name in ("tiny", "tiny-calculator")},
}


def test_there_is_a_layout_for_every_preset():
    assert set(LAYOUTS) == set(preset_names())


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_preset_has_its_layout_on_nodes_of_eight_gpus(name):
    assert placed(lay_out(asking(preset=name), 8, alone=False)) == LAYOUTS[name]


@pytest.mark.parametrize("name", sorted(set(LAYOUTS) - {"skywork-or1-32b", "skywork-or1-32b-scripts"}))
def test_the_presets_of_one_node_need_no_more_gpus_than_they_say(name):
    need = lay_out(asking(preset=name), 8, alone=True).gpus
    assert placed(lay_out(asking(preset=name), need, alone=True)) == LAYOUTS[name]
    if "skywork" in name:
        with pytest.raises(ConfigError, match="this machine has"):
            lay_out(asking(preset=name), need - 1, alone=True)


@pytest.mark.parametrize("name", ["tiny", "smollm2"])
def test_on_a_machine_without_gpus_the_small_presets_compute_on_the_cpu(name):
    layout = lay_out(asking(preset=name), 0, alone=True)
    assert layout.gpus == 0
    assert {each.name for each in layout.placed} == {"learner", "rollout-0"}


# --- layouts ---------------------------------------------------------------------------------------------------------


def test_no_gpu_is_given_twice_unless_it_is_shared():
    for name in LAYOUTS:
        layout = lay_out(asking(preset=name), 8, alone=False)
        given = [(each.node, gpu) for each in layout.placed for gpu in each.gpus if not each.shared]
        assert len(given) == len(set(given)), name


def test_workers_take_what_the_learner_leaves_of_its_nodes_before_they_take_others():
    layout = lay_out(
        asking(*ON_GPUS, "train.ranks=10", "rollout.workers=4", "rollout.tensor_parallel=2"), 8, alone=False
    )
    assert placed(layout) == {
        ("learner", 0): (0, 1, 2, 3, 4),
        ("learner", 1): (0, 1, 2, 3, 4),
        ("rollout-0", 0): (5, 6),
        ("rollout-1", 1): (5, 6),
        ("rollout-2", 2): (0, 1),
        ("rollout-3", 2): (2, 3),
    }
    assert (layout.nodes, layout.gpus) == (3, 18)


def test_references_of_their_own_follow_the_ranks_gpus():
    keys = ("objective.kl_beta=0.001", "placement.reference=own", "train.ranks=3")
    layout = lay_out(asking(*ON_GPUS, *keys), 8, alone=True)
    assert placed(layout) == {("learner", 0): (0, 1, 2, 3, 4, 5), ("rollout-0", 0): (6,)}
    assert "one a GPU: 0-2; their references: 3-5" in page(asking(*ON_GPUS, *keys), layout, None)


def test_a_shared_gpu_is_counted_once_and_references_share_with_nobody():
    keys = [*ON_GPUS[:2], "placement.rollout=learner", "rollout.gpu_memory_utilization=0.3"]
    keys += ["objective.kl_beta=0.001", "placement.reference=own", "train.ranks=2", "rollout.workers=2"]
    layout = lay_out(asking(*keys), 4, alone=True)
    assert placed(layout) == {("learner", 0): (0, 1, 2, 3), ("rollout-0", 0): (0,), ("rollout-1", 0): (1,)}
    assert layout.gpus == 4


def test_workers_alone_take_the_first_gpus():
    config = asking(*ON_GPUS, "rollout.tensor_parallel=2")
    assert placed(lay_out_workers(config, 2, 4)) == {("rollout-0", 0): (0, 1), ("rollout-1", 0): (2, 3)}
    assert lay_out_workers(config, 0, 0).placed == ()
    with pytest.raises(
        ConfigError, match=r"workers = 3 .* asks for 6 GPUs; this machine has 4; rollout.workers = 2 fits"
    ):
        lay_out_workers(config, 3, 4)


# --- refusals --------------------------------------------------------------------------------------------------------

OWN = ("objective.kl_beta=0.001", "placement.reference=own")
SHARING = (*ON_GPUS[:2], "placement.rollout=learner", "rollout.gpu_memory_utilization=0.3")
REFUSED = [
    # (GPUs of this machine, keys, words)
    (
        0,
        (*ON_GPUS,),
        "train.ranks = 1 asks for 1 GPU; this machine has none; none fits; a small model needs none: set placement",
    ),
    (4, (*ON_GPUS, "train.ranks=8"), "train.ranks = 8 asks for 8 GPUs; this machine has 4; train.ranks = 4 fits"),
    (
        4,
        (*ON_GPUS, "train.ranks=3", *OWN),
        "asks for 6 GPUs, 3 for the ranks and 3 for their references .*ranks = 2 fits",
    ),
    (1, (*ON_GPUS, *OWN), "asks for 2 GPUs, 1 for the ranks and 1 for their references .*none fits"),
    (
        0,
        ("placement.learner=auto", *OWN),
        "reference = 'own' asks for a GPU beside the learner's, and this machine has none",
    ),
    (
        6,
        (*ON_GPUS, "train.ranks=4", "rollout.workers=4"),
        "workers = 4 with rollout.tensor_parallel = 1 asks for 4 GPUs; this machine has 6, of which the learner has 4; "
        "rollout.workers = 2 fits, and placement.rollout = 'learner' shares the learner's GPUs",
    ),
    (
        1,
        ("rollout.engine=vllm",),
        "workers = 1 .* this machine has 1, of which the learner has 1; none fits, and placement",
    ),
    (
        8,
        (*ON_GPUS, "rollout.tensor_parallel=16"),
        "16 of them on one node; this machine has 8; a tensor_parallel of at most 8 fits",
    ),
    (
        0,
        ("rollout.engine=vllm", "placement.rollout=gpu"),
        "asks for 1 GPU, 1 of them on one node; this machine has none",
    ),
    (
        0,
        ("rollout.engine=vllm", "placement.rollout=learner", SHARING[3]),
        "shares the learner's GPUs, and this machine has n",
    ),
    (
        2,
        (*SHARING, "train.ranks=2", "rollout.workers=3"),
        "workers = 3 .*'learner' asks for 3 GPUs of the learner's, which has 2 .train.ranks.; rollout.workers = 2 fits",
    ),
    (2, (*SHARING, "train.ranks=2", "rollout.tensor_parallel=4"), "4 GPUs of the learner's, which has 2 .*none fits"),
]


@pytest.mark.parametrize(("gpus", "keys", "words"), REFUSED)
def test_what_the_machine_has_not_is_refused_with_what_would_fit(gpus, keys, words):
    with pytest.raises(ConfigError, match=words):
        lay_out(asking(*keys), gpus, alone=True)


@pytest.mark.parametrize(("ranks", "fitting"), [(9, "8 or 10"), (17, "16 or 18"), (25, "24 or 28")])
def test_ranks_that_do_not_divide_over_the_nodes_are_refused_with_the_next_that_do(ranks, fitting):
    with pytest.raises(ConfigError, match=rf"equally many ranks on each; train.ranks = {fitting} fits"):
        lay_out_learner(asking(*ON_GPUS, f"train.ranks={ranks}"), 8, alone=False)
    for other in map(int, fitting.split(" or ")):
        lay_out_learner(asking(*ON_GPUS, f"train.ranks={other}"), 8, alone=False)


def test_a_process_gets_no_second_mig_instance():
    names = ("MIG-a", "MIG-b", "MIG-c")
    refuse_split_instances(lay_out(asking(*ON_GPUS, "rollout.workers=2"), 3, alone=True), names)
    for keys, key in (("train.ranks=2", "train.ranks"), ("rollout.tensor_parallel=2", "rollout.tensor_parallel")):
        with pytest.raises(ConfigError, match=f"MIG instance: .* one instance only; {key} = 1 fits"):
            refuse_split_instances(lay_out(asking(*ON_GPUS, keys), 3, alone=True), names)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (["placement.rollout=gpu"], "'gpu' needs rollout.engine = 'vllm': the torch engine computes on the CPU"),
        (["placement.rollout=learner"], "'learner' needs rollout.engine = 'vllm'"),
        (["rollout.engine=vllm", "placement.rollout=learner"], "gpu_memory_utilization = 0.9: .* at most 0.5 is right"),
        (
            ["rollout.engine=vllm", "placement.rollout=learner", "placement.learner=cpu"],
            "'learner' with placement.learner = 'cpu': the learner has no GPUs to share",
        ),
        (["placement.reference=own"], "kl_beta = 0 and metrics.kl_every = 0: no reference is loaded"),
        (
            ["objective.kl_beta=0.1", "placement.reference=own", "placement.learner=cpu"],
            "'own' with placement.learner = 'cpu'",
        ),
        (
            ["objective.reference=./model"],
            r"objective\.reference = './model' with objective\.kl_beta = 0 in every stage and metrics",
        ),
        (['stages=[{from_step=2,reference="./model"}]'], r"stages\.0\.reference = './model' with objective\.kl_beta"),
        (["placement.gpus_per_node=0"], "greater than or equal to 1"),
        (["placement.learner=tpu"], "'auto', 'gpu' or 'cpu'"),
    ],
)
def test_placements_that_contradict_one_another_are_refused(keys, words):
    with pytest.raises(ConfigError, match=words):
        asking(*keys)


# --- the page --------------------------------------------------------------------------------------------------------


def test_the_page_of_a_node_by_hand():
    config = asking(preset="skywork-or1-7b")
    assert page(config, lay_out(config, 8, alone=False), None).splitlines() == [
        "processes, and the GPUs of each: 8 GPUs in all",
        "process     node  GPUs  what for",
        "learner     1     0-3   4 ranks, one a GPU",
        "rollout-0   1     4     one worker",
        "rollout-1   1     5     one worker",
        "rollout-2   1     6     one worker",
        "rollout-3   1     7     one worker",
        "verifier-0  1     -     8 grading processes",
    ]


def test_the_commands_of_four_nodes_by_hand():
    config = asking(preset="skywork-or1-32b")
    layout = lay_out(config, 8, alone=False)
    assert "32 GPUs in all on 4 nodes of 8" in page(config, layout, None)
    assert commands(config, layout)[1:] == [
        "  node 1: CUDA_VISIBLE_DEVICES=0,1,2,3,4,5,6,7 leeway learner RUN --nodes 2 --node 1 --first-node NODE1",
        "  node 2: CUDA_VISIBLE_DEVICES=0,1,2,3,4,5,6,7 leeway learner RUN --nodes 2 --node 2 --first-node NODE1",
        "  node 3: CUDA_VISIBLE_DEVICES=0,1,2,3 leeway rollout RUN",
        "  node 3: CUDA_VISIBLE_DEVICES=4,5,6,7 leeway rollout RUN",
        "  node 4: CUDA_VISIBLE_DEVICES=0,1,2,3 leeway rollout RUN",
        "  node 4: CUDA_VISIBLE_DEVICES=4,5,6,7 leeway rollout RUN",
        "  node 1: leeway verifier RUN",
    ]


def test_what_a_shared_gpu_must_hold_is_said():
    config = asking(preset="skywork-or1-1.5b-one-gpu")
    layout = lay_out(config, 1, alone=False)
    said = page(config, layout, shape_of(config.model.path))
    assert "of the learner + 0.4 x 80.0 GB of vLLM = " in said
    assert "more than" not in said
    longer = asking("train.micro_batch_tokens=200000", preset="skywork-or1-1.5b-one-gpu")
    assert "more than 80.0 GB" in page(longer, layout, shape_of(config.model.path))
