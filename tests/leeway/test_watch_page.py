"""The page of ``leeway watch`` in a real Chromium: how soon it stands, how soon it tells, and that it asks nobody else.

It needs the extra ``browser`` and a Chromium on PATH (Debian: ``apt-get install chromium``)."""

import json
import shutil
import time
from contextlib import closing

import pytest
from leeway_rl.common.config import compose, dump
from leeway_rl.common.ledger import Ledger
from leeway_rl.common.samples import FILE, line_of
from leeway_rl.leeway.watching.server import Watching
from leeway_rl.leeway.watching.source import Source

from tests.leeway.test_watch import TOKEN, a_sample, served

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'leeway-rl[browser]'")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium on PATH"),
    pytest.mark.slow,
    pytest.mark.timeout(900),
]

STEPS = 10_000
HANGS_MS = 200_000
"""Milliseconds that the browser has for anything; by itself it gives up after thirty seconds."""
TRIES = 4
"""What takes time is tried so often, and the best counts: the machine may have other work."""


def a_step(step: int, reward: float = 0.5) -> str:
    metrics = {
        "reward/mean": reward,
        "reward/trained_mean": 0.4,
        "entropy/policy": 0.2 + 0.01 * (step % 7),
        "entropy/target": 0.2,
        "staleness/head_mean": 0.5,
        "staleness/head_max": step % 3,
        "flow/max_staleness": 2,
        "time/step_s": 10.0,
        "time/wait_for_batch_s": 3.0,
        "time/train_s": 6.0,
        "throughput/rollout_tokens_per_s": 900.0 + step % 50,
        "throughput/learner_tokens_per_s": 800.0 + step % 40,
        "loss": 0.01 * (step % 5),
        "grad_norm": 0.3 + 0.01 * (step % 11),
        "logprob/abs_diff_mean": 0.001,
    } | {f"other/{number}": 0.123 for number in range(100)}
    return json.dumps({"step": step, "version": step + 1, "at": 1e9 + step} | metrics) + "\n"


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=HANGS_MS)
        yield browser
        browser.close()


@pytest.fixture
def run(bus, tmp_path):
    """A run under way: 10,000 steps, a turn of the dial, a resume, samples, a dead letter."""
    bus.record.store_config("")
    bus.record.set_state(phase="training", step=STEPS, steps=2 * STEPS)
    bus.redis.xadd(bus.keys.weights, {"m": b"garbage"})
    assert bus.weights.manifests() == []
    folder = tmp_path / bus.run
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("".join(map(a_step, range(STEPS))))
    (folder / FILE).write_text("".join(line_of(a_sample(ticket, text="<b>7</b>")) for ticket in range(5)))
    with closing(Ledger(folder / "ledger.jsonl")) as ledger:
        ledger.write("started", incarnation=1, version=0)
        ledger.write("control", name="max_staleness", value=2, previous=1, version=3000, by="operator")
        ledger.write("started", incarnation=2, version=6000)
    return bus, folder


def opened(chromium, url, **options):
    """A page with everything that it asked for, and every error that it met."""
    page = chromium.new_context(**options).new_page()
    page.set_default_timeout(HANGS_MS)
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(url)
    page.wait_for_selector("figure:not([hidden]) .legend span")
    return page, asked, errors


def test_the_page_shows_the_run_and_asks_only_its_own_server(chromium, run):
    bus, folder = run
    with served(Watching(Source(bus.url, folder, local=False))) as url:
        page, asked, errors = opened(chromium, url)
        assert page.locator("#run").inner_text() == bus.run
        assert "no learner is alive" in page.locator("#sentence").inner_text()
        assert page.locator("figure:not([hidden]) b").all_inner_texts()[:2] == ["Reward", "Policy entropy"]
        assert page.locator("svg").first.get_attribute("aria-label") == "Reward: all 0.5, trained on 0.4"
        assert "A point is the mean of 32 steps" in page.locator("#curves-note").inner_text()
        assert page.locator("figure:not([hidden])").first.locator(".turn-words").text_content() == "η = 2"
        assert page.locator("figure:not([hidden])").first.locator("line.resumed").count() == 1
        assert page.locator("#turns tbody tr").all_inner_texts() == ["3000\tmax-staleness\t1\t2\toperator"]
        assert page.locator("#letters tbody tr").count() == 1
        assert page.locator("#by-staleness tbody tr").count() == 2
        assert page.locator("#samples > details").count() == 5
        page.locator("#samples summary").first.click()
        page.wait_for_selector("pre.policy")
        assert page.locator("pre.policy").first.inner_text() == "<b>7</b>"  # a text, never HTML
        page.select_option("select[name=staleness]", "1")
        assert "5 of the newest 5" in page.locator("#shown").inner_text()
        assert page.locator("#control").is_hidden()
        assert errors == []
        assert {address.split("/")[2] for address in asked} == {url.split("/")[2]}
        # Even a script in the page could ask nobody else: the browser refuses.
        refused = "() => fetch('http://127.0.0.2:1/').then(() => 'asked', (error) => String(error))"
        with page.expect_console_message(lambda message: "Content Security Policy" in message.text):
            assert "TypeError" in page.evaluate(refused)


def test_the_page_stands_soon_and_tells_soon_of_a_step(chromium, run):
    """How soon is printed. What is asked for is ten times as much as a machine with nothing else to do takes."""
    bus, folder = run
    with served(Watching(Source(bus.url, folder, local=False))) as url:
        paints, delays, drawings = [], [], []
        for number in range(TRIES):
            page, _, _ = opened(chromium, url)
            paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime") / 1000)
            reward = round(0.9 + 0.01 * number, 2)
            start = time.monotonic()
            with (folder / "metrics.jsonl").open("a") as file:  # a point of its own mean, which the legend tells
                file.write("".join(a_step(STEPS + 64 * number + each, reward) for each in range(64)))
            page.wait_for_selector(f"figure:not([hidden]) .legend >> text=all {reward}")
            delays.append(time.monotonic() - start)
            drawings.append(page.evaluate("performance.getEntriesByName('drawing')[0].duration") / 1000)
            page.context.close()
        print(f"first paint {paints} s, a new step shown after {delays} s, drawn in {drawings} s")
        assert min(paints) < 10
        assert min(delays) < 20
        assert min(drawings) < 1


def test_the_page_turns_the_dial_with_the_token_of_its_address(chromium, run):
    bus, folder = run
    bus.record.store_config(dump(compose(["tiny"], [])))
    with served(Watching(Source(bus.url, folder, local=False), token=TOKEN)) as url:
        page, asked, _ = opened(chromium, f"{url}/#token={TOKEN}", viewport={"width": 400, "height": 800})
        assert TOKEN not in page.url
        assert not any(TOKEN in address for address in asked[1:])
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")  # nothing is cut off when narrow
        assert page.locator("select[name=name] option").first.inner_text() == "max-staleness"
        page.fill("input[name=value]", "3")
        page.click("text=Turn")
        page.wait_for_selector("#told >> text=max-staleness = 3")
        page.fill("input[name=value]", "-3")
        page.click("text=Turn")
        page.wait_for_selector("#told >> text=a whole number of versions")
        page.click("#pause")
        page.wait_for_selector("#pause >> text=Resume")
        assert bus.overview.controls() == {"max_staleness": "3", "paused": "1"}
