"""The page of ``leeway watch``, without a browser: what it is told, by whom, and that nobody waits for a viewer."""

import asyncio
import json
import math
import random
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from contextlib import closing, contextmanager
from dataclasses import replace

import httpx
import pytest
import uvicorn
from leeway_rl.common.activity import Activity
from leeway_rl.common.config import compose, dump
from leeway_rl.common.diagnosis import diagnose
from leeway_rl.common.errors import ConfigError
from leeway_rl.common.ledger import Ledger
from leeway_rl.common.samples import FILE, PROMPT, Sample, SampledResponse, Segment, line_of
from leeway_rl.common.tail import Growing
from leeway_rl.leeway.looking.status_json import of_look
from leeway_rl.leeway.reporting.pictures import PANELS
from leeway_rl.leeway.running.server import free_port
from leeway_rl.leeway.watching import serve
from leeway_rl.leeway.watching.account import Account, events_in
from leeway_rl.leeway.watching.answers import KEPT, Answers
from leeway_rl.leeway.watching.board import Board, Mark
from leeway_rl.leeway.watching.charts import CHARTS, OTHER, shown
from leeway_rl.leeway.watching.curves import MOST, Curves
from leeway_rl.leeway.watching.flow import boxes
from leeway_rl.leeway.watching.server import Watching
from leeway_rl.leeway.watching.source import Found, News, Source

from tests.documented_metrics import undocumented
from tests.leeway.test_status import GRADES, NOW, TRAINS, WAITS, beat, snapshot


def a_sample(ticket=7, *, ages=(0, 1), rewards=(1.0, 0.0), text="4 + 3 is 7") -> Sample:
    return Sample(
        step=3,
        outcome="trained",
        ticket=ticket,
        incarnation=1,
        stage=0,
        prompt_id="made-up:1",
        ability="math",
        gold=("7",),
        prompt=(Segment(by=PROMPT, text="4 + 3?", tokens=5),),
        responses=tuple(
            SampledResponse(
                index=index,
                segments=(Segment(by="policy", text=text, tokens=6),),
                finished=True,
                rewards={"reward": reward},
                verdict="correct" if reward else "wrong",
                reason="",
                staleness={"mean": age / 2, "max": float(age)},
            )
            for index, (age, reward) in enumerate(zip(ages, rewards, strict=True))
        ),
        at=NOW,
        place=0,
    )


def found(*, steps=(), anew=False, at=NOW) -> Found:
    now = replace(snapshot(TRAINS, GRADES), at=at)
    none = News(False, [])
    return Found(
        status=of_look(now, diagnose(now)), letters=[], steps=News(anew, list(steps)), events=none, samples=none
    )


def events_of(text: bytes) -> dict:
    pairs = re.findall(r"event: (\w+)\ndata: (.*)\n", text.decode())
    return {name: json.loads(data) for name, data in pairs}


# The files, as they grow


def test_a_growing_file_gives_each_whole_line_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    growing = Growing(path)
    assert not growing.renewed()
    assert list(growing.lines()) == []
    path.write_text("one\ntw")
    assert list(growing.lines()) == [b"one\n"]
    with path.open("a") as file:
        file.write("o\nthree\n")
    assert not growing.renewed()
    assert list(growing.lines()) == [b"two\n", b"three\n"]
    assert list(growing.lines()) == []
    growing.close()


@pytest.mark.parametrize("how", ["replaced", "cut off", "removed"])
def test_a_file_that_was_written_anew_is_read_from_its_first_line(tmp_path, how):
    path = tmp_path / "metrics.jsonl"
    path.write_text("one\ntwo\n")
    with closing(Growing(path)) as growing:
        assert list(growing.lines()) == [b"one\n", b"two\n"]
        if how == "replaced":
            (tmp_path / "new").write_text("one\nTWO\nthree\n")
            (tmp_path / "new").replace(path)
        elif how == "cut off":
            path.write_text("one\n")
        else:
            path.unlink()
        assert growing.renewed()
        expected = {"replaced": [b"one\n", b"TWO\n", b"three\n"], "cut off": [b"one\n"], "removed": []}
        assert list(growing.lines()) == expected[how]
        assert not growing.renewed()


# The curves


