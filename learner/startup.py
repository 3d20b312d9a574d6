"""What a learner prepares when it starts: the prompts, the books, and the ledger's first lines."""

import json
from pathlib import Path
from typing import Any

from .. import __version__
from ..common.activity import Activity, Doing
from ..common.config import Config
from ..common.errors import DataError
from ..common.ledger import FORMAT, Ledger, why_other_format
from ..common.lineage import lineage_of
from ..common.preflight.model import load_tokenizer_of, refuse_other_tokens
from ..common.queue.learner import LearnerQueue
from ..common.service import Service
from . import checkpoint
from .flow.curriculum import Curriculum, load_curriculum
from .flow.intake import SHARDS
from .flow.staleness import Stages
from .flow.tickets import LiveGroup, TicketBook
from .own_loss import of


def read_prompts(service: Service, config: Config) -> Curriculum:
    """Read the prompts of the whole run. ``DataError`` names a row that cannot be used."""
    service.doing(Doing(Activity.READING_PROMPTS))
    tokenizer, vocabulary = load_tokenizer_of(config.model.path)
    refuse_other_tokens(config, tokenizer)
    return load_curriculum(config, tokenizer, vocabulary)


def refuse_lost_start(folder: Path) -> None:
    """``DataError`` where the run in ``folder``, which has no checkpoint that is whole, is a fork: to begin with the
    initial model would be another run than its ledger says."""
    if lineage := lineage_of(folder):
        raise DataError(
            f"{folder / 'checkpoints'}: no whole checkpoint is left of this fork of {lineage[0].run} at step "
            f"{lineage[0].step}, so there is nothing to go on from: fork again, under another name"
        )


def refuse_older(checkpoints: Path) -> None:
    """``DataError`` where the newest checkpoint is of a Leeway that wrote another format, or summed the weights in
    another way, so that its ledger could not be gone on with."""
    found = checkpoint.newest(checkpoints)
    if found is None:
        return
    if (why := why_other_format(json.loads((found / checkpoint.COMPLETE).read_text()))) is not None:
        raise DataError(f"checkpoint {found}: {why}")
    if json.loads((found / checkpoint.STATE).read_text()).get("checksums") != SHARDS:
        raise DataError(
            f"checkpoint {found}: an older Leeway wrote it, and its ledger sums the weights in another way: go on with "
            "that Leeway, or export the model with it and start a new run from the export"
        )


def stages_of(config: Config) -> Stages:
    """The stages of a run, for its books."""
    return Stages(
        starts=config.stage_starts,
        groups_per_step=tuple(view.train.groups_per_step for view in config.views()),
        steps=config.train.steps,
        issue_ahead=config.flow.stage_change == "finish",
    )


def make_book(config: Config, state: dict[str, Any] | None) -> TicketBook:
    """The books of a run that starts, or that goes on from a checkpoint's ``state``."""
    flow = config.flow
    book = TicketBook(
        stages=stages_of(config),
        max_staleness=flow.first_bound,
        overflow=flow.overflow,
        pipeline_depth=flow.pipeline_depth,
        inject_lag=flow.inject_lag,
    )
    if state is not None:
        book.version, book.next_ticket = state["version"], state["next_ticket"]
        asked = state.get("asked", {})  # an older Leeway drew the prompts again
        book.live = {int(each): LiveGroup(stage=stage, asks=asked.get(each)) for each, stage in state["live"].items()}
        book.max_staleness, book.overflow = state["max_staleness"], state["overflow"]
        book.pipeline_depth = state["pipeline_depth"]
    return book


def open_ledger(
    ledger: Ledger,
    queue: LearnerQueue,
    config: Config,
    book: TicketBook,
    state: dict[str, Any] | None,
    incarnation: int,
) -> None:
    """Write a learner's first lines: what the run is, or how far a resume goes back, and that it has started."""
    if ledger.line == 0:
        ledger.write("run", **first_line(queue.run, config))
    else:
        ledger.write("rolled_back", to_line=state["ledger_line"] if state is not None else 1)
    own_loss = of(config.objective)
    digests = {
        "rewards_digest": config.verifier.rewards_digest,
        "environment_digest": config.environment and config.environment.digest,
        "loss_digest": own_loss and own_loss.digest,
    }
    code = {name: digest for name, digest in digests.items() if digest is not None}
    ledger.write("started", incarnation=incarnation, version=book.version, leeway=__version__, format=FORMAT, **code)


def first_line(run: str, config: Config) -> dict[str, Any]:
    """What the ledger's first line says of a run."""
    return {
        "format": FORMAT,
        "leeway": __version__,
        "run": run,
        "seed": config.flow.seed,
        "steps": config.train.steps,
        "stages": [
            {"from_step": start, "groups_per_step": view.train.groups_per_step, "group_size": view.train.group_size}
            for start, view in zip(config.stage_starts, config.views(), strict=True)
        ],
        "max_staleness": config.flow.first_bound,
        "overflow": config.flow.overflow,
        "inject_lag": config.flow.inject_lag,
        "stage_change": config.flow.stage_change,
    }


def forget_older_versions(queue: LearnerQueue, incarnation: int) -> None:
    """Delete the weights that incarnations before this one published."""
    for manifest in queue.weights.manifests():
        if manifest.incarnation < incarnation:
            queue.weights.delete_version(manifest)
