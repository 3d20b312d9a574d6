"""``leeway plan``: the speed, staleness, waste and memory of a system before it is built, on a virtual clock.

``simulate.py`` has the clock, and ``calibrate.py`` makes systems from measurements. This module puts tables around
them.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, get_args

from ...common.config import Config, MaxStaleness, Overflow, PipelineDepth, compose, refuse_shallow
from ...common.errors import ConfigError
from ...common.tables import as_text, table
from ...common.wording import byte_size, counted
from . import calibrate
from .arithmetic import Gpu, describe, shape_of, why_not
from .lengths import lognormal, read_lengths
from .preset import system_of
from .simulate import Outcome, System, simulate

SPLIT_STEPS = 24
"""Training steps simulated for each way to split GPUs."""

GROUP_SIZE = 16
"""Responses of a group where nothing says how many."""

Figures = dict[str, Any]


class Drawn(NamedTuple):
    """Lognormal lengths, in tokens; None is what the user has not said."""

    mean: float | None = None
    sigma: float | None = None
    longest: int | None = None

    def filled(self) -> tuple[float, float, int]:
        """With the defaults in the place of what was not said."""
        mean, sigma, longest = self
        return (6000 if mean is None else mean, 0.6 if sigma is None else sigma, longest or 16_384)


def plan(
    *,
    run: Path | None,
    asked: tuple[Config, Gpu] | None = None,
    lengths: Path | None,
    drawn: Drawn,
    group_size: int | None,
    bounds: str,
    policies: str,
    gpus: tuple[int, int, int] | None,
    as_json: bool,
    given: dict[str, Any],
) -> str:
    """The answer as text. ``asked``: a configuration to estimate from, and its GPUs. ``drawn``: what the user has given
    of lognormal lengths. ``given``: fields of ``System`` that the user has given. ``gpus``: how many GPUs there are,
    how many a replica has, and for how many the learner's times are stated."""
    measured, base, shape, group_size = None, None, None, group_size or GROUP_SIZE
    if run is not None:
        measured = calibrate.from_run(run)
        base = measured.system
    elif asked is not None:
        shape = shape_of(asked[0].model.path)
        base = system_of(asked[0], shape, asked[1], **drawn._asdict())
        group_size = base.lengths_GS.shape[1]
    if base is None:
        pool = lognormal(*drawn.filled(), group_size=group_size, seed=given.get("seed", 0))
    else:
        pool = base.lengths_GS
    if lengths is not None:
        pool = read_lengths(lengths, group_size=group_size, seed=given.get("seed", 0))
    defaults = {"groups_per_step": 256, "steps": 100, "max_staleness": 1, "replicas": 32, "peak": 2000.0}
    start = replace(base, lengths_GS=pool, **given) if base else System(lengths_GS=pool, **(defaults | given))
    systems = [
        replace(start, max_staleness=bound, overflow=policy)
        for bound, policy in product(_bounds(bounds, start), _policies(policies, start))
    ]
    for system in systems:
        _refuse_impossible(system)
    answers: dict[str, Any] = {"plan": [figures(simulate(system)) for system in systems]}
    if measured is not None:
        # This simulates the run as it was, whatever the rows vary: only that says how good the plan is.
        unvaried = answers["plan"] if lengths is None and not given else []
        own = (measured.system.max_staleness, measured.system.overflow)
        predicted = next((row for row in unvaried if (row["max_staleness"], row["overflow"]) == own), None)
        answers |= {"measured": measured.figures, "predicted": predicted or figures(simulate(measured.system))}
    if gpus is not None:
        answers["split"] = [row for system in systems for row in split(system, *gpus)]
    if as_json:
        return json.dumps(answers, indent=2)
    return (f"{describe(asked[0], shape, asked[1])}\n\n" if asked is not None else "") + _text(answers)


