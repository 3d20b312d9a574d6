// One chart as SVG: lines or stacked areas over training steps, with marks where the dial was turned.

import { drawn, element, number } from "./dom.js";

const HEIGHT = 190, LEFT = 48, RIGHT = 8, TOP = 10, BOTTOM = 22;
const NEXT = ["green", "orange", "purple", "sky", "red", "blue"];  // colours of lines that bring none
const FEW = 12;  // so few points are drawn as dots too
let clips = 0;

export class Chart {
  constructor(spec, onPoint) {
    this.spec = spec;
    this.legend = element("div", { class: "legend" });
    this.clip = `clip-${clips++}`;
    this.svg = drawn("svg", { role: "img" });
    this.figure = element(
      "figure", { hidden: true },
      element("figcaption", {}, element("b", {}, spec.title), " ", element("span", { class: "unit" }, spec.unit), this.legend),
      this.svg,
      element("p", { class: "reading" }, spec.reading),
    );
    this.svg.addEventListener("pointermove", (event) => this.steps && onPoint(this.stepAt(event)));
    this.svg.addEventListener("pointerleave", () => onPoint(null));
  }

  // The lines that the run has. A * in a key stands for a name; the name is added to the label.
  lines(curves) {
    const found = [];
    for (const line of this.spec.lines) {
      const [before, after] = line.key.split("*");
      const keys = after === undefined
        ? [line.key].filter((key) => key in curves)
        : Object.keys(curves).filter((key) => key.startsWith(before) && key.endsWith(after)
          && !key.slice(before.length, key.length - after.length).includes("/"));
      for (const key of keys) {
        const name = after === undefined ? "" : key.slice(before.length, key.length - after.length).replaceAll("_", " ");
        const colour = line.colour || NEXT[found.length % NEXT.length];
        found.push({ ...curves[key], label: line.label + name, colour: `var(--${colour})`, dashed: line.dashed || line.setting, setting: line.setting });
      }
    }
    const there = found.filter((line) => line.mean.some((value) => value !== null));
    return this.spec.stacked ? there.filter((line) => line.mean.some((value) => value > 0)) : there;
  }