def test_ten_thousand_steps_are_a_few_hundred_points_that_keep_mean_and_extremes():
    curves = Curves()
    for step in range(10_000):
        curves.add(step, {"reward": float(step % 32)})
    told = curves.since(0, 0)
    assert told["size"] == 32
    assert len(told["steps"]) == math.ceil(10_000 / 32) <= MOST
    assert told["steps"][:2] == [15.5, 47.5]
    of = told["curves"]["reward"]
    assert of["mean"][:-1] == [15.5] * 312  # every point but the last has 32 steps
    assert of["mean"][-1] == 7.5
    assert (of["least"][0], of["greatest"][0], of["greatest"][-1]) == (0.0, 31.0, 15.0)


def test_a_short_run_is_sent_step_by_step_with_gaps_where_nothing_is_known():
    curves = Curves()
    curves.add(0, {"reward": 0.123456789})
    curves.add(1, {"reward": math.nan, "kl": 2.0})
    told = curves.since(0, 0)
    assert told["steps"] == [0, 1]
    assert told["curves"] == {"reward": {"mean": [0.12346, None]}, "kl": {"mean": [None, 2.0]}}


def test_what_a_viewer_lacks_joined_to_what_it_has_is_the_whole():
    curves, draw = Curves(), random.Random(0)
    generation, mine = 0, {"steps": [], "mean": []}
    for step in range(3000):
        curves.add(step, {"reward": draw.random()})
        if draw.random() < 0.1 or step == 2999:
            told = curves.since(generation, len(mine["steps"]))
            mine["steps"] = mine["steps"][: told["start"]] + told["steps"]
            mine["mean"] = mine["mean"][: told["start"]] + told["curves"]["reward"]["mean"]
            generation = told["generation"]
    whole = curves.since(0, 0)
    assert mine == {"steps": whole["steps"], "mean": whole["curves"]["reward"]["mean"]}
    nothing_new = curves.since(generation, len(mine["steps"]))
    assert len(nothing_new["steps"]) == 1  # the last point, which may have grown


NAMES = {"reward/part/*": "format", "source/*/reward_mean": "easy", "solved/pass_at_*": "4"} | {
    "verdict/*/length_mean": "wrong",
    "refunds/*": "poison",
}


def test_every_chart_is_one_of_the_reports_and_of_metrics_that_are_documented():
    assert {chart.title for chart in CHARTS} <= {panel.title for panel in PANELS}
    keys = {line.key for chart in CHARTS for line in chart.lines}
    assert undocumented({key.replace("*", NAMES.get(key, "")) for key in keys} - {OTHER}) == set()
    assert NAMES.keys() == {key for key in keys if "*" in key}


def test_of_a_step_only_what_is_drawn_is_kept_and_the_rest_of_its_time_is_named():
    step = {"step": 4, "reward/mean": 0.5, "reward/trained_mean/head_1": 0.4, "flow/overflow": "wait"} | {
        "refunds/poison": 2,
        "time/step_s": 10.0,
        "time/train_s": 6.0,
        "time/wait_for_batch_s": 3.0,
    }
    assert shown(step) == {
        "reward/mean": 0.5,
        "refunds/poison": 2.0,
        "time/train_s": 6.0,
        "time/wait_for_batch_s": 3.0,
        OTHER: 1.0,
    }


# Ledger, samples, boxes


def test_the_dials_history_is_what_no_resume_has_undone(tmp_path):
    with closing(Ledger(tmp_path / "ledger.jsonl")) as ledger:
        ledger.write("started", incarnation=1, version=0)
        ledger.write("control", name="max_staleness", value=2, previous=1, version=3, by="operator")
        ledger.write("issued", ticket=1, prompt='a prompt with "event":"control" in it')
        kept = ledger.line
        ledger.write("control", name="paused", value=1, previous=0, version=5, by="operator")
        ledger.write("rolled_back", to_line=kept)
        ledger.write("started", incarnation=2, version=4)
        ledger.write("control", name="max_staleness", value=1, previous=2, version=6, by="guard")
    account = Account()
    for event in events_in((tmp_path / "ledger.jsonl").read_bytes().splitlines(keepends=True)):
        account.take(event)
    told = account.told()
    assert [(each["version"], each["words"], each["by"]) for each in told["turns"]] == [
        (3, "η = 2", "operator"),
        (6, "η = 1", "guard"),
    ]
    assert told["resumed"] == [4]
    assert not told["ended"]


