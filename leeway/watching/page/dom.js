// Elements, numbers and times for people. Every text is set as text: what a run says is never read as HTML.

const SVG = "http://www.w3.org/2000/svg";

export const the = (id) => document.getElementById(id);

export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

export function drawn(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// A table of texts; a heading that begins with a # is of numbers, which stand to the right.
export function fillTable(table, headings, rows, none) {
  if (!rows.length) {
    table.replaceChildren(element("caption", { class: "note" }, none));
    return;
  }
  const kind = headings.map((heading) => (heading.startsWith("#") ? { class: "number" } : {}));
  table.replaceChildren(
    element("thead", {}, element("tr", {}, ...headings.map((heading, at) => element("th", { scope: "col", ...kind[at] }, heading.replace("#", ""))))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map((cell, at) => element("td", kind[at] ?? {}, cell))))),
  );
}

export function counted(value, one) {
  return `${number(value)} ${value === 1 ? one : `${one}s`}`;
}

export function number(value, unit = "") {
  if (value === null || value === undefined) return "–";
  if (unit === "bytes") return `${Number((value / 1e9).toPrecision(3))} GB`;
  const size = Math.abs(value);
  if (size >= 1000) return Math.round(value).toLocaleString("en");
  if (size > 0 && size < 0.001) return value.toExponential(1);
  return String(Number(value.toPrecision(3)));
}

export function age(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 120) return `${whole} s`;
  return whole < 7200 ? `${Math.floor(whole / 60)} min` : `${Math.floor(whole / 3600)} h`;
}
