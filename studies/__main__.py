"""``leeway study``: makes the runs of some studies, judges them, and writes the pages of all studies that have runs."""

import argparse
import sys
from pathlib import Path

from ..common.errors import DataError, told
from ..common.files import path_of
from ..common.stopping import stoppable


def main() -> int:
    parser = argparse.ArgumentParser(prog="leeway study", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--all", action="store_true", dest="everything")
    parser.add_argument("--list", action="store_true", dest="listing")
    parser.add_argument("--seeds", type=_seeds, default=None)
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--out", type=path_of, default=Path("docs/studies"))
    parser.add_argument("--runs-dir", type=path_of, default=Path("runs/studies"))
    parser.add_argument("--jobs", type=int, default=None)
    given = parser.parse_args()
    return told("leeway study", lambda: study(given))


def _seeds(text: str) -> list[int]:
    try:
        seeds = [int(word) for word in text.split(",")]
    except ValueError:
        seeds = []
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise argparse.ArgumentTypeError(f"{text!r}: different whole numbers from 0, with commas")
    return seeds


def study(given: argparse.Namespace) -> None:
    from .catalogue import STUDIES
    from .study import STEPS

    if given.listing:
        for each in STUDIES.values():
            print(f"{each.name:16} {each.question}")
        return
    unknown = [name for name in given.names if name not in STUDIES]
    if unknown or not (given.names or given.everything):
        said = f"there is no study {unknown[0]!r}" if unknown else "name a study, or --all"
        raise DataError(f"{said}; there are {', '.join(STUDIES)}")
    chosen = [STUDIES[name] for name in (STUDIES if given.everything else given.names)]

    from .page import write_index, write_page
    from .runner import make_missing

    steps = STEPS if given.steps is None else given.steps
    seeds = {each: each.seeds if given.seeds is None else given.seeds for each in STUDIES.values()}
    runs = {each: each.runs(seeds[each], steps, given.runs_dir) for each in STUDIES.values()}
    make_missing([run for each in chosen for of in runs[each].values() for run in of], given.jobs)
    made = [each for each, settings in runs.items() if all(run.whole for of in settings.values() for run in of)]
    findings = {each: write_page(each, runs[each], seeds[each], given.out) for each in made}
    write_index(given.out, findings, steps)
    for each in chosen:
        for finding in findings[each]:
            print(f"{each.name:16} {finding.verdict:9}  {finding.claim.text}")


if __name__ == "__main__":
    sys.exit(stoppable(main))
