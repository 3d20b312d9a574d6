"""The page of ``leeway up --dry-run`` and ``leeway plan --preset``: short tables, with sums and what limits."""

from collections.abc import Sequence
from dataclasses import replace

from ....common.config import Config
from ....common.config.stages import STAGED
from ....common.tables import as_text, table
from ....common.wording import byte_size, counted
from .asked import RANKS_A_NODE, asked_of, learner_of, worker_of
from .fitting import left_to_learner, longest_context
from .learner import Part, Peak, peak
from .nodes import learner_node, left_elsewhere, left_on_disk, redis_bytes, rollout_node
from .rollout import cache_bytes, kv_bytes_a_token, that_fit, weight_bytes
from .shapes import Shape, why_unknown
from .speed import Gpu, Speed, speed

ROOM = 0.9
"""Share of a GPU up to which the arithmetic is taken to be enough: fragments, CUDA and NCCL take of the rest."""

FEW = 16
"""A worker that asks for so many times what fits waits most of the time: then more GPUs a worker are worth a word."""


def describe(config: Config, shape: Shape | None, gpu: Gpu | None = None, *, more: Sequence[str] = ()) -> str:
    """The whole page, every line a TOML comment, so that it may stand under the configuration.

    ``gpu``: what each GPU of the layout is; an H100 of 80 GB by default. ``more``: further tables, which come last."""
    gpu = gpu or Gpu()
    parts = [_table(_stage_rows(config, shape), len(config.stage_starts)), ""]
    if shape is None:
        parts.append(f"memory: unknown. {why_unknown(config.model.path)}")
    else:
        if not shape.weights_here:
            parts.append(
                f"the weights of {config.model.path} are not here: parameters are counted from its config.json\n"
            )
        pages = (_learner_page, _rollout_page, _nodes_page, _speed_page)
        parts.append("\n\n".join(page(config, shape, gpu) for page in pages))
    for each in more:
        parts += ["", each]
    return "\n".join(f"# {line}".rstrip() for line in "\n".join(parts).splitlines())


# --- stages ----------------------------------------------------------------------------------------------------------


def _stage_rows(config: Config, shape: Shape | None) -> list[list[str]]:
    """The table of tokens and groups, one column a stage."""
    vocabulary = None if shape is None else shape.vocabulary
    starts = config.stage_starts
    columns = []
    for number, (view, start, end) in enumerate(zip(config.views(), starts, [*starts[1:], None], strict=True), start=1):
        last = config.train.steps if end is None else min(end, config.train.steps)
        columns.append({"stage": str(number), **_stage_column(view, start, max(start, last), vocabulary)})
    return [*([name, *(column[name] for column in columns)] for name in columns[0]), *_changing_rows(config)]


_IN_TABLE = {"groups_per_step", "minibatch_groups", "group_size", "max_response_tokens", "temperature"}
"""Keys of stages that ``_stage_column`` has, in its own words."""


def _changing_rows(config: Config) -> list[list[str]]:
    """A row for each other key that is not the same in all stages."""
    rows = []
    for section, key in [(section, key) for section, keys in STAGED.items() for key in keys.values()]:
        values = [getattr(getattr(view, section), key) for view in config.views()]
        if len(set(values)) > 1 and key not in _IN_TABLE:
            rows.append([f"{section}.{key}", *("-" if value is None else str(value) for value in values)])
    return rows


def _stage_column(view: Config, start: int, end: int, vocabulary: int | None) -> dict[str, str]:
    """One column of the table; ``view`` is the configuration as it is in the stage."""
    train, bound, steps = view.train, view.flow.largest_bound, end - start
    responses = train.groups_per_step * train.group_size
    tokens = responses * train.max_response_tokens
    in_redis = {beside: redis_bytes(view, vocabulary, beside=beside) for beside in (False, train.async_checkpoint)}
    return {
        "training steps": f"{start:,} to {end:,}",
        "responses a step": f"{train.groups_per_step} x {train.group_size} = {responses:,}",
        "longest response, tokens": f"{train.max_response_tokens:,}",
        "tokens a step, at most": _count(tokens),
        "SGD updates a step": str(train.updates_per_step),
        "temperature": str(view.flow.temperature),
        "groups live, at most": f"({bound} + 1) x {train.groups_per_step} = {(bound + 1) * train.groups_per_step}",
        "payload in Redis until a checkpoint": byte_size(in_redis[False]),
        "… while one is written, at most": byte_size(max(in_redis.values())),
        "pipeline depth, groups": str(view.flow.pipeline_depth),
        "responses trained": _count(responses * steps),
        "tokens trained, at most": _count(tokens * steps),
        "SGD updates": f"{train.updates_per_step * steps:,}",
    }


