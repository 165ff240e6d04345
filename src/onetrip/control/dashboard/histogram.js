// Placed against control: how the latencies of both spread, and what lies between them.

import { byId, count, h, ms, plusMinus, refill, s } from "./dom.js";
import { keyOf } from "./decisions.js";

const ARMS = ["control", "default", "placed", "hint"]; // those that are drawn, the ones behind first
const NAMES = { control: "control: left at the default", default: "at the default", placed: "placed", hint: "pinned" };
const LEAST_REQUESTS = 5; // an arm needs before there is an interval
const [WIDTH, LEFT, RIGHT, TOP, BOTTOM] = [560, 14, 546, 44, 196];

/** Draw the panel of the selected route. */
export function drawHistogram(state, act) {
  const d = state.decisions.find((x) => keyOf(x) === state.selected);
  byId("histogram-note").textContent = d ? `${d.route} from ${state.isAllEdges ? "every edge" : d.edge}` : "";
  const row = d ? state.distribution : null;
  refill("histogram", [row, d?.edge, state.isAllEdges], () => {
    if (!d) return h("p", { class: "empty" }, "Choose a route.");
    const choice = edgeChoice(d, state, act);
    if (!row) return [choice, h("p", { class: "empty" }, "No request since the route moved last.")];
    return [verdict(row), choice, chart(row), legend(row), asTable(row)];
  });
}

function edgeChoice(d, state, act) {
  const choice = (isAll, text) => h("button", {
    type: "button", class: "choice", "aria-pressed": String(state.isAllEdges === isAll),
    "data-key": `edges ${isAll}`, onclick: () => act.allEdges(isAll),
  }, text);
  return h("div", { class: "choices", role: "group", "aria-label": "Edges" }, choice(false, `from ${d.edge}`), choice(true, "all edges"));
}

/** The interval in words, and of what it is made. */
export function words({ saving, arms, edges }) {
  const has = (name) => arms.find((arm) => arm.arm === name)?.requests ?? 0;
  const where = edges.length > 1 ? ` at ${edges.join(" and ")}` : "";
  if (!saving || saving.mean_ms === null) {
    const only = arms[0];
    return { tone: "", text: only ? `${count(only.requests)} requests ${NAMES[only.arm] ?? only.arm}` : "No request yet", note: has("placed")
      ? `no control request yet${where}: one in a hundred stays at the default`
      : "nothing to compare: the route runs at its default" };
  }
  const against = `n = ${count(saving.placed_requests)} placed vs ${count(saving.control_requests)} control${where}`;
  if (saving.low_ms === null) {
    return { tone: "", text: `Saves about ${ms(saving.mean_ms)} ms a request`, note: `${against}; an interval needs ${LEAST_REQUESTS} of each` };
  }
  const share = `${Math.round(saving.confidence * 100)} % interval, ${against}`;
  const size = `${ms(Math.abs(saving.mean_ms))} ± ${plusMinus(saving.low_ms, saving.high_ms)} ms a request`;
  if (saving.low_ms > 0) return { tone: "gain", text: `Saves ${size}`, note: share };
  if (saving.high_ms < 0) return { tone: "loss", text: `Costs ${size}`, note: share };
  return { tone: "", text: `No difference shown yet: ${ms(saving.low_ms)} to ${ms(saving.high_ms)} ms`, note: share };
}

function verdict(row) {
  const { tone, text, note } = words(row);
  return h("p", { class: "verdict" }, h("strong", { class: tone }, text), h("small", {}, note));
}

/** The arms worth drawing, those behind first. */
export const drawn = (row) => ARMS.map((name) => row.arms.find((arm) => arm.arm === name)).filter(Boolean);

/** The part of the logarithmic scale to draw: all buckets and some air, at least half a decade. */
export function range(row) {
  const buckets = drawn(row).flatMap((arm) => arm.buckets);
  const low = Math.log10(Math.max(0.09, Math.min(...buckets.map((b) => b.above_ms))));
  const high = Math.log10(Math.max(...buckets.map((b) => b.le_ms ?? b.above_ms * 1.12)));
  const air = Math.max(0.06, (0.5 - (high - low)) / 2);
  return [low - air, high + air];
}

