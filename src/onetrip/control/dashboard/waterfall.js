// The trips of one request in sequence, before and after, to one scale: a row for each of them.

import { h, ms, s, trips } from "./dom.js";

const MAX_ROWS = 24; // of one side; more trips share rows
const ROW = 11; // CSS pixels
const BAR = 8;
const LEAST_SHARE = 0.3; // % of the width: a sliver that can still be seen
const SHORT = 0.02; // of the width; shorter steps in a row share one

/**
 * The steps of one request in a candidate region, one after the other, each {kind, label, start,
 * length, trips}. With more trips than `most` rows, a step stands for several of them.
 */
export function steps(candidate, most = MAX_ROWS) {
  const found = [];
  let at = 0;
  const add = (kind, label, length, trips = 0) => {
    if (length > 0) found.push({ kind, label, start: at, length, trips });
    at += Math.max(0, length);
  };
  add("edge", "to the region", candidate.edge_rtt_ms ?? 0, 1);
  add("compute", "compute", candidate.compute_ms ?? 0);
  const total = candidate.backends.reduce((sum, term) => sum + (term.round_trips ?? 0), 0);
  const share = Math.max(1, Math.ceil(total / most));
  candidate.backends.forEach((term, i) => {
    const rtt = term.rtt_ms ?? 0;
    for (let left = term.round_trips ?? 0; left > 0.01; left -= share) {
      const n = Math.min(share, left);
      add(`trip-${i % 4}`, term.backend, n * rtt, n);
    }
  });
  return found;
}

/** The row of each step: one further down than the step before, unless both are short. */
export function rowsOf(found, most) {
  let row = -1;
  let isAfterShort = false;
  return found.map((step) => {
    const isShort = step.length < most * SHORT;
    if (!(isShort && isAfterShort)) row += 1;
    isAfterShort = isShort;
    return row;
  });
}

/** Both sides, and the axis below; `after` may be null. */
export function waterfall({ before, after, isMoved }, edge) {
  const most = Math.max(before.score_ms, after?.score_ms ?? 0, 1e-9);
  return h("div", { class: "waterfall" },
    side("Before", `in ${before.region}`, before, most, edge),
    after ? side(isMoved ? "After" : "If it moved", `in ${after.region}`, after, most, edge, isMoved ? "now" : "would") : "",
    axis(most));
}

function side(title, where, candidate, most, edge, name = "was") {
  const found = steps(candidate);
  const rows = rowsOf(found, most);
  const height = ((rows.at(-1) ?? 0) + 1) * ROW;
  const label = `${title}, ${where}: ${words(candidate)}; ${ms(candidate.score_ms)} ms`;
  const svg = s("svg", { class: "steps", height, width: "100%", role: "img", "aria-label": label });
  found.forEach((step, i) => {
    const y = rows[i] * ROW;
    const [x, width] = [step.start, step.length].map((value) => (value / most) * 100);
    svg.append(
      i > 0 && rows[i] === rows[i - 1] ? "" : s("line", { x1: `${x.toFixed(3)}%`, x2: `${x.toFixed(3)}%`, y1: 0, y2: y + BAR, class: "lead" }),
      s("rect", { x: `${x.toFixed(3)}%`, y: y + 1, width: `${Math.max(width, LEAST_SHARE).toFixed(3)}%`, height: BAR, rx: 1.5, class: step.kind },
        s("title", {}, `${step.trips > 1 ? `${trips(step.trips)} trips, ` : ""}${step.label}: ${ms(step.length)} ms`)));
  });
  const end = (candidate.score_ms / most) * 100;
  svg.append(s("line", { x1: `${end.toFixed(3)}%`, x2: `${end.toFixed(3)}%`, y1: 0, y2: "100%", class: "finish" }));
  return h("div", { class: `side ${name}` },
    h("div", { class: "side-name" }, h("strong", {}, title), h("small", {}, where === `in ${edge}` ? `${where}, the edge` : where)),
    h("div", { class: "side-track" }, svg),
    h("div", { class: "side-total" }, h("strong", {}, ms(candidate.score_ms)), " ms"));
}

/** The trips in words: "1 long trip, then 11 of 2.8 ms to orders-db". */
export function words(candidate) {
  const parts = [];
  if (candidate.edge_rtt_ms > 0) parts.push(`1 trip of ${ms(candidate.edge_rtt_ms)} ms to ${candidate.region}`);
  for (const term of candidate.backends) {
    if (term.round_trips) parts.push(`${trips(term.round_trips)} of ${ms(term.rtt_ms)} ms to ${term.backend}`);
  }
  return parts.join(", then ") || "no trip";
}

function axis(most) {
  const marks = ticksTo(most);
  return h("div", { class: "side axis-row", "aria-hidden": "true" }, h("div", {}),
    h("div", {}, s("svg", { class: "axis-line", height: 18, width: "100%" }, marks.map((value, i) => {
      const x = `${((value / most) * 100).toFixed(3)}%`;
      const isLast = value / most > 0.93;
      return [s("line", { x1: x, x2: x, y1: 0, y2: 4, class: "grid" }),
        s("text", { x, y: 15, class: "axis", "text-anchor": i === 0 ? "start" : isLast ? "end" : "middle" }, ms(value).replace(/\.0$/, ""))];
    }))), h("div", { class: "axis-unit" }, "ms"));
}

/** Round values from 0 to at most `most`, about four of them. */
export function ticksTo(most) {
  const rough = most / 3;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  const found = [];
  for (let value = 0; value <= most; value += step) found.push(value);
  return found;
}

/** Every term of both scores, and what became of it. */
export function termTable({ before, after, isMoved }) {
  const terms = [["Edge to region", (c) => c.edge_rtt_ms, () => ""], ["Compute", (c) => c.compute_ms, () => ""]];
  for (const { backend } of before.backends) {
    const at = (c) => c.backends.find((term) => term.backend === backend) ?? {};
    terms.push([`⛁ ${backend}`, (c) => at(c).product_ms, (c) => `${trips(at(c).round_trips)} × ${ms(at(c).rtt_ms)}`]);
  }
  const cell = (candidate, value, note) => h("td", { class: "num" }, note(candidate) ? h("span", { class: "sum" }, `${note(candidate)} = `) : "", ms(value(candidate)));
  const difference = (a, b) => (a === null || b === null || a === undefined || b === undefined ? null : b - a);
  const row = (name, value, note, kind) => h("tr", { class: kind ?? "" }, h("th", { scope: "row" }, name), cell(before, value, note),
    after ? cell(after, value, note) : "", after ? h("td", { class: "num" }, signed(difference(value(before), value(after)))) : "");
  return h("table", { class: "terms" },
    h("caption", { class: "sr" }, "The terms of the score, ms"),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "ms"), h("th", { scope: "col", class: "num" }, `in ${before.region}`),
      after ? h("th", { scope: "col", class: "num" }, `in ${after.region}${isMoved ? "" : " (if)"}`) : "",
      after ? h("th", { scope: "col", class: "num" }, "change") : "")),
    h("tbody", {}, terms.map(([name, value, note]) => row(name, value, note)), row("Score", (c) => c.score_ms, () => "", "total")));
}

function signed(value) {
  if (value === null) return "–";
  if (Math.abs(value) < 0.05) return "0";
  return h("span", { class: value < 0 ? "gain" : "loss" }, `${value < 0 ? "−" : "+"}${ms(Math.abs(value))}`);
}