def test_samples_are_listed_newest_first_with_rewards_by_staleness():
    answers = Answers()
    for ticket in range(KEPT + 2):
        answers.take(a_sample(ticket))
    told = answers.told()
    assert [group["id"] for group in told["groups"]] == [f"{ticket}-1" for ticket in range(KEPT + 1, 1, -1)]
    assert told["by_staleness"] == [
        {"staleness": 0, "responses": KEPT + 2, "reward": 1.0},
        {"staleness": 1, "responses": KEPT + 2, "reward": 0.0},
    ]
    texts = answers.texts("9-1")
    assert texts["prompt"] == [{"by": "prompt", "text": "4 + 3?"}]
    assert "staleness 0.50, at most 1" in texts["responses"][1]["heading"]
    assert answers.texts("0-1") is None  # no longer listed


def test_the_boxes_say_who_works_who_waits_and_who_is_gone():
    now = snapshot(
        replace(TRAINS, worker="learner-1"),
        beat("rollout", Activity.WAITING_FOR_PROMPTS, version=2),
        replace(beat("rollout", Activity.WAITING_FOR_PROMPTS), worker="rollout-2"),
        lost={"verifier/verifier-1": NOW - 9},
        responses=5,
        taken=2,
        leader="learner-1",
    )
    rollout, verifier, learner = boxes(of_look(now, diagnose(now)))
    assert (rollout["mood"], rollout["doing"]) == ("waits", "2 waiting for prompts")
    assert (rollout["versions"], rollout["tokens_per_s"]) == ([2, 3], 10.0)
    assert (verifier["mood"], verifier["lost"], verifier["waiting"], verifier["taken"]) == ("gone", 1, 3, 2)
    assert (learner["mood"], learner["doing"]) == ("works", "training step 3")
    waiting = snapshot(WAITS)
    assert boxes(of_look(waiting, diagnose(waiting)))[2]["mood"] == "waits"


# The board


def test_a_viewer_is_sent_all_there_is_and_then_only_what_changes():
    board = Board()
    board.take(found(steps=[{"step": 0, "reward/mean": 0.5}]))
    first, mark = board.since(Mark())
    assert {"status", "letters", "history", "curves"} == events_of(first).keys()
    assert board.since(mark)[0] == b""
    board.take(found(steps=[{"step": 1, "reward/mean": 0.7}]))
    second, mark = board.since(mark)
    assert events_of(second).keys() == {"curves"}
    assert events_of(second)["curves"]["steps"] == [0, 1]
    assert events_of(second)["curves"]["start"] == 0


def test_a_resume_that_undid_steps_makes_the_curves_come_anew():
    board = Board()
    board.take(found(steps=[{"step": step, "reward/mean": 0.5} for step in range(5)]))
    _, mark = board.since(Mark())
    board.take(found(steps=[{"step": step, "reward/mean": 0.6} for step in range(3)], anew=True))
    curves = events_of(board.since(mark)[0])["curves"]
    assert curves["start"] == 0
    assert curves["curves"]["reward/mean"]["mean"] == [0.6] * 3


def test_a_slow_viewer_holds_nobody_up_and_skips_what_was_replaced_meanwhile():
    async def viewers():
        board = Board()
        board.take(found())
        slow, quick = board.events(), board.events()
        for viewer in (slow, quick):
            await anext(viewer)
            await anext(viewer)
        assert board.viewers == 2
        for at in range(1, 101):
            board.take(found(at=NOW + at))
            assert events_of(await anext(quick))["status"]["at"] == NOW + at
        text = await anext(slow)
        assert text.count(b"event: status") == 1
        assert events_of(text)["status"]["at"] == NOW + 100
        for viewer in (slow, quick):
            await viewer.aclose()
        assert board.viewers == 0
        assert not board.watched.is_set()

    asyncio.run(viewers())


