// The samples: rewards by staleness, and a list of groups whose texts are asked for when one is opened.

import { counted, element, fillTable, number, the } from "./dom.js";

let told = { groups: [], by_staleness: [] };
const opened = new Map();  // by group: its element, so that what is open stays open when the list changes

export function showSamples(news) {
  told = news;
  const most = Math.max(1, ...told.by_staleness.map(({ reward }) => reward));
  const rows = told.by_staleness.map(({ staleness, responses, reward }) => [
    String(staleness), number(responses), number(reward), element("meter", { min: 0, max: most, value: Math.max(0, reward), "aria-label": `reward ${number(reward)}` }),
  ]);
  fillTable(the("by-staleness"), ["#staleness (versions)", "#responses", "#mean reward", ""], rows, "No samples yet; metrics.samples_every says how often a run keeps some.");
  the("filter").hidden = !told.groups.length;
  const every = told.groups.flatMap((group) => group.responses);
  offer("staleness", [...new Set(every.map((each) => each.staleness))].sort((a, b) => a - b));
  offer("verdict", [...new Set(every.map((each) => each.verdict))].sort());
  list();
}

function offer(name, values) {
  const select = the("filter").elements[name], chosen = select.value;
  select.replaceChildren(element("option", { value: "" }, "any"), ...values.map((value) => element("option", {}, String(value))));
  select.value = values.map(String).includes(chosen) ? chosen : "";
}

function list() {
  const { staleness, verdict } = Object.fromEntries(new FormData(the("filter")));
  const wanted = (each) => (!staleness || String(each.staleness) === staleness) && (!verdict || each.verdict === verdict);
  const groups = told.groups.filter((group) => group.responses.some(wanted));
  the("shown").textContent = `${groups.length} of the newest ${counted(told.groups.length, "group")} that were kept`;
  const there = new Set(told.groups.map((group) => group.id));
  for (const id of opened.keys()) if (!there.has(id)) opened.delete(id);
  the("samples").replaceChildren(...groups.map((group) => {
    if (!opened.has(group.id)) opened.set(group.id, folded(group));
    return opened.get(group.id);
  }));
}

function folded(group) {
  const rewards = group.responses.map((each) => number(each.reward)).join(" ");
  const oldest = Math.max(...group.responses.map((each) => each.staleness));
  const part = element("details", {}, element("summary", {}, `${group.title} `, element("span", { class: "rewards" }, `rewards ${rewards}; staleness at most ${oldest}`)));
  part.addEventListener("toggle", () => part.open && part.children.length === 1 && unfold(part, group.id));
  return part;
}

async function unfold(part, id) {
  const answer = await fetch(`/samples/${id}`), texts = await answer.json();
  if (texts.error) {
    part.append(element("p", { class: "note" }, texts.error));
    return;
  }
  const segments = (list) => list.map(({ by, text }) => element("pre", { class: by, title: by }, text));
  part.append(
    element("div", { class: "response" }, element("h4", {}, "prompt"), ...segments(texts.prompt), element("p", { class: "note" }, `gold: ${texts.gold}`)),
    ...texts.responses.map((each) => element("div", { class: "response" }, element("h4", {}, each.heading), ...segments(each.segments))),
  );
}

the("filter").addEventListener("change", list);
