"""``leeway sample``, the collector's process: it asks problems and writes graded responses.

The desk starts it beside rollout and verifier workers of the same run id. The arguments are parsed first, and the heavy
imports follow.
"""

from __future__ import annotations

import logging
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ..common.activity import Activity, Doing
from ..common.config import Config, dump, expand
from ..common.errors import BrokerError, DataError, LeewayError
from ..common.files import checksum, path_of
from ..common.fingerprint import NO_VERDICT, judged_by, of_tokenizer
from ..common.preflight.model import load_tokenizer_of
from ..common.prompts import decoder_of
from ..common.queue.learner import LearnerQueue
from ..common.role import role_parser, run_role
from ..common.service import Service
from ..common.stopping import STOPPED, stoppable
from ..common.weights import Stamp, WeightPublisher
from ..common.wording import counted
from .folder import same_or_refused
from .progress import progress
from .record import note

if TYPE_CHECKING:
    from .collector import Decoder
    from .problems import Problem

STAMP = Stamp(incarnation=1, version=0)
"""The stamp of a model folder's weights."""
PREPARED = "problems.jsonl"
"""Name of the file that ``leeway eval`` writes. It is not the user's own, so messages do not name it."""


def sample(queue: LearnerQueue, service: Service, config: Config, out: Path, responses: int, top_p: float) -> None:
    """Ask the configuration's model every problem of its file. Raises in the end where something could not be used."""
    from .collector import Collector
    from .policy import checksum_of, publisher, weights_of
    from .problems import ticket_of
    from .responses import ResponseStore

    problems, rows, unusable, text, tokens = read_problems(config, responses)
    asked = identity(config, responses, top_p, tokens)
    same_or_refused(out, asked, model=config.model.path, problems=config.source.path)
    store, failed = ResponseStore(out), dict[str, str]()
    tickets = [ticket_of(problem, config, STAMP, rows, top_p) for problem in problems]
    if not store.lacks(tickets):
        same_or_refused(out, {"weights": checksum_of(config)}, model=config.model.path)
    else:
        queue.record.set_state(phase="running", step=0)  # leeway sample lets the workers start from here on
        service.doing(Doing(Activity.LOADING_MODEL))
        publishing = publisher(queue, config, STAMP.incarnation)
        manifest = publishing.publish(STAMP.version, weights_of(config))
        same_or_refused(out, {"weights": manifest.checksum}, model=config.model.path)
        note_problems(out, problems, config)
        service.version = STAMP.version
        with progress("sample", len(tickets)) as show:
            mend = partial(restore, queue, config, publishing)
            collector = Collector(queue, service, store, text, config, show=show, mend=mend)
            if not collector.collect(tickets):
                raise SystemExit(STOPPED)
        failed = collector.failed
        queue.weights.delete_version(manifest)
    queue.record.set_state(phase="finished", step=0)
    store.join()
    tell(f"sampled and graded: {counted(store.counts().total(), 'response')}")
    complain(config.source.path, unusable, failed)


def restore(queue: LearnerQueue, config: Config, publishing: WeightPublisher) -> None:
    """Write back into an empty Redis what it held beside the groups. ``BrokerError`` where it had the weights of a
    followed run, which do not come again."""
    queue.restore_run(dump(config), 0, {})
    queue.record.set_state(phase="running", step=0)
    if not publishing.repair() and not queue.weights.manifests():
        raise BrokerError(
            "Redis came back without the weights under evaluation; the same command goes on with newer ones"
        )


def note_problems(out: Path, problems: list[Problem], config: Config) -> None:
    """Note which problems are graded in ``out`` from now on, and by which verifier."""
    by = judged_by(config.verifier)
    if others := note(out, ((problem.problem_id, problem.identity) for problem in problems), by):
        tell(
            f"{out}: its responses were graded by another verifier ({'; '.join(others)}; now {by}); "
            f"leeway eval regrade {out} grades them anew"
        )


def read_problems(config: Config, responses: int) -> tuple[list[Problem], int, int, Decoder, str]:
    """The usable problems, how many rows the file has, how many of them cannot be used, the function that makes text of
    tokens, and the tokenizer's fingerprint."""
    from .problems import load_problems

    unusable = 0

    def complain(problem: str) -> None:
        nonlocal unusable
        unusable += 1
        tell(problem)

    tokenizer, vocabulary = load_tokenizer_of(config.model.path)
    asked = (Path(expand(config.source.path)), config, tokenizer, responses, complain)
    problems, rows = load_problems(*asked, vocabulary=vocabulary)
    return problems, rows, unusable, decoder_of(tokenizer), of_tokenizer(tokenizer)


def identity(config: Config, responses: int, top_p: float, tokenizer: str) -> dict[str, Any]:
    """Everything that must be equal for two commands to sample one model alike. ``tokenizer`` is its fingerprint."""
    data, verifier = config.source, config.verifier.model_dump(mode="json", exclude_defaults=True)
    return {
        "sha256 of problems": checksum(Path(expand(config.source.path))),
        "responses": responses,
        "temperature": config.flow.temperature,
        "top_p": top_p,
        "max_tokens": config.train.max_response_tokens,
        "max_prompt_tokens": config.source.max_prompt_tokens,
        "seed": config.flow.seed,
        "columns": dict(data.columns),
        "tokenizer": tokenizer,
        "system": data.system,
        "examples": [list(pair) for pair in data.examples],
        "suffix": data.suffix,
        "ability": data.ability,
        "comparison": data.comparison,
        "engine": config.rollout.engine,
        "dtype": [config.weights.dtype, config.rollout.dtype],
        "verifier": {key: value for key, value in verifier.items() if key not in NO_VERDICT},
    }


def tell(text: str) -> None:
    """Print a line for people on standard error."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(text, markup=False)


def complain(source: str, unusable: int, failed: dict[str, str]) -> None:
    """Raise ``DataError`` (exit code 3) for rows that cannot be used, or else ``LeewayError`` (code 1) for problems
    without responses."""
    whose = "" if Path(expand(source)).name == PREPARED else f"{source}: "
    parts = [f"{whose}{counted(unusable, 'row')} could not be used, each named above"] if unusable else []
    if failed:
        first, why = next(iter(failed.items()))
        parts.append(
            f"no responses to {counted(len(failed), 'problem')} ({first}: {why}, …); the same command asks them again"
        )
    if parts:
        raise (DataError if unusable else LeewayError)("; ".join(parts))


def main() -> int:
    """Parse the arguments and run."""
    parser = role_parser("collector", __doc__)
    parser.add_argument("--out", type=path_of, required=True)
    parser.add_argument("--responses", type=int, required=True)
    parser.add_argument("--top-p", type=float, required=True)
    arguments = parser.parse_args()

    def work(queue: LearnerQueue, service: Service, config: Config) -> None:
        logging.getLogger().setLevel(logging.WARNING)  # the progress bar takes the place of log lines
        sample(queue, service, config, arguments.out, arguments.responses, arguments.top_p)

    return run_role("collector", LearnerQueue, arguments.redis_url, arguments.run, work, wait_s=arguments.wait_s)


if __name__ == "__main__":
    sys.exit(stoppable(main))