  draw({ steps, curves }, history) {
    this.shown = this.lines(curves);
    this.figure.hidden = !this.shown.length;
    if (this.figure.hidden) return;
    this.steps = steps;
    this.width = this.svg.clientWidth || 400;
    if (this.spec.stacked) this.stack();
    this.scale();
    const plot = drawn("g", { "clip-path": `url(#${this.clip})` });
    const marks = drawn("g", {});
    this.drawMarks(marks, history);
    for (const line of this.shown) plot.append(...(this.spec.stacked ? [this.area(line, "area", line.floor, line.top)] : this.drawLine(line)));
    this.cursor = drawn("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
    const clip = drawn("clipPath", { id: this.clip }, drawn("rect", { x: LEFT, y: 0, width: this.width - LEFT - RIGHT, height: HEIGHT - BOTTOM }));
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${HEIGHT}`);
    this.svg.replaceChildren(clip, ...this.axes(), ...(this.spec.stacked ? [plot, marks] : [marks, plot]), this.cursor);
    this.tell(null);
  }

  stack() {
    let floor = this.steps.map(() => 0);
    for (const line of this.shown) {
      line.floor = floor;
      floor = line.top = floor.map((below, at) => below + (line.mean[at] ?? 0));
    }
  }

  scale() {
    const values = this.spec.stacked ? [0, ...this.shown.at(-1).top] : this.shown.flatMap((line) => line.mean.filter((value) => value !== null));
    let low = Infinity, high = -Infinity;
    for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
    if (this.spec.stacked) {  // a single tower (the first step warms up) is cut off
      const usual = [...this.shown.at(-1).top].sort((a, b) => a - b)[Math.floor(0.9 * (this.steps.length - 1))];
      if (usual > 0 && high > 2.5 * usual) high = 1.8 * usual;
    }
    if (low >= 0) low = 0;
    if (high <= low) high = low + (Math.abs(low) || 1);
    this.ticks = ticks(low, high, 4);
    this.low = Math.min(low, this.ticks[0]);
    this.high = high + 0.04 * (high - low);
    this.first = this.steps[0];
    this.last = Math.max(this.steps.at(-1), this.first + 1);
  }

  x(step) { return LEFT + (step - this.first) / (this.last - this.first) * (this.width - LEFT - RIGHT); }
  y(value) { return HEIGHT - BOTTOM - (value - this.low) / (this.high - this.low) * (HEIGHT - BOTTOM - TOP); }

  axes() {
    const parts = [];
    for (const value of this.ticks.filter((tick) => tick <= this.high)) {
      const at = this.y(value);
      parts.push(drawn("line", { class: "grid", x1: LEFT, x2: this.width - RIGHT, y1: at, y2: at }));
      parts.push(drawn("text", { x: LEFT - 6, y: at + 4, "text-anchor": "end" }, number(value, this.spec.unit)));
    }
    for (const step of ticks(this.first, this.last, Math.max(2, Math.floor(this.width / 110))).filter((tick) => Number.isInteger(tick) && tick >= this.first && tick <= this.last)) {
      parts.push(drawn("text", { x: this.x(step), y: HEIGHT - 6, "text-anchor": "middle" }, step.toLocaleString("en")));
    }
    return parts;
  }

  drawMarks(group, history) {
    const mark = (version, kind, words) => {
      const at = this.x(version - 0.5);
      if (at < LEFT - 1 || at > this.width - RIGHT + 1) return null;
      group.append(drawn("line", { class: kind, x1: at, x2: at, y1: TOP, y2: HEIGHT - BOTTOM }, drawn("title", {}, words)));
      return at;
    };
    history.resumed.forEach((version) => mark(version, "resumed", `resumed at step ${version}`));
    history.stages.forEach(({ version, stage }) => mark(version, "stage", `stage ${stage + 1} from step ${version}`));
    let free = -Infinity;
    for (const { version, words } of history.turns) {
      const at = mark(version, "turn", words);
      if (at === null || at < free) continue;
      free = at + 14;
      group.append(drawn("text", { class: "turn-words", transform: `translate(${at + 10} ${HEIGHT - BOTTOM - 4}) rotate(-90)` }, words));
    }
  }

  drawLine(line) {
    const parts = line.least ? [this.area(line, "band", line.least, line.greatest)] : [];
    const known = this.steps.map((step, at) => [step, line.mean[at]]).filter(([, value]) => value !== null);
    const path = known.map(([step, value], at) => {
      const x = this.x(step).toFixed(1), y = this.y(value).toFixed(1);
      return at === 0 ? `M${x} ${y}` : line.setting ? `H${x}V${y}` : `L${x} ${y}`;
    }).join("");
    parts.push(drawn("path", { class: `line${line.dashed ? " dashed" : ""}`, stroke: line.colour, d: path }));
    if (known.length <= FEW && !line.dashed) {
      parts.push(...known.map(([step, value]) => drawn("circle", { cx: this.x(step), cy: this.y(value), r: 2.5, fill: line.colour })));
    }
    return parts;
  }

  area(line, kind, below, above) {
    const known = this.steps.map((step, at) => at).filter((at) => above[at] !== null && below[at] !== null);
    const point = (at, values) => `${this.x(this.steps[at]).toFixed(1)} ${this.y(values[at]).toFixed(1)}`;
    const there = known.map((at) => point(at, above)), back = known.reverse().map((at) => point(at, below));
    return drawn("path", { class: kind, fill: line.colour, d: known.length ? `M${[...there, ...back].join("L")}Z` : "" });
  }

  stepAt(event) {
    const box = this.svg.getBoundingClientRect();
    return this.first + (event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT) * (this.last - this.first);
  }

  // Tell the values near a step, or the newest ones.
  tell(step) {
    if (!this.shown?.length) return;
    let at = this.steps.length - 1;
    if (step !== null) {
      at = 0;
      while (at < this.steps.length - 1 && Math.abs(this.steps[at + 1] - step) <= Math.abs(this.steps[at] - step)) at += 1;
      const x = this.x(this.steps[at]);
      this.cursor.setAttribute("x1", x);
      this.cursor.setAttribute("x2", x);
    }
    this.cursor.setAttribute("visibility", step === null ? "hidden" : "visible");
    const values = this.shown.map((line) => {
      const value = step === null ? line.mean.findLast((each) => each !== null) : line.mean[at];
      return [line, `${line.label} ${number(value, this.spec.unit)}`];
    });
    const told = values.map(([line, text]) => element("span", { "data-colour": line.colour }, text));
    told.forEach((span) => { span.style.color = span.dataset.colour; });
    this.legend.replaceChildren(...told, ...(step === null ? [] : [element("span", { class: "unit" }, `step ${number(this.steps[at])}`)]));
    this.svg.setAttribute("aria-label", `${this.spec.title}: ${values.map(([, text]) => text).join(", ")}`);
  }
}

// About so many round numbers between low and high.
function ticks(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const size = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough);
  const found = [];
  for (let at = Math.floor(low / size); at * size <= high + size * 1e-9; at += 1) found.push(Number((at * size).toPrecision(12)));
  return found;
}
