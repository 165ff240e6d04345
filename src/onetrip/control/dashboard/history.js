// The latency of one route over time: in full, and as a line in a table cell.

import { byId, h, hourMinute, hourMinuteSecond, ms, refill, s } from "./dom.js";
import { keyOf } from "./decisions.js";
import { DRIFTS, isPolicy } from "./events.js";
import { ticksTo } from "./waterfall.js";

function runs(points, field, x, y) {
  const paths = [];
  const dots = [];
  let run = [];
  const close = () => {
    if (run.length > 1) paths.push(`M${run.map(([a, b]) => `${a.toFixed(1)} ${b.toFixed(1)}`).join("L")}`);
    else if (run.length === 1) dots.push(run[0]);
    run = [];
  };
  for (const point of points) {
    if (point[field] === null) close();
    else run.push([x(point.at), y(point[field])]);
  }
  close();
  return { d: paths.join(""), dots };
}

function lines(points, x, y, weight) {
  const found = [];
  for (const [field, name] of [["default_p50_ms", "line-default"], ["placed_p50_ms", "line-placed"]]) {
    const { d, dots } = runs(points, field, x, y);
    if (d) found.push(s("path", { d, class: name, "stroke-width": weight }));
    for (const [cx, cy] of dots) found.push(s("circle", { cx: cx.toFixed(1), cy: cy.toFixed(1), r: weight * 1.3, class: name }));
  }
  return found;
}

function scales(points, [left, right], [top, bottom]) {
  const first = points[0].at;
  const last = points[points.length - 1].at;
  const most = Math.max(...points.map((p) => Math.max(p.placed_p50_ms ?? 0, p.default_p50_ms ?? 0)), 1);
  return {
    x: (at) => left + ((at - first) / Math.max(1, last - first)) * (right - left),
    y: (value) => bottom - (value / most) * (bottom - top),
    first,
    last,
    most,
  };
}

/** The history in a table cell. */
export function sparkline(points) {
  if (!points || points.length < 2) return "–";
  const { x, y } = scales(points, [2, 108], [3, 23]);
  return s("svg", { viewBox: "0 0 110 26", class: "spark", "aria-hidden": "true" }, lines(points, x, y, 1.6));
}

/** The first row above the chart where a mark's text covers no other's; the last one is shared. */
function rowOf(rows, at, width, isLate) {
  const [from, to] = isLate ? [at - width, at] : [at, at + width];
  const free = [0, 1, 2].find((n) => !(rows[n] ?? []).some(([a, b]) => from < b + 12 && a < to + 12)) ?? 3;
  (rows[free] ??= []).push([from, to]);
  return free;
}

/** The history in full; `marks` are {at, text, kind} for toggles and drifts. */
export function historyChart(points, marks) {
  const [left, right, top, bottom] = [46, 552, 58, 232];
  const { x, y, first, last, most } = scales(points, [left, right], [top, bottom]);
  const svg = s("svg", { viewBox: "0 0 560 258", class: "history", role: "img", "aria-label": describe(points) });
  for (const value of ticksTo(most)) {
    svg.append(
      s("line", { x1: left, x2: right, y1: y(value), y2: y(value), class: "grid" }),
      s("text", { x: left - 7, y: y(value) + 4, class: "axis", "text-anchor": "end" }, ms(value).replace(/\.0$/, "")),
    );
  }
  for (const [at, anchor] of [[first, "start"], [(first + last) / 2, "middle"], [last, "end"]]) {
    svg.append(s("text", { x: x(at), y: bottom + 20, class: "axis", "text-anchor": anchor }, (last - first < 900 ? hourMinuteSecond : hourMinute)(at)));
  }
  const rows = [];
  for (const mark of marks.filter((m) => m.at >= first && m.at <= last)) {
    const isLate = x(mark.at) > (left + right) / 2;
    const y0 = top - 6 - 13 * rowOf(rows, x(mark.at), mark.text.length * 7.6, isLate);
    svg.append(
      s("line", { x1: x(mark.at), x2: x(mark.at), y1: y0 - 4, y2: bottom, class: `mark ${mark.kind}` }),
      s("text", { x: x(mark.at) + (isLate ? -6 : 6), y: y0, class: `mark-text ${mark.kind}`, "text-anchor": isLate ? "end" : "start" }, mark.text),
    );
  }
  lines(points, x, y, 2.2).forEach((line) => svg.append(line));
  return svg;
}

function describe(points) {
  const latest = (field) => [...points].reverse().find((p) => p[field] !== null)?.[field] ?? null;
  return `Median latency over time, ms: default placement last ${ms(latest("default_p50_ms"))}, placed last ${ms(latest("placed_p50_ms"))}`;
}

/** The selected route over time, with the moment of the toggle. */
export function drawHistory(state) {
  const d = state.decisions.find((x) => keyOf(x) === state.selected);
  const points = d ? state.history.get(keyOf(d)) : null;
  const marks = d ? marksOf(state, d) : [];
  byId("history-note").textContent = d ? `${d.route} from ${d.edge}, median, ms` : "";
  refill("history", [points ?? null, marks], () => {
    if (!points || points.length < 2) return h("p", { class: "empty" }, d && d.edge !== state.status.region
      ? `The history of ${d.edge} is on the page of its own node.` : "Not enough requests for a history yet.");
    return [historyChart(points, marks), h("ul", { class: "legend" },
      h("li", {}, h("span", { class: "swatch line-default" }), "default placement"),
      h("li", {}, h("span", { class: "swatch line-placed" }), "placed"))];
  });
}

function marksOf(state, d) {
  const toggles = state.events.filter((e) => isPolicy(e.name) && (e.subject === state.project || e.subject.startsWith(`${state.project}/`)));
  const route = `${d.project}/${d.environment} ${d.method} ${d.route}`;
  const drifts = state.events.filter((e) => DRIFTS[e.name] && e.subject === route);
  return [
    ...toggles.slice(0, 3).map((e) => ({ at: e.at, text: e.detail.split(/ \(|, /)[0].slice(0, 28) || e.name, kind: "toggle" })),
    ...drifts.slice(0, 4).map((e) => ({ at: e.at, text: DRIFTS[e.name], kind: "drift" })),
  ];
}