function chart(row) {
  const [low, high] = range(row);
  const x = (value) => LEFT + ((Math.log10(Math.max(value, 10 ** low)) - low) / (high - low)) * (RIGHT - LEFT);
  const arms = drawn(row);
  const most = Math.max(...arms.flatMap((arm) => arm.buckets.map((b) => b.requests / arm.requests)));
  const y = (share) => BOTTOM - (share / most) * (BOTTOM - TOP);
  const svg = s("svg", { viewBox: `0 0 ${WIDTH} 222`, class: "histogram", role: "img", "aria-label": describe(row) });
  for (const value of logTicks(low, high)) {
    svg.append(s("line", { x1: x(value), x2: x(value), y1: TOP, y2: BOTTOM, class: "grid" }),
      s("text", { x: x(value), y: BOTTOM + 17, class: "axis", "text-anchor": "middle" }, value < 1 ? String(value) : count(value)));
  }
  for (const arm of arms) {
    for (const b of arm.buckets) {
      const [from, to] = [x(b.above_ms), x(b.le_ms ?? b.above_ms * 1.12)];
      svg.append(s("rect", { x: (from + 0.5).toFixed(2), width: Math.max(1, to - from - 1).toFixed(2), y: y(b.requests / arm.requests).toFixed(2),
        height: (BOTTOM - y(b.requests / arm.requests)).toFixed(2), class: `share ${arm.arm}` },
      s("title", {}, `${arm.arm}, ${ms(b.above_ms)} to ${ms(b.le_ms)} ms: ${count(b.requests)} of ${count(arm.requests)}`)));
    }
  }
  svg.append(s("line", { x1: LEFT, x2: RIGHT, y1: BOTTOM, y2: BOTTOM, class: "base" }));
  const means = arms.map((arm) => mean(arm, x));
  svg.append(...means, ...(row.saving?.low_ms == null ? [] : interval(row, x)));
  return svg;
}

const mean = (arm, x) => s("line", { x1: x(arm.mean_ms), x2: x(arm.mean_ms), y1: TOP - 6, y2: BOTTOM, class: `mean ${arm.arm}` });

/** From the mean of what was placed: as far as the saving goes, with its interval as a band. */
function interval(row, x) {
  const placed = row.arms.find((arm) => arm.arm === "placed")?.mean_ms;
  if (placed === undefined || placed === null) return [];
  const { low_ms: low, high_ms: high, mean_ms: saved } = row.saving;
  const [from, to] = [x(placed), x(Math.max(placed + saved, 0.09))];
  const [left, right] = [x(Math.max(placed + low, 0.09)), x(Math.max(placed + high, 0.09))];
  const text = `${saved < 0 ? "+" : "−"}${ms(Math.abs(saved))} ± ${plusMinus(low, high)} ms`;
  return [
    s("rect", { x: left, width: Math.max(2, right - left), y: TOP - 6, height: BOTTOM - TOP + 6, class: "band" }),
    s("path", { d: `M${from} ${TOP - 12}H${to}M${from} ${TOP - 16}v8M${to} ${TOP - 16}v8`, class: "span" }),
    s("text", { x: (from + to) / 2, y: TOP - 20, class: "span-text", "text-anchor": "middle" }, text),
  ];
}

/** 1, 2 and 5 of every decade, or the decades alone where those would be too many. */
export function logTicks(low, high) {
  const factors = high - low > 3 ? [1] : high - low > 1.6 ? [1, 3] : high - low > 0.8 ? [1, 2, 5] : [1, 1.5, 2, 3, 5, 7];
  const found = [];
  for (let decade = Math.floor(low); decade <= Math.ceil(high); decade += 1) {
    for (const factor of factors) {
      const value = Number((factor * 10 ** decade).toPrecision(2));
      if (Math.log10(value) >= low && Math.log10(value) <= high) found.push(value);
    }
  }
  return found;
}

const describe = (row) => `Histogram of latencies, ms, logarithmic. ${drawn(row).map((arm) => `${arm.arm}: mean ${ms(arm.mean_ms)} over ${count(arm.requests)} requests`).join("; ")}`;

const legend = (row) => h("ul", { class: "legend" },
  drawn(row).map((arm) => h("li", {}, h("span", { class: `swatch share-${arm.arm}` }), `${NAMES[arm.arm]}, ${count(arm.requests)}`)),
  h("li", {}, "share of requests by latency, ms, logarithmic"),
  row.saving?.low_ms == null ? "" : h("li", {}, h("span", { class: "swatch band" }), "95 % interval"));

function asTable(row) {
  const rows = drawn(row).flatMap((arm) => arm.buckets.map((b) => ({ arm, b })));
  return h("details", { class: "rest" }, h("summary", { "data-key": "histogram table" }, "As a table"),
    h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "The histogram as a table" }, h("table", { class: "terms" },
      h("thead", {}, h("tr", {}, ["arm", "above, ms", "to, ms", "requests"].map((name, i) => h("th", { scope: "col", class: i ? "num" : "" }, name)))),
      h("tbody", {}, rows.map(({ arm, b }) => h("tr", {}, h("td", {}, arm.arm), h("td", { class: "num" }, ms(b.above_ms)),
        h("td", { class: "num" }, b.le_ms === null ? "no bound" : ms(b.le_ms)), h("td", { class: "num" }, count(b.requests))))))));
}