def test_what_a_worker_reports_cannot_break_the_page():
    board = Board()
    now = snapshot(replace(TRAINS, busy_s=math.inf), poison="\x1b[2J\u202e</script>")
    board.take(replace(found(), status=of_look(now, diagnose(now))))
    told = events_of(board.since(Mark())[0])["status"]
    assert told["state"]["poison"] == "\\x1b[2J\\u202e</script>"
    assert told["workers"][0]["busy_s"] is None


# The source


def test_one_look_finds_what_redis_and_the_folder_have(bus, tmp_path):
    folder = tmp_path / bus.run
    folder.mkdir()
    bus.record.store_config("")
    bus.record.set_state(phase="training", step=1, steps=9)
    bus.desk.beat(replace(TRAINS, since=bus.now(), started=bus.now()), 30.0)
    bus.redis.xadd(bus.keys.weights, {"m": b"garbage"})
    assert bus.weights.manifests() == []  # which leaves a dead letter
    (folder / "metrics.jsonl").write_text('{"step": 0, "reward/mean": 0.5}\nnot JSON\n{"step": 1}\n{"st')
    (folder / FILE).write_text(line_of(a_sample()) + "torn\n")
    with closing(Source(bus.url, folder, local=False)) as source:
        look = source.read()
        assert look.status["situation"] == "running"
        assert [worker["role"] for worker in look.status["workers"]] == ["learner"]
        assert [letter["kind"] for letter in look.letters] == ["damaged"]
        assert [line["step"] for line in look.steps.items] == [0, 1]
        assert [sample.ticket for sample in look.samples.items] == [7]
        again = source.read()
        assert (again.steps.items, again.samples.items) == ([], [])
    bus.redis.delete(bus.keys.config)
    with closing(Source(bus.url, folder, local=False)) as source:
        assert source.read().status["situation"] == "no_run"


def test_a_run_whose_server_has_left_is_told_from_its_folder(tmp_path):
    url = f"redis://127.0.0.1:{free_port()}/0"
    with closing(Source(url, tmp_path, local=True)) as source:
        assert source.read().status["situation"] == "no_server"
        (tmp_path / "redis").mkdir()
        look = source.read()
        assert look.status["situation"] == "stopped"
        assert "its server has left" in look.status["sentence"]
        assert look.letters is None
        with closing(Ledger(tmp_path / "ledger.jsonl")) as ledger:
            ledger.write("run", steps=3)
            ledger.write("end", version=3)
        assert source.read().status["situation"] == "finished"


# The server


TOKEN = "a-token-of-the-test"


def asked(watching, method, path, host="127.0.0.1", **options):
    async def ask():
        transport = httpx.ASGITransport(watching.application(serve.names("127.0.0.1")))
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}:8420") as client:
            return await client.request(method, path, **options)

    return asyncio.run(ask())


@pytest.mark.parametrize("name", ["ledger.jsonl", "metrics.jsonl", FILE])
def test_a_file_that_cannot_be_read_is_told_on_the_page_until_it_can(name, tmp_path):
    (tmp_path / name).mkdir()
    if name == FILE:
        (tmp_path / "metrics.jsonl").write_text('{"step": 0, "reward/mean": 0.5}\n')
    with closing(Source("redis://127.0.0.1:9/0", tmp_path, local=True)) as source:
        status = source.read().status
        assert (status["situation"], status["stalled"]) == ("no_run", False)
        assert status["sentence"].startswith(f"{tmp_path / name}: ")
        assert "Is a directory" in status["sentence"]
        board = Board()
        board.take(source.read())
        assert "Is a directory" in events_of(board.since(Mark())[0])["status"]["sentence"]
        (tmp_path / name).rmdir()
        after = source.read()
        assert "Is a directory" not in after.status["sentence"]
        assert len(after.steps.items) == (name == FILE)  # nothing that came meanwhile is lost


def test_the_page_asks_nothing_of_any_other_host_and_answers_to_its_own_names_alone(tmp_path):
    watching = Watching(Source("redis://127.0.0.1:1/0", tmp_path, local=True))
    names = re.findall(r'"(/page/[^"]+)"', asked(watching, "GET", "/").text)
    assert len(names) == 6
    for path in ("/", "/charts.json", *names):
        answer = asked(watching, "GET", path)
        assert answer.status_code == 200, path
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        others = set(re.findall(r"https?://[^\s\"')]+", answer.text)) - {"http://www.w3.org/2000/svg"}
        assert not others, path
    assert asked(watching, "GET", "/", host="localhost").status_code == 200
    assert asked(watching, "GET", "/", host="elsewhere.example").status_code == 400
    assert asked(watching, "GET", "/page/../server.py").status_code == 404
    assert asked(watching, "GET", "/samples/1-1").status_code == 404