# --- memory ----------------------------------------------------------------------------------------------------------


def _learner_page(config: Config, shape: Shape, gpu: Gpu) -> str:
    train, learner = config.train, learner_of(config, left_to_learner(config, gpu))
    found = peak(learner, shape)
    rows = [["", "GPU", "host", ""]]
    rows += _rows(found.states)
    rows += _rows(found.parts)
    others = ", ".join(f"{name} {byte_size(size)}" for name, size in found.others.items())
    rows.append([f"peak: {found.name}", byte_size(found.device), byte_size(found.host), f"other moments: {others}"])
    ranks = counted(train.ranks, "rank")
    checkpointing = "with" if train.gradient_checkpointing else "without"
    return (
        f"a GPU of the learner: {_count(shape.parameters)} parameters, ZeRO {train.zero_stage} on {ranks}, "
        f"offload {train.offload},\n{_arithmetic(config)}, {checkpointing} gradient checkpointing, "
        f"{train.micro_batch_tokens:,} tokens at a time\n{_table(rows, 2)}\n{_limit(config, shape, gpu, found)}"
    )


def _arithmetic(config: Config) -> str:
    if config.model.dtype == "float32":
        return "float32"
    return {"autocast": "bfloat16 by autocast", "weights": "bfloat16 weights"}[config.train.bfloat16]


def _limit(config: Config, shape: Shape, gpu: Gpu, found: Peak) -> str:
    left = left_to_learner(config, gpu)
    share, of = found.device / left.bytes, f"a GPU of {byte_size(gpu.bytes)}"
    if left != gpu:
        of = f"the {byte_size(left.bytes)} that vLLM leaves of {of}"
    verdict = "more than there is" if share > 1 else "little is left" if share > ROOM else "it fits"
    longest = longest_context(config, shape, gpu)
    row = f"A row of up to {longest:,} tokens fits, with nothing to spare" if longest else "No row fits"
    return f"{share:.2f} of {of}: {verdict}. {row}"


def _rows(parts: Sequence[Part]) -> list[list[str]]:
    return [[part.name, byte_size(part.device), byte_size(part.host), part.how] for part in parts]


def _rollout_page(config: Config, shape: Shape, gpu: Gpu) -> str:
    worker, gpus = worker_of(config, gpu), config.rollout.tensor_parallel
    split = f" / {gpus} GPUs" if gpus > 1 else ""
    each = kv_bytes_a_token(shape, worker.width)
    rows = [
        ["weights", byte_size(weight_bytes(worker, shape) / gpus), f"{worker.width} bytes a parameter{split}"],
        ["KV cache, a token", byte_size(each / gpus), f"keys and values of every layer{split}"],
        ["KV cache, a longest sequence", byte_size(float(each) * worker.longest / gpus), f"{worker.longest:,} tokens"],
    ]
    if config.rollout.engine == "vllm":
        room = max(0.0, cache_bytes(worker, shape)) / gpus
        rows.append(["left for the KV cache", byte_size(room), f"of {byte_size(gpu.bytes)} x {worker.utilization}"])
        fit = that_fit(worker, shape, worker.longest)
        asks = f"the worker asks for up to {worker.at_once}, and what does not fit waits"
        if fit * FEW <= worker.at_once:
            wider = replace(worker, tensor_parallel=2 * gpus)
            more = that_fit(wider, shape, worker.longest)
            asks = f"the worker asks for up to {worker.at_once}; rollout.tensor_parallel = {2 * gpus} fits {more}"
        rows.append(["longest sequences that fit", str(fit), asks])
    return f"a GPU of a rollout worker\n{_table(rows, 1)}"