def asked(
    presets: list[str], settings: list[str], gpu_gb: float, mfu: float, bandwidth_use: float, run: str | None
) -> tuple[Config, Gpu] | None:
    """The configuration to estimate from, and its GPUs; None where no preset is named. ``ConfigError`` where the
    options contradict one another, or where it does not fit."""
    if not presets:
        if settings:
            raise ConfigError("--set changes the keys of a --preset: name one")
        return None
    if run is not None:
        raise ConfigError(f"--from {run} with --preset {presets[0]}: times are measured or estimated; name one of them")
    config = compose(presets, settings)
    gpu = Gpu(bytes=1e9 * gpu_gb, mfu=mfu, bandwidth_use=bandwidth_use)
    shape = shape_of(config.model.path)
    if shape is not None and (why := why_not(config, shape, gpu)) is not None:
        raise ConfigError(f"it does not fit: {why}")
    return config, gpu


def fit(times: str, predict: str, responses: int, drawn: Drawn, *, as_json: bool = False) -> str:
    """The rollout worker that explains the rollout times on several numbers of GPUs, and its times on other numbers."""
    try:
        known = {int(gpus): float(seconds) for gpus, seconds in (pair.split(":") for pair in times.split(","))}
        others = [int(word) for word in predict.replace(",", " ").split()]
    except ValueError:
        raise ConfigError(f"--fit {times} --predict {predict!r}: 32:375,64:270 and 128,256 are examples") from None
    if len(known) < 2 or min(*known, *others, *known.values()) <= 0:
        raise ConfigError(f"--fit {times}: expected at least two times, all above 0: a worker has two numbers")
    system = calibrate.fitted(known, lognormal(*drawn.filled(), group_size=1, seed=0), responses)
    rows = [
        {"gpus": gpus, "rollout_s": calibrate.rollout_s(system, gpus), "given_s": known.get(gpus)}
        for gpus in [*known, *others]
    ]
    if as_json:
        return json.dumps({"alone": system.alone, "peak": system.peak, "rollout": rows}, indent=2)
    columns = {
        "gpus": ("GPUs", str),
        "rollout_s": ("simulated", "{:.0f} s".format),
        "given_s": ("given", lambda seconds: "" if seconds is None else f"{seconds:g} s"),
    }
    worker = f"a worker a GPU: {system.alone:.0f} tokens/s alone, {system.peak:.0f} tokens/s under full load"
    return f"{worker}\n\n{_table(f'rollout of {responses} responses', columns, rows)}"


def figures(outcome: Outcome) -> Figures:
    """The figures of an outcome. Rates and staleness are taken over the steps after the first η + 1, which find an
    empty queue; waste and lengths are taken over the whole run."""
    system, steps = outcome.system, outcome.steps
    warm = min(system.largest_bound + 1, len(steps) - 1)
    since = steps[warm - 1].ended if warm else 0.0
    kept = steps[warm:]
    seconds = kept[-1].ended - since
    heads = Counter(head for step in kept for head in step.heads)
    ages = sum((step.ages for step in kept), Counter[int]())
    trained_tokens = sum(sum(step.ages.values()) for step in steps)
    trained_length = trained_tokens / sum(step.responses for step in steps)
    left = system.overflow == "mask"
    return {
        "max_staleness": system.max_staleness,
        "overflow": system.overflow,
        "pipeline_depth": system.pipeline_depth,
        "turns": [(n, step.bound) for n, step in enumerate(steps) if n == 0 or steps[n - 1].bound != step.bound],
        "steps_per_hour": 3600 * len(kept) / seconds,
        "learner_idle": sum(step.waited for step in kept) / seconds,
        "replicas_idle": max(0.0, 1 - outcome.sampling_s / (system.replicas * steps[-1].ended)),
        "depth_mean": sum(step.depth for step in kept) / len(kept),
        "head_mean": _mean(heads),
        "head_max": max(heads),
        "token_mean": _mean(ages),
        "heads": _shares(heads),
        "tokens": _shares(ages),
        "masked_share": sum(step.past for step in kept) / ages.total() if left else 0.0,
        "groups_past_share": sum(step.groups_past for step in kept) / heads.total(),
        "tokens_trained_past_bound": 0 if left else sum(step.past for step in steps),
        "expired_share": outcome.expired_tokens / outcome.generated_tokens,
        "rejected_share": outcome.rejected_tokens / outcome.generated_tokens,
        "length_trained_over_generated": trained_length / (outcome.generated_tokens / outcome.generated_responses),
        "generation_s": outcome.generation_s / outcome.generations,
        "redis_peak_bytes": outcome.peak_bytes,
        "tickets": {"issued": outcome.issued, "trained": outcome.trained, "live": outcome.live, **outcome.refunded},
    }