def test_a_page_without_control_turns_nothing(tmp_path):
    watching = Watching(Source("redis://127.0.0.1:1/0", tmp_path, local=True))
    answer = asked(watching, "POST", "/control", json={"name": "paused", "value": "1"})
    assert answer.status_code == 403
    assert "--allow-control" in answer.json()["error"]


@pytest.mark.parametrize(
    ("token", "body", "code", "words"),
    [
        ("another", {"name": "max-staleness", "value": "2"}, 401, "token"),
        (TOKEN, {"name": "max-staleness", "value": "-1"}, 400, "a whole number of versions"),
        (TOKEN, {"name": "learning-fate", "value": "1"}, 400, "no live control"),
        (TOKEN, {"name": "max-staleness"}, 400, "expected"),
        (TOKEN, ["max-staleness"], 400, "expected"),
        (TOKEN, {"name": "max-staleness", "value": "2" * 2000}, 413, "more than"),
    ],
)
def test_a_turn_that_is_not_allowed_or_makes_no_sense_is_refused_by_word(bus, tmp_path, token, body, code, words):
    bus.record.store_config("")
    watching = Watching(Source(bus.url, tmp_path / bus.run, local=False), token=TOKEN)
    answer = asked(watching, "POST", "/control", json=body, headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, words in answer.json()["error"]) == (code, True), answer.text
    assert bus.overview.controls() == {}


def test_the_dial_is_turned_with_the_token_as_by_leeway_set(bus, tmp_path):
    bus.record.store_config(dump(compose(["tiny"], [])))
    watching = Watching(Source(bus.url, tmp_path / bus.run, local=False), token=TOKEN)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    turned = "max-staleness = 2, from the next ticket on"
    paused = "no further ticket is issued until leeway resume; what is live goes on"
    again = ("paused", "0", "tickets are issued again")
    for name, value, said in (("max-staleness", "2", turned), again, ("paused", "1", paused)):
        answer = asked(watching, "POST", "/control", json={"name": name, "value": value}, headers=headers)
        assert answer.json() == {"told": f"{bus.run}: {said}"}
    assert bus.overview.controls() == {"max_staleness": "2", "paused": "1"}


@contextmanager
def served(watching):
    """The page's address, with its server in a thread."""
    port = free_port()
    options = uvicorn.Config(watching.application(serve.names("127.0.0.1")), port=port, log_level="warning", ws="none")
    ready = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets=None):
            await super().startup(sockets)
            ready.set()

    server = Server(options)
    thread = threading.Thread(target=server.run)
    thread.start()
    assert ready.wait(200)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        watching.board.over.set()
        server.should_exit = True
        thread.join(100)
        assert not thread.is_alive()


class Counted(Source):
    """A source that notes at the end of each look how many commands its server has had by then."""

    def __init__(self, bus, folder):
        super().__init__(bus.url, folder, local=False)
        self._redis, self.commands = bus.redis, []

    def read(self):
        found = super().read()
        self.commands.append(self._redis.info("stats")["total_commands_processed"])
        return found


def seen(stream, pattern):
    """Read a stream of events until ``pattern`` stands in a line; returns how many bytes were read."""
    count = 0
    for line in stream:
        count += len(line)
        if re.search(pattern, line):
            return count
    raise AssertionError(f"the stream ended before {pattern}")