def _nodes_page(config: Config, shape: Shape, gpu: Gpu) -> str:
    here = min(RANKS_A_NODE, config.train.ranks)
    held, to_start = learner_node(config, shape, gpu)
    rows = [["", "each", "sum", ""], *_summed(f"memory of the node of rank 0, {counted(here, 'rank')}", held)]
    rows += _summed("", [to_start], sum_up=False)
    rows += _summed("memory of a rollout node", rollout_node(config, shape))
    by_file = config.weights.transport == "file"
    rows += _summed("disk, at most" if by_file else "disk and Redis, at most", left_on_disk(config, shape))
    if config.checkpoints.copy_to is not None:
        rows += _summed("at checkpoints.copy_to, at most", left_elsewhere(config, shape))
    return f"nodes\n{_table(rows, 2)}"


def _summed(name: str, parts: Sequence[Part], *, sum_up: bool = True) -> list[list[str]]:
    rows = [[part.name, byte_size(part.host), "", part.how] for part in parts]
    return [*rows, [name, "", byte_size(sum(part.host for part in parts)), ""]] if sum_up else rows


# --- speed -----------------------------------------------------------------------------------------------------------


def speeds(config: Config, shape: Shape, gpu: Gpu, mean_length: float | None = None) -> list[Speed | None]:
    """The estimate for each stage; None where nothing fits."""
    learner, worker = learner_of(config, gpu), worker_of(config, gpu)
    asked = [asked_of(view, mean_length) for view in config.views()]
    return [speed(learner, worker, config.rollout.workers, shape, each, gpu) for each in asked]


def _speed_page(config: Config, shape: Shape, gpu: Gpu) -> str:
    if config.rollout.engine != "vllm":
        return "speed: not estimated for rollout.engine = 'torch'"
    found = speeds(config, shape, gpu)
    asked = [asked_of(view) for view in config.views()]
    columns = [
        _speed_column(number, each, of.length, config)
        for number, (each, of) in enumerate(zip(found, asked, strict=True), start=1)
    ]
    rows = [[name, *(column[name] for column in columns)] for name in columns[0]]
    return (
        f"speed, estimated and never measured: {gpu.name}s, training at {100 * gpu.mfu:.0f} % of their operations, "
        f"decoding at {100 * gpu.bandwidth_use:.0f} %\nof their bandwidth, responses of a quarter of the longest\n"
        + _table(rows, len(columns))
    )


def _speed_column(number: int, found: Speed | None, length: float, config: Config) -> dict[str, str]:
    names = {
        "stage": str(number),
        "mean response, tokens": f"{length:,.0f}",
        "learner, tokens/s a GPU": "-",
        "rollout, tokens/s a GPU": "-",
        "responses at once, a worker": "0",
        "to train a step's batch": "-",
        "to generate it": "-",
        "a step": "-",
        "who waits": "nothing fits",
    }
    if found is None:
        return names
    gpus = config.rollout.workers * config.rollout.tensor_parallel
    overlap = config.flow.largest_bound > 0
    return names | {
        "learner, tokens/s a GPU": f"{found.learner / config.train.ranks:,.0f}",
        "rollout, tokens/s a GPU": f"{found.rollout / gpus:,.0f}",
        "responses at once, a worker": f"{found.at_once:,}",
        "to train a step's batch": f"{found.train_s:,.0f} s",
        "to generate it": f"{found.rollout_s:,.0f} s",
        "a step": f"{found.step_s:,.0f} s",
        "who waits": found.waiting if overlap else "each for the other",
    }


def _table(rows: Sequence[Sequence[str]], numbers: int) -> str:
    """A table of names, ``numbers`` right-aligned columns, and words. Heads, if any, are the first row."""
    return as_text(table([""] * len(rows[0]), rows, right=range(1, numbers + 1)))


def _count(number: float) -> str:
    """A number for people, with all its digits where it is below a million."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{int(number):,}"