def split(system: System, gpus: int, of_replica: int, of_learner: int) -> list[Figures]:
    """Figures for every way to divide ``gpus`` between rollout replicas of ``of_replica`` GPUs each and the learner.

    The learner's time for tokens is stated for ``of_learner`` GPUs and goes down with their number; ``train_s`` does
    not. At most 16 ways are tried, evenly spaced. The network is not modelled.
    """
    if gpus < 2 * of_replica:
        raise ConfigError(f"--gpus {gpus}: a replica of {of_replica} and as many for the learner are the least")
    rows = []
    spacing = of_replica * math.ceil(gpus / of_replica / 17)
    for learner in range(spacing, gpus - of_replica + 1, spacing):
        replicas = (gpus - learner) // of_replica
        tried = replace(
            system,
            replicas=replicas,
            steps=min(system.steps, SPLIT_STEPS),
            train_s_per_token=system.train_s_per_token * of_learner / learner,
        )
        rows.append({"learner_gpus": learner, "rollout_gpus": replicas * of_replica, **figures(simulate(tried))})
    return rows


def depth(text: str) -> PipelineDepth:
    """The pipeline depth that was given on the command line. ``ConfigError`` where it is none."""
    if text != "auto" and (not text.isdecimal() or int(text) < 1):
        raise ConfigError(f"--pipeline-depth {text}: auto, or a number of groups of at least 1")
    return "auto" if text == "auto" else int(text)


def _bounds(text: str, start: System) -> list[MaxStaleness]:
    words = text.replace(",", " ").split()
    if not all(word == "auto" or word.isdecimal() for word in words):
        raise ConfigError(f"--max-staleness {text}: whole numbers of at least 0, or auto, with commas between")
    return ["auto" if word == "auto" else int(word) for word in words] or [start.max_staleness]


def _policies(text: str, start: System) -> list[Overflow]:
    words: list[Any] = text.replace(",", " ").split()
    for word in words:
        if word not in get_args(Overflow):
            raise ConfigError(f"--overflow {text}: some of {', '.join(get_args(Overflow))}, with commas between")
    return words or [start.overflow]


def _refuse_impossible(system: System) -> None:
    refuse_shallow(system.groups_per_step, system.pipeline_depth)
    if not 0 <= system.rejected < 1:
        raise ConfigError(f"--rejected {system.rejected}: a share of at least 0 and below 1")
    if not (system.alone > 0 and system.peak > 0):  # NaN is neither
        raise ConfigError(f"--alone {system.alone} --peak {system.peak}: tokens a second, above 0")


def _mean(counts: Counter[int]) -> float:
    return sum(age * many for age, many in counts.items()) / counts.total()


def _shares(counts: Counter[int]) -> list[float]:
    """The share of each age 0, 1, …, up to the oldest."""
    return [counts[age] / counts.total() for age in range(max(counts) + 1)]


# --- tables ----------------------------------------------------------------------------------------------------------


