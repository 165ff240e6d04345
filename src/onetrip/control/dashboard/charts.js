// Pictures of one route at one edge: the explain waterfall, the latency history, the sparkline.

import { h, hourMinute, hourMinuteSecond, ms, s, trips } from "/assets/dom.js";

const LONG = 5; // ms; a trip that leaves its metro
const MAX_BLOCKS = 60;
const MAX_BARS = 5; // before the others fold away
const SCALE = 1000;

/** Count the long trips one request makes when it runs in a candidate region. */
export function longTrips(candidate) {
  if (!candidate) return null;
  let found = candidate.edge_rtt_ms >= LONG ? 1 : 0;
  for (const term of candidate.backends) {
    if (term.rtt_ms === null || term.round_trips === null) return null;
    if (term.rtt_ms >= LONG) found += term.round_trips;
  }
  return found;
}

/** The waterfall: a bar for each candidate region, one block for each trip, to one scale. */
export function waterfall(decision) {
  const most = Math.max(...decision.candidates.map((c) => c.score_ms ?? 0), 1e-9);
  const backends = decision.candidates[0].backends.map((t) => t.backend);
  return h(
    "div",
    { class: "waterfall" },
    h("ul", { class: "legend" }, key("edge", "edge RTT"), key("compute", "compute"),
      backends.map((name, i) => key(`trip-${i % 4}`, `trips to ${name}`))),
    split(decision.candidates).map((part, i) => (i === 0 || !part.length ? part.map((c) => bar(c, most, decision)) : rest(part, most, decision))),
  );
}

/** Part the candidates worth a look (the best, the chosen, the default) from the others. */
function split(candidates) {
  const isWorth = (c, i) => i < MAX_BARS || c.is_chosen || c.is_default;
  return [candidates.filter(isWorth), candidates.filter((c, i) => !isWorth(c, i))];
}

const rest = (candidates, most, decision) =>
  h("details", { class: "rest" }, h("summary", { "data-key": "rest" }, `${candidates.length} more regions`),
    candidates.map((c) => bar(c, most, decision)));

const key = (name, text) => h("li", {}, h("span", { class: `swatch ${name}` }), text);

function bar(candidate, most, decision) {
  const tags = [candidate.is_chosen ? "runs here" : "", candidate.is_default ? "default" : ""].filter(Boolean);
  const svg = s("svg", { viewBox: `0 0 ${SCALE} 20`, preserveAspectRatio: "none", "aria-hidden": "true" });
  blocks(candidate, most).forEach((block) => svg.append(block));
  return h(
    "div",
    { class: `bar ${candidate.is_chosen ? "chosen" : ""} ${decision.status === "placed" ? "win" : ""}` },
    h("div", { class: "bar-name" }, h("strong", {}, candidate.region), tags.map((t) => h("span", { class: "tag" }, t))),
    h("div", { class: "bar-track" }, svg),
    h("div", { class: "bar-total" }, candidate.score_ms === null ? "unknown" : `${ms(candidate.score_ms)} ms`),
    h("div", { class: "bar-terms" }, termText(candidate)),
  );
}

function termText(candidate) {
  const terms = [`edge RTT ${ms(candidate.edge_rtt_ms)}`, `compute ${ms(candidate.compute_ms)}`];
  for (const t of candidate.backends) {
    terms.push(`${t.backend} ${trips(t.round_trips)} × ${ms(t.rtt_ms)} = ${ms(t.product_ms)}`);
  }
  return terms.join("  +  ");
}

function blocks(candidate, most) {
  const found = [];
  let x = 0;
  const add = (length, name) => {
    const width = (length / most) * SCALE;
    if (width > 0) {
      // A gap between blocks, so that eleven trips look like eleven; slivers stay visible.
      const drawn = Math.max(width > 6 ? width - 2.5 : width * 0.8, 0.8);
      found.push(s("rect", { x: x.toFixed(2), y: 0, width: drawn.toFixed(2), height: 20, class: name }));
    }
    x += width;
  };
  add(candidate.edge_rtt_ms ?? 0, "edge");
  add(candidate.compute_ms ?? 0, "compute");
  candidate.backends.forEach((term, i) => {
    const name = `trip-${i % 4}`;
    const [count, rtt] = [term.round_trips ?? 0, term.rtt_ms ?? 0];
    if (count > MAX_BLOCKS) add(count * rtt, name);
    else {
      for (let left = count; left > 0.01; left -= 1) add(rtt * Math.min(1, left), name);
    }
  });
  return found;
}

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

function ticks(most) {
  const rough = most / 3;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  const found = [];
  for (let value = 0; value <= most; value += step) found.push(value);
  return found;
}

/** The history in full; `marks` are {at, text, kind} for toggles and drifts. */
export function historyChart(points, marks) {
  const [left, right, top, bottom] = [46, 552, 40, 262];
  const { x, y, first, last, most } = scales(points, [left, right], [top, bottom]);
  const svg = s("svg", { viewBox: "0 0 560 290", class: "history", role: "img", "aria-label": describe(points) });
  for (const value of ticks(most)) {
    svg.append(
      s("line", { x1: left, x2: right, y1: y(value), y2: y(value), class: "grid" }),
      s("text", { x: left - 7, y: y(value) + 4, class: "axis", "text-anchor": "end" }, ms(value).replace(/\.0$/, "")),
    );
  }
  for (const [at, anchor] of [[first, "start"], [(first + last) / 2, "middle"], [last, "end"]]) {
    svg.append(s("text", { x: x(at), y: bottom + 20, class: "axis", "text-anchor": anchor }, (last - first < 900 ? hourMinuteSecond : hourMinute)(at)));
  }
  for (const mark of marks.filter((m) => m.at >= first && m.at <= last)) {
    const isLate = x(mark.at) > (left + right) / 2;
    const y0 = mark.kind === "drift" ? top - 6 : top - 21; // a row each, for two marks side by side
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
