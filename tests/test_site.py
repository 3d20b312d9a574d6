"""The documentation site is built without a warning: every link and every anchor on it leads somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.timeout(900)


def build(docs, out):
    """``make site``'s command."""
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", "--fresh-env"]
    return subprocess.run([*command, str(docs), str(out)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    done = build(ROOT / "docs", out)
    assert done.returncode == 0, done.stderr
    return out


def test_every_page_is_on_the_site_and_can_be_found(site):
    pages = {path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert {page for page in pages if not (site / f"{page}.html").exists()} == set()
    index = (site / "searchindex.js").read_text()
    assert {page for page in pages if f'"{page}"' not in index} == set()


def test_the_site_asks_no_other_machine_for_anything(site):
    for path in site.rglob("*.html"):
        asked = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', path.read_text())
        assert asked == [], path


def test_a_link_to_the_code_opens_the_file_at_the_definition_that_it_names(site):
    page = (site / "concepts/architecture.html").read_text()
    file, line = re.search(
        r'href="\.\./(sources/learner/flow/tickets\.py\.html)#(line-\d+)"[^>]*><code[^>]*>', page
    ).groups()
    shown = (site / file).read_text()
    definition = shown.partition(f'id="{line}"')[2].partition('id="line-')[0]
    assert "vacancies" in re.sub(r"<[^>]+>", "", definition)


def test_only_what_lies_beside_the_pages_is_downloaded(site):
    beside = {path.name for path in (ROOT / "docs").rglob("*")}
    assert {path.name for path in (site / "_downloads").rglob("*") if path.is_file()} <= beside


@pytest.mark.parametrize(
    ("link", "said"),
    [("[a](nowhere.md)", "nowhere.md"), ("[a](index.md#nowhere)", "nowhere"), ("![a](nowhere.png)", "nowhere.png")],
    ids=["page", "anchor", "picture"],
)
def test_a_dead_link_fails_the_build(tmp_path, link, said):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "conf.py").write_text((ROOT / "docs/conf.py").read_text())
    (docs / "_static").mkdir()
    (docs / "_static/leeway.css").write_text("")
    (docs / "index.md").write_text(f"# Home\n\n{link}\n")
    done = build(docs, tmp_path / "out")
    assert done.returncode != 0
    assert said in done.stderr


def test_the_reference_says_what_the_code_says():
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs/generated.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
