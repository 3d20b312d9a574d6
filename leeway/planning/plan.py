"""``leeway plan``: the speed, staleness, waste and memory of a system before it is built, on a virtual clock.

``simulate.py`` has the clock, and ``calibrate.py`` makes systems from measurements. This module puts tables around
them.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np

from ...common.config import Overflow, PipelineDepth, refuse_shallow
from ...common.errors import ConfigError, DataError
from ...common.tables import as_text, table
from ...common.wording import byte_size
from . import calibrate
from .simulate import Outcome, System, simulate

POOL_GROUPS = 20_000
"""Groups whose lengths are drawn from a distribution; tickets beyond them begin again at the first."""
SPLIT_STEPS = 24
"""Training steps simulated for each way to split GPUs."""

Figures = dict[str, Any]


def plan(
    *,
    run: Path | None,
    lengths: Path | None,
    drawn: tuple[float, float, int],
    group_size: int,
    bounds: str,
    policies: str,
    gpus: tuple[int, int, int] | None,
    as_json: bool,
    given: dict[str, Any],
) -> str:
    """The answer as text. ``drawn``: mean, σ and longest of lognormal lengths. ``given``: fields of ``System`` that the
    user has given. ``gpus``: how many GPUs there are, how many a replica has, and for how many the learner's times are
    stated."""
    if run is not None:
        measured = calibrate.from_run(run)
        base, pool = measured.system, measured.system.lengths_GS
    else:
        measured, base, pool = None, None, lognormal(*drawn, group_size=group_size, seed=given.get("seed", 0))
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
        answers["split"] = split(systems[0], *gpus)
    return json.dumps(answers, indent=2) if as_json else _text(answers)


def fit(times: str, predict: str, responses: int, drawn: tuple[float, float, int], *, as_json: bool = False) -> str:
    """The rollout worker that explains the rollout times on several numbers of GPUs, and its times on other numbers."""
    try:
        known = {int(gpus): float(seconds) for gpus, seconds in (pair.split(":") for pair in times.split(","))}
        others = [int(word) for word in predict.replace(",", " ").split()]
    except ValueError:
        raise ConfigError(f"--fit {times} --predict {predict!r}: 32:375,64:270 and 128,256 are examples") from None
    if len(known) < 2 or min(*known, *others, *known.values()) <= 0:
        raise ConfigError(f"--fit {times}: expected at least two times, all above 0: a worker has two numbers")
    system = calibrate.fitted(known, lognormal(*drawn, group_size=1, seed=0), responses)
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
    warm = min(system.max_staleness + 1, len(steps) - 1)
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


def lognormal(mean: float, sigma: float, longest: int, *, group_size: int, seed: int) -> np.ndarray:
    """Lengths, int64 [groups, group size]: lognormal with this mean and σ, rounded, cut at 1 and ``longest``."""
    drawn = np.random.default_rng(seed).lognormal(math.log(mean) - sigma**2 / 2, sigma, (POOL_GROUPS, group_size))
    return np.clip(drawn.round(), 1, longest).astype(np.int64)


def read_lengths(path: Path, *, group_size: int, seed: int) -> np.ndarray:
    """Lengths, int64 [groups, group size]: the groups of a ledger as they were, or groups put together at random from a
    file with one length a line. ``DataError`` names what is wrong, and where."""
    if path.name.endswith(".jsonl"):
        return calibrate.trained_lengths(path)[1]
    try:
        words = path.read_text().split()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); a length a line, or a ledger.jsonl") from error
    for number, word in enumerate(words, start=1):
        if not word.isdecimal() or int(word) < 1:
            raise DataError(f"{path}:{number}: {word!r} is not a length in tokens, a whole number of at least 1")
    if not words:
        raise DataError(f"{path}: empty; expected one length a line")
    drawn = np.random.default_rng(seed).integers(len(words), size=(POOL_GROUPS, group_size))
    return np.array([int(word) for word in words], dtype=np.int64)[drawn]


def depth(text: str) -> PipelineDepth:
    """The pipeline depth that was given on the command line. ``ConfigError`` where it is none."""
    if text != "auto" and (not text.isdecimal() or int(text) < 1):
        raise ConfigError(f"--pipeline-depth {text}: auto, or a number of groups of at least 1")
    return "auto" if text == "auto" else int(text)


def _bounds(text: str, start: System) -> list[int]:
    words = text.replace(",", " ").split()
    if not all(word.isdecimal() for word in words):
        raise ConfigError(f"--max-staleness {text}: whole numbers of at least 0, with commas between")
    return [int(word) for word in words] or [start.max_staleness]


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
        best = max(answers["split"], key=lambda row: row["steps_per_hour"])
        columns = {"learner_gpus": ("learner GPUs", str), "rollout_gpus": ("rollout GPUs", str), **_COLUMNS}
        parts.append(_table("how to split the GPUs", columns, answers["split"]))
        parts.append(
            f"best: {best['learner_gpus']} GPUs for the learner, {best['rollout_gpus']} for rollout: "
            f"{best['steps_per_hour']:.2f} steps an hour"
        )
    return "\n\n".join(parts)


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
