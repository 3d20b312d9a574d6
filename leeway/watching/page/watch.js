// The page of leeway watch. The server sends events; each is drawn where it stands. Nothing is asked of any other host.

import { Chart } from "./chart.js";
import { age, counted, element, fillTable, number, the } from "./dom.js";
import { showSamples } from "./samples.js";

const LATE_MS = 5000;  // after so long without an event that should come every second, the page says so
const curves = { generation: 0, steps: [], curves: {} };
let history = { turns: [], resumed: [], stages: [], ended: false };
let charts = [], events = null, heard = 0, status = null, drawing = false;

const token = takeToken();

// The token comes in the part of the address that no browser sends, and is taken out of sight at once.
function takeToken() {
  const said = new URLSearchParams(location.hash.slice(1)).get("token");
  if (said) {
    sessionStorage.setItem("token", said);
    window.history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem("token");
}

function listen() {
  events = new EventSource("/events");
  const on = (name, take) => events.addEventListener(name, (message) => {
    heard = Date.now();
    take(JSON.parse(message.data));
  });
  on("status", showStatus);
  on("history", (told) => { history = told; showTurns(); redraw(); });
  on("curves", (told) => { merge(told); redraw(); });
  on("samples", showSamples);
  on("letters", showLetters);
}

// A hidden page gives its connection back: a browser has six for one server, and nobody looks.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    events?.close();
    events = null;
  } else if (events === null) {
    listen();
  }
});

// The server sends what we lack: from the point at `start` on, or all where ours are of another generation.
function merge(told) {
  const keep = told.generation === curves.generation ? told.start : 0;
  const joined = (ours, theirs) => [...(ours ?? []).slice(0, keep), ...theirs];
  curves.steps = joined(curves.steps, told.steps);
  const before = keep ? curves.curves : {};
  curves.curves = {};
  for (const [key, parts] of Object.entries(told.curves)) {
    curves.curves[key] = Object.fromEntries(Object.entries(parts).map(([name, values]) => [name, joined(before[key]?.[name], values)]));
  }
  curves.generation = told.generation;
  the("curves-note").textContent = told.size > 1 ? `A point is the mean of ${told.size} steps; the band goes from the least to the greatest of them.` : "";
}

function redraw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    const began = performance.now();
    if (curves.steps.length) charts.forEach((chart) => chart.draw(curves, history));
    else the("curves-note").textContent = "No training step is known here yet. Curves, samples and the dial's history come from the run's folder.";
    performance.clearMeasures("drawing");
    performance.measure("drawing", { start: began });
  });
}

function showStatus(told) {
  status = told;
  const { state } = told;
  document.title = `${told.run} – Leeway`;
  the("run").textContent = told.run;
  const stage = state.stages > 1 ? `, stage ${(state.stage ?? 0) + 1} of ${state.stages}` : "";
  the("where").textContent = [
    told.situation.replace("_", " "),
    state.step === null ? null : `step ${number(state.step)} of ${number(state.steps)}${stage}`,
    state.version === null ? null : `version ${number(state.version)}`,
    told.paused ? "paused" : null,
    state.forked_from ? `forked from ${state.forked_from}` : null,
  ].filter(Boolean).join(" · ");
  the("sentence").textContent = told.sentence;
  the("sentence").className = told.stalled ? "bad" : "";
  the("alarms").replaceChildren(...told.alarms.map((alarm) => element("li", {}, alarm)));
  showFlow(told);
  showWorkers(told);
  const names = token ? told.controls.filter((name) => name !== "paused") : [];  // which has a button
  const select = the("control").elements.name;
  if (select.length !== names.length) select.replaceChildren(...names.map((name) => element("option", {}, name)));
  the("control").hidden = !names.length;
  the("pause").textContent = told.paused ? "Resume" : "Pause";
}

