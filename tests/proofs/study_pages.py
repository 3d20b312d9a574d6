"""Judge again what docs/studies has, and write its pages anew, without making a run: seconds instead of an hour.

::

    python tests/proofs/study_pages.py [--folder docs/studies] [--check]

Every number on the pages comes from the CSV files beside them; these and the pictures are left as they are. ``--check``
writes nothing and ends with 1 where a page says something else than its CSV.
"""

from __future__ import annotations

import sys
from pathlib import Path

from leeway_rl.benchmarks.measure import parser_of
from leeway_rl.studies.catalogue import STUDIES
from leeway_rl.studies.page import index_of, page_of
from leeway_rl.studies.recorded import CORES, SINCE, recorded
from leeway_rl.studies.study import STEPS


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--folder", type=Path, default=Path(__file__).resolve().parents[2] / "docs/studies")
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    pages, findings = {}, {}
    for study in STUDIES.values():
        runs = recorded(study, given.folder / f"{study.name}.csv")
        pages[f"{study.name}.md"], findings[study] = page_of(study, runs, study.seeds, CORES)
    pages["README.md"] = index_of(findings, STEPS, CORES, SINCE)
    differ = [name for name, text in pages.items() if (given.folder / name).read_text() != text]
    for name in differ:
        print(f"{name}: {'not what its CSV says' if given.check else 'written'}")
        if not given.check:
            (given.folder / name).write_text(pages[name])
    print(f"{len(pages) - len(differ)} of {len(pages)} pages were as they must be")
    sys.exit(given.check and bool(differ))


if __name__ == "__main__":
    main()
