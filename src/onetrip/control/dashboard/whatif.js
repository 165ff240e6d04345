// The panel of a project that is off: what would move if it were on, ranked by the time it saves.

import { keyOf } from "./decisions.js";
import { byId, count, h, ms, refill, s } from "./dom.js";

const MAX_SHOWN = 6; // before the others fold away
const MAX_UNKNOWN = 4;
const SCALE = 1000;

const milliseconds = (value) => `${ms(value)} ms`;
const span = (low, high) => `${ms(low)} to ${ms(high)}`;

/** Draw the panel, or hide it when the selected project is on. */
export function drawWhatIf(state, act) {
  const body = state.whatIf;
  byId("whatif-card").hidden = !body;
  if (!body) return;
  byId("whatif-note").textContent = `${body.project}, from what its traffic has shown so far`;
  refill("whatif", [body, state.selected], () => {
    const moved = body.rows.filter((row) => row.status === "placed");
    const unknown = body.rows.filter((row) => row.saving_ms === null);
    const most = Math.max(...moved.map((row) => row.default_ms ?? 0), 1e-9);
    const items = moved.map((row) => item(row, most, state, act));
    return [sentence(body), list(items), waiting(unknown, body.totals)];
  });
}

/** The figures in words; `onetrip whatif` says the same. */
function sentence({ total, totals }) {
  if (!total) return h("p", { class: "empty" }, "No request seen yet. It learns from ordinary traffic, also while it is off.");
  if (!totals.moved_requests) return h("p", { class: "headline" }, "No request would move.");
  return [
    h("p", { class: "headline" }, h("strong", {}, `${ms(totals.moved_ratio * 100)} %`), " of requests would move, saving ",
      h("strong", { class: "gain" }, milliseconds(totals.moved_saving_ms)), ` each (${milliseconds(totals.saving_ms)} over all).`),
    h("p", { class: "note" }, `95 % interval ${span(totals.moved_low_ms, totals.moved_high_ms)} ms each, `
      + `${span(totals.low_ms, totals.high_ms)} ms over all ${count(totals.requests)} requests`),
  ];
}

function list(items) {
  if (!items.length) return "";
  const rest = items.slice(MAX_SHOWN);
  return [
    h("ol", { class: "gains" }, items.slice(0, MAX_SHOWN)),
    rest.length ? h("details", { class: "rest" }, h("summary", { "data-key": "whatif rest" }, `${count(rest.length)} more would move`), h("ol", { class: "gains" }, rest)) : "",
    h("ul", { class: "legend" }, h("li", {}, h("span", { class: "swatch then" }), "left with it on"), h("li", {}, h("span", { class: "swatch saved" }), "saved"), h("li", {}, "ranked by saving × requests")),
  ];
}

function item(row, most, state, act) {
  const key = keyOf(row);
  return h("li", { class: key === state.selected ? "selected" : "" },
    h("div", { class: "gain-name" }, h("strong", {}, row.edge), " ",
      h("button", { type: "button", class: "route-name", "data-key": `whatif ${key}`, title: row.route, onclick: () => act.select(key) }, row.route),
      h("small", {}, `${row.method}, ${count(row.requests)} req`)),
    h("div", { class: "gain-track" }, bar(row, most),
      h("small", {}, `${milliseconds(row.default_ms)} in ${row.default} → ${milliseconds(row.predicted_ms)} in ${row.runs_in}`)),
    h("div", { class: "num" }, h("strong", { class: "gain" }, `−${milliseconds(row.saving_ms)}`), h("small", {}, span(row.low_ms, row.high_ms))));
}

/** One bar: what is left of the latency, then what is saved, to one scale for all rows. */
function bar(row, most) {
  const [left, whole] = [row.predicted_ms ?? 0, row.default_ms ?? 0].map((value) => Math.max(0, (value / most) * SCALE));
  return s("svg", { viewBox: `0 0 ${SCALE} 20`, preserveAspectRatio: "none", "aria-hidden": "true" },
    s("rect", { x: 0, y: 0, width: whole.toFixed(2), height: 20, class: "saved" }),
    s("rect", { x: 0, y: 0, width: Math.min(left, whole).toFixed(2), height: 20, class: "then" }));
}

/** The routes that cannot be told yet, with what each of them needs. */
function waiting(rows, { unknown_routes: routes }) {
  if (!routes) return "";
  const noun = routes === 1 ? "1 route needs more traffic" : `${count(routes)} routes need more traffic`;
  return h("div", { class: "waiting" }, h("p", {}, `◔ ${noun}:`),
    h("ul", {}, rows.slice(0, MAX_UNKNOWN).map((row) => h("li", {}, h("code", {}, row.route), ` from ${row.edge}: ${row.missing || row.reason}`)),
      rows.length > MAX_UNKNOWN ? h("li", {}, `and ${count(rows.length - MAX_UNKNOWN)} more`) : ""));
}