def test_twenty_viewers_cost_redis_and_the_folder_what_one_does(bus, tmp_path, wait_until):
    bus.record.store_config("")
    bus.record.set_state(phase="training", step=1, steps=9)
    folder = tmp_path / bus.run
    folder.mkdir()
    (folder / "metrics.jsonl").write_text('{"step": 0, "reward/mean": 0.5}\n')
    source = Counted(bus, folder)

    def commands_a_look():
        """How many commands Redis gets for each of ten looks, with INFO's own."""
        before = len(source.commands)
        wait_until(lambda: len(source.commands) > before + 10, "ten looks, from the end of one")
        return (source.commands[before + 10] - source.commands[before]) / 10

    with served(watching := Watching(source, look_s=0.05)) as url:
        streams = [urllib.request.urlopen(f"{url}/events", timeout=200)]
        of_one = commands_a_look()
        streams += [urllib.request.urlopen(f"{url}/events", timeout=200) for _ in range(19)]
        wait_until(lambda: watching.board.viewers == 20, "twenty viewers")
        of_twenty = commands_a_look()
        assert 10 < of_one < 200
        assert of_twenty < 1.3 * of_one  # twenty readers would send twenty times as many
        with (folder / "metrics.jsonl").open("a") as file:
            file.write('{"step": 1, "reward/mean": 0.75}\n')
        for stream in streams:
            seen(stream, rb"0\.75")
            stream.close()
        wait_until(lambda: watching.board.viewers == 0, "the viewers have left")
        assert not watching.board.watched.is_set()  # so that nothing is read any more


COMMANDS = ["leeway watch my-run", "leeway watch my-run --allow-control"]
"""As docs/how-to/watch.md has them."""


@pytest.mark.parametrize("command", COMMANDS)
def test_watch_serves_a_finished_run_until_it_is_stopped(tmp_path, command):
    folder = tmp_path / "runs" / "my-run"
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text('{"step": 0, "reward/mean": 0.5, "version": 1}\n')
    with closing(Ledger(folder / "ledger.jsonl")) as ledger:
        ledger.write("run", steps=1)
        ledger.write("end", version=1)
    words = [sys.executable, "-m", "leeway_rl.leeway.cli", *command.split()[1:], "--port", "0"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            line = process.stdout.readline()
            url, token = re.search(r"(http://127\.0\.0\.1:\d+/)(#token=\S+)?", line).groups()
            assert (token is not None) == ("--allow-control" in command)
            stream = urllib.request.urlopen(f"{url}events", timeout=200)
            seen(stream, rb'"situation":"finished"')
            process.send_signal(signal.SIGINT)
            assert process.wait(200) == 130
            assert process.stdout.read() == ""
        finally:
            process.kill()


def test_an_address_that_cannot_be_had_and_a_missing_extra_are_named(tmp_path, monkeypatch, capsys):
    with closing(serve.listen_at(serve.Serving(host="127.0.0.1", port=0, allow_control=False))) as taken:
        port = taken.getsockname()[1]
        serving = serve.Serving(host="127.0.0.1", port=port, allow_control=False)
        with pytest.raises(ConfigError, match=rf"--port {port}: cannot listen there .*--port 0"):
            serve.watch("redis://127.0.0.1:1/0", tmp_path, serving, local=True)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ConfigError, match=r"needs uvicorn: pip install 'leeway-rl\[watch\]'"):
        serve.watch("redis://127.0.0.1:1/0", tmp_path, serving, local=True)


@pytest.mark.parametrize(
    ("host", "names"),
    [
        ("127.0.0.1", ["127.0.0.1", "localhost", "[::1]"]),
        ("::1", ["127.0.0.1", "localhost", "[::1]"]),
        ("localhost", ["127.0.0.1", "localhost", "[::1]"]),
        ("0.0.0.0", ["*"]),
        ("node-1.cluster", ["*"]),
    ],
)
def test_on_the_loopback_the_page_answers_to_its_own_names(host, names):
    assert serve.names(host) == names


@pytest.mark.parametrize(("host", "words"), [("", "--host '': no address"), ("é" * 80, "cannot listen there")])
def test_a_host_that_is_none_is_refused_and_an_empty_one_is_not_every_address(host, words):
    with pytest.raises(ConfigError, match=words):
        serve.listen_at(serve.Serving(host=host, port=0, allow_control=False))


def test_the_token_stands_in_the_part_of_the_address_that_no_browser_sends():
    assert serve.address("127.0.0.1", 8420, "secret") == "http://127.0.0.1:8420/#token=secret"
    assert serve.address("::1", 8420, None) == "http://[::1]:8420/"
