"""The model card of an exported checkpoint. It says what made the weights, so that a reader can make them again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..common.config import Config, dump, expand
from ..common.tables import markdown
from ..common.wording import counted

LAST_STEPS = 5
_COLUMNS = {
    "reward/mean": "reward",
    "entropy/policy": "entropy, nats",
    "entropy/alpha": "α",
    "response/length_mean": "tokens a response",
    "response/truncated_share": "truncated",
    "staleness/token_mean": "staleness",
    "grad_norm": "gradient norm",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where exported weights come from."""

    run: str
    version: int
    """Training steps completed."""
    incarnation: int
    """Incarnation of the learner that wrote the checkpoint: how often the learner had started."""
    ledger_line: int
    """How many lines the run's ledger had when the checkpoint was written."""
    checksum: str | None
    """The checksum of the version as it was published, which the exported weights were compared with; ``None`` where it
    is not known."""
    dtype: str
    """dtype of the exported weights."""
    layout: Mapping[str, int]
    """``zero_stage`` and ``ranks`` of the learner."""
    trained_with: Mapping[str, str] | None
    """Versions of packages in the learner's process; ``None`` where the checkpoint does not say."""
    exported_with: Mapping[str, str]


def model_card(config: Config, origin: Origin, steps: Sequence[Mapping[str, Any]]) -> str:
    """The card as Markdown. ``steps``: lines of ``metrics.jsonl`` up to the checkpoint's, oldest first; it may be
    empty."""
    return "\n".join(
        [
            *_front_matter(config),
            "",
            f"# {origin.run}, step {origin.version}",
            "",
            f"`{config.model.path}` after {origin.version} of {config.train.steps} training steps of reinforcement "
            "learning with Leeway: MAGIC, the recipe of Skywork-OR1 (arXiv 2505.22312).",
            "",
            *markdown(("", ""), _origin_rows(config, origin)),
            "",
            "## The last training steps",
            "",
            *_metrics(steps),
            "",
            "## Configuration",
            "",
            "All keys, as the run had them; `leeway config` says what each means. Live controls may have been turned "
            "since: the ledger has every turn.",
            "",
            "```toml",
            dump(config).strip(),
            "```",
            "",
        ]
    )


def _front_matter(config: Config) -> list[str]:
    lines = ["---", "library_name: transformers", "pipeline_tag: text-generation"]
    if _on_hub(config):
        lines.append(f"base_model: {config.model.path}")
    # No licence is filled in: it depends on the licences of base model and data, and whoever publishes must decide.
    return [*lines, "# license: yours to name; the base model's and the data's terms hold", "---"]


def _origin_rows(config: Config, origin: Origin) -> list[tuple[str, str]]:
    stage = config.stage_of(max(origin.version - 1, 0))
    now = config.at_stage(stage)
    train = now.train
    same = f"equal, bit for bit, to what the run published ({config.weights.dtype}, checksum `{origin.checksum}`)"
    return [
        ("run", f"`{origin.run}`"),
        ("base model", f"`{config.model.path}`"),
        ("data", _data(config)),
        ("training step", f"{origin.version} of {config.train.steps}"),
        ("stage", f"{stage + 1} of {len(config.stage_starts)}, from step {config.stage_starts[stage]}"),
        (
            "batch of that stage",
            f"{counted(train.groups_per_step, 'prompt')} × {train.group_size} responses of at most "
            f"{counted(train.max_response_tokens, 'token')}, {counted(train.updates_per_step, 'SGD update')}, "
            f"τ = {now.flow.temperature}",
        ),
        ("staleness bound", f"{config.flow.max_staleness} at the start"),
        ("seed", str(config.flow.seed)),
        ("incarnation", f"{origin.incarnation} (starts of the learner)"),
        ("ledger position", f"line {origin.ledger_line}"),
        ("checked", same if origin.checksum else "no: the run's ledger was not at hand"),
        (
            "weights",
            "float32, as the learner has them"
            if origin.dtype == "float32"
            else f"{origin.dtype}, rounded from float32",
        ),
        ("learner", f"ZeRO {origin.layout['zero_stage']} on {counted(origin.layout['ranks'], 'rank')}"),
        ("trained with", _versions(origin.trained_with)),
        ("exported with", _versions(origin.exported_with)),
        (
            "generation_config.json",
            f"the base model's; training sampled at τ = {now.flow.temperature}, top_p 1, no top_k",
        ),
    ]


def _data(config: Config) -> str:
    if not config.source_names:
        return f"`{config.source.path}` ({config.source.source})"
    shares = zip(config.sources, config.shares, strict=True)
    return "; ".join(f"{each.name}: `{each.path}` ({each.source}), share {share:.4g}" for each, share in shares)


def _metrics(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    if not steps:
        return ["No metrics were at hand."]
    columns = [name for name in _COLUMNS if all(name in step for step in steps[-LAST_STEPS:])]
    rows = ([str(step["version"]), *(f"{step[name]:.4g}" for name in columns)] for step in steps[-LAST_STEPS:])
    return markdown(["step", *(_COLUMNS[name] for name in columns)], rows)


def _versions(packages: Mapping[str, str] | None) -> str:
    return "unknown" if packages is None else ", ".join(f"{name} {version}" for name, version in packages.items())


def _on_hub(config: Config) -> bool:
    path = config.model.path
    return expand(path) == path and path.count("/") == 1 and not path.startswith((".", "/", "~"))