def _text(answers: dict[str, Any]) -> str:
    rows = answers["plan"]
    parts = [_table("what to expect", _COLUMNS, rows), _histogram(rows, "heads", "groups by head staleness")]
    parts.append(_histogram(rows, "tokens", "tokens by staleness"))
    for row in rows:
        if row["max_staleness"] == "auto":
            turns = ", ".join(f"{bound} from step {step}" for step, bound in row["turns"])
            parts.append(f"η under auto, {row['overflow']}: {turns}")
    if "measured" in answers:
        measured, predicted = answers["measured"], answers["predicted"]
        compared = [
            {
                "": name,
                "predicted": predicted[key],
                "measured": measured[key],
                "error": error(predicted[key], measured[key]),
            }
            for name, key, error in (
                ("steps/h", "steps_per_hour", lambda p, m: f"{100 * (p / m - 1):+.1f} %"),
                ("head staleness", "head_mean", lambda p, m: f"{p - m:+.2f}"),
            )
        ]
        number = "{:.2f}".format
        columns = {"": ("", str), "predicted": ("predicted", number), "measured": ("measured", number)}
        as_it_was = f"against the run as it was, η = {predicted['max_staleness']} {predicted['overflow']}"
        parts.append(_table(as_it_was, columns | {"error": ("difference", str)}, compared))
    if "split" in answers:
        columns = {"learner_gpus": ("learner GPUs", str), "rollout_gpus": ("rollout GPUs", str), **_COLUMNS}
        parts.append(_table("how to split the GPUs", columns, answers["split"]))
        parts.append(_best_splits(answers["split"]))
    return "\n\n".join(parts)


def _best_splits(rows: Sequence[Figures]) -> str:
    """A line for each bound and policy: the way to split the GPUs that makes the most steps an hour."""
    best: dict[tuple[Any, Any], Figures] = {}
    for row in rows:
        setting = row["max_staleness"], row["overflow"]
        if setting not in best or row["steps_per_hour"] > best[setting]["steps_per_hour"]:
            best[setting] = row
    return "\n".join(
        f"best at η = {bound}, {overflow}: {counted(row['learner_gpus'], 'GPU')} for the learner, "
        f"{row['rollout_gpus']} for rollout: {row['steps_per_hour']:.2f} steps an hour"
        for (bound, overflow), row in best.items()
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


_COLUMNS: dict[str, tuple[str, Any]] = {
    "max_staleness": ("η", str),
    "overflow": ("overflow", str),
    "steps_per_hour": ("steps/h", "{:.2f}".format),
    "learner_idle": ("learner idle", _percent),
    "replicas_idle": ("rollout idle", _percent),
    "depth_mean": ("depth", "{:.0f}".format),
    "head_mean": ("head mean", "{:.2f}".format),
    "head_max": ("max", str),
    "token_mean": ("token mean", "{:.2f}".format),
    "expired_share": ("expired", _percent),
    "masked_share": ("masked", _percent),
    "groups_past_share": ("groups past η", _percent),
    "rejected_share": ("rejected", _percent),
    "length_trained_over_generated": ("length", "{:.2f}".format),
    "redis_peak_bytes": ("Redis", byte_size),
}


def _table(title: str, columns: dict[str, tuple[str, Any]], rows: Iterable[Figures]) -> str:
    """``columns`` has, for each key of a row, the column's head and the function that writes its values."""
    cells = ([form(row[key]) for key, (_, form) in columns.items()] for row in rows)
    numbers = table([head for head, _ in columns.values()], cells, right=range(len(columns)))
    return f"{title}:\n{as_text(numbers)}"


def _histogram(rows: list[Figures], key: str, title: str) -> str:
    oldest = min(10, max(len(row[key]) for row in rows) - 1)
    columns = {name: _COLUMNS[name] for name in ("max_staleness", "overflow")}
    shares_of = []
    for row in rows:
        shares = row[key] + [0.0] * (oldest + 1)
        last = sum(shares[oldest:])  # the last column takes what is older
        shares_of.append({**row, **{str(age): share for age, share in enumerate([*shares[:oldest], last])}})
    names = [str(age) for age in range(oldest + 1)]
    older = any(len(row[key]) > oldest + 1 for row in rows)
    heads = {name: (f"{name}+" if older and name == names[-1] else name, _percent) for name in names}
    return _table(title, columns | heads, shares_of)