function showFlow({ boxes, state }) {
  if (!boxes.length) {
    the("flow").replaceChildren();
    return;
  }
  const parts = [box("prompts", "", [
    `${counted(state.live, "group")} live, ${number(state.ready)} ready`,
    `pipeline depth ${number(state.pipeline_depth)}`,
    `bound η = ${number(state.max_staleness)}, overflow ${state.overflow ?? "–"}`,
  ])];
  for (const each of boxes) {
    const taken = each.role === "learner" ? `${number(each.taken)} until a checkpoint` : `${number(each.taken)} in hand`;
    parts.push(element("div", { class: "between" }, element("b", {}, `${number(each.waiting)} ▸`), ` ${taken}`));
    const newest = each.versions.at(-1), oldest = each.versions[0];
    parts.push(box(each.role, each.mood, [
      each.mood === "gone" ? "nobody is alive" : each.doing,
      `${each.workers} alive${each.lost ? `, ${each.lost} lost` : ""}${each.tokens_per_s ? `, ${number(each.tokens_per_s)} tokens/s` : ""}`,
      newest === undefined ? null : `version ${oldest === newest ? newest : `${oldest} to ${newest}`}`,
    ]));
  }
  the("flow").replaceChildren(...parts);
}

function box(name, mood, lines) {
  return element("div", { class: `box ${mood}` }, element("h3", {}, name), ...lines.filter(Boolean).map((line) => element("p", {}, line)));
}

function showWorkers({ workers, lost, at }) {
  the("workers-part").hidden = workers === null;
  const rows = [...(workers ?? [])].sort((a, b) => (a.role + a.worker < b.role + b.worker ? -1 : 1)).map((each) => {
    const lived = Math.max(at - each.started, 0.001);
    return [each.role, each.worker, each.version < 0 ? "–" : String(each.version), number(each.done), each.tokens ? number(each.tokens / lived) : "–",
      `${Math.min(100, Math.round(100 * each.busy_s / lived))} %`, each.activity, age(at - each.since)];
  });
  for (const [member, due] of Object.entries(lost ?? {})) {
    const [role, ...name] = member.split("/");
    rows.push([role, name.join("/"), "", "", "", "", element("span", { class: "bad" }, "lost"), age(at - due)]);
  }
  fillTable(the("workers"), ["role", "worker", "#version", "#done", "#tokens/s", "#busy", "doing", "#for"], rows, "No worker has come yet.");
}

function showTurns() {
  const rows = [...history.turns].reverse().map((turn) => [String(turn.version), turn.name, String(turn.previous ?? "–"), String(turn.value), turn.by]);
  fillTable(the("turns"), ["#at version", "control", "from", "to", "by"], rows, "Nobody has turned a live control of this run.");
}

function showLetters(letters) {
  if (letters === null) {
    fillTable(the("letters"), [], [], "They are in the run's Redis, which does not answer.");
    return;
  }
  const rows = letters.map((letter) => [letter.letter_id, new Date(Number(letter.letter_id.split("-")[0])).toLocaleString(), letter.role, letter.ticket, letter.kind || "–", letter.retry || "–", letter.reason]);
  fillTable(the("letters"), ["id", "written", "role", "#ticket", "kind", "again", "reason"], rows, "No dead letters.");
}

async function turn(name, value) {
  const answer = await fetch("/control", { method: "POST", headers: { Authorization: `Bearer ${token}` }, body: JSON.stringify({ name, value }) });
  const { told, error } = await answer.json();
  the("told").textContent = told ?? error;
  the("told").className = told ? "" : "bad";
}

the("control").addEventListener("submit", (event) => {
  event.preventDefault();
  const { name, value } = Object.fromEntries(new FormData(event.target));
  turn(name, value);
});
the("pause").addEventListener("click", () => turn("paused", status.paused ? "0" : "1"));

setInterval(() => {
  const late = Date.now() - heard > LATE_MS;
  the("news").className = late ? "late" : "";
  the("news").textContent = !heard ? "reading the run" : late ? `no word for ${age((Date.now() - heard) / 1000)}: is leeway watch still there?` : `as of ${new Date(heard).toLocaleTimeString()}`;
}, 1000);
new ResizeObserver(redraw).observe(the("charts"));

listen();
charts = (await (await fetch("/charts.json")).json()).map((spec) => new Chart(spec, (step) => charts.forEach((each) => each.tell(step))));
the("charts").replaceChildren(...charts.map((chart) => chart.figure));
redraw();
