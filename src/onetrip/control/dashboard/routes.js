// The per-route table: sorted by any column, filtered by words, edge and status.

import { chip } from "./chips.js";
import { announce, byId, count, h, ms, plusMinus, refill, trips } from "./dom.js";
import { byGain, candidateIn, keyOf, latencyOf, matches, sortRows } from "./decisions.js";
import { sparkline } from "./history.js";

const MAX_ROWS = 200;

const totalTrips = (d) => d.trips.source === "none" ? null : d.trips.backends.reduce((sum, b) => sum + (b.round_trips ?? 0), 0);
const scoreIn = (d, region) => candidateIn(d, region)?.score_ms ?? null;

/** Each column: what it shows, and what it is sorted by (numbers begin with the largest). */
const COLUMNS = [
  { id: "edge", title: "Edge", value: ({ d }) => d.edge, cell: ({ d }) => d.edge, kind: "edge-cell" },
  { id: "route", title: "Route", value: ({ d }) => `${d.route} ${d.method}`, cell: routeCell },
  { id: "status", title: "Status and reason", value: ({ d }) => d.status, cell: ({ d }) => [chip(d.status), h("small", {}, d.missing || d.reason)], kind: "status-cell" },
  { id: "region", title: "Runs in", value: ({ d }) => d.regions[0] ?? "", cell: regionCell },
  { id: "trips", title: "Round trips", value: ({ d }) => totalTrips(d), cell: ({ d }) => tripCells(d), kind: "num" },
  { id: "predicted", title: "Predicted, ms", value: ({ d }) => scoreIn(d, d.regions[0] ?? d.default), cell: ({ d }) => predicted(d), kind: "num" },
  { id: "before", title: "p50 before, ms", value: ({ before }) => before?.p50_ms ?? null, cell: ({ before }) => quantiles(before, "span"), kind: "num" },
  { id: "after", title: "p50 after, ms", value: ({ after }) => after?.p50_ms ?? null, cell: ({ after }) => quantiles(after, "strong"), kind: "num" },
  { id: "saving", title: "Saving, ms", value: ({ d }) => d.saving?.mean_ms ?? null, cell: ({ d }) => savingCell(d), kind: "num" },
];

/** Draw the table. */
export function drawRoutes(state, act) {
  const all = byGain(state.decisions).map((d) => ({ d, ...latencyOf(state.latencies, d), points: state.history.get(keyOf(d)) }));
  const wanted = sorted(all.filter(({ d }) => isWanted(d, state)), state.sort);
  const rows = wanted.slice(0, MAX_ROWS);
  byId("routes-title").textContent = state.project ? `Routes of ${state.project}` : "Routes";
  byId("routes-count").textContent = wanted.length === all.length ? `${count(all.length)} rows` : `${count(wanted.length)} of ${count(all.length)} rows`;
  const data = [rows.map((row) => ({ ...row, d: { ...row.d, decided_at: 0 } })), state.selected, wanted.length, all.length, state.sort];
  refill("route-table", data, () => {
    if (!rows.length) {
      return h("p", { class: "empty" }, all.length ? "No route matches the filter." : "No route has been seen yet. Rows appear with the first requests.");
    }
    return [table(rows, state, act), wanted.length > rows.length ? h("p", { class: "note" }, `${count(wanted.length - rows.length)} more routes; filter to see them`) : ""];
  });
}

const isWanted = (d, state) =>
  (!state.edgeFilter || d.edge === state.edgeFilter) && (!state.statusFilter || d.status === state.statusFilter)
  && matches([d.route, d.method, d.environment, d.edge, d.status, d.regions[0] ?? "", d.reason].join(" "), state.routeFilter);

function sorted(rows, { column, isDescending }) {
  const found = COLUMNS.find((c) => c.id === column);
  return found ? sortRows(rows, found.value, isDescending) : rows;
}

/** The order after a click on a column: its first way, the other way, and as it was. */
export function nextSort(sort, id) {
  const isNumber = COLUMNS.find((c) => c.id === id)?.kind === "num";
  if (sort.column !== id) return { column: id, isDescending: isNumber };
  return sort.isDescending === isNumber ? { column: id, isDescending: !isNumber } : { column: "", isDescending: false };
}

function table(rows, state, act) {
  const several = new Set(state.decisions.map((x) => x.environment)).size > 1;
  return h("table", { class: "routes" },
    h("caption", { class: "sr" }, "Where each route runs, from each edge; the column headers sort"),
    h("thead", {}, h("tr", {}, COLUMNS.map((column) => header(column, state.sort, act)), h("th", { scope: "col" }, "History"))),
    h("tbody", {}, rows.map((row) => {
      const key = keyOf(row.d);
      const isSelected = key === state.selected;
      const more = { key, isSelected, several, act };
      return h("tr", { class: isSelected ? "selected" : "", onclick: () => act.select(key) },
        COLUMNS.map((column) => h("td", { class: column.kind ?? "" }, column.cell({ ...row, ...more }))),
        h("td", {}, sparkline(row.points)));
    })));
}

function header({ id, title, kind }, sort, act) {
  const isSorted = sort.column === id;
  const way = isSorted ? (sort.isDescending ? "descending" : "ascending") : "none";
  const mark = isSorted ? (sort.isDescending ? "▾" : "▴") : "";
  return h("th", { scope: "col", class: kind === "num" ? "num" : "", "aria-sort": way },
    h("button", { type: "button", class: "sort", "data-key": `sort ${id}`, onclick: () => {
      act.sort(nextSort(sort, id));
      announce(`Routes sorted by ${title}`);
    } }, title, h("span", { class: "sort-mark", "aria-hidden": "true" }, mark)));
}

function routeCell({ d, key, isSelected, several, act }) {
  return [
    h("button", { type: "button", class: "route-name", "data-key": key, "aria-pressed": String(isSelected), title: d.route,
      onclick: (event) => { event.stopPropagation(); act.select(key); } }, d.route),
    h("small", {}, several ? `${d.environment}, ${d.method}` : d.method),
  ];
}

function regionCell({ d }) {
  return [h("strong", {}, d.regions[0] ?? "nowhere"), d.regions[0] && d.regions[0] !== d.edge ? h("small", {}, `from ${d.edge}`) : ""];
}

function tripCells(d) {
  if (d.trips.source === "none") return ["–", h("small", {}, `${count(d.trips.requests)} req seen`)];
  const used = d.trips.backends.filter((b) => b.round_trips);
  if (!used.length) return ["0", h("small", {}, "no backend")];
  return used.slice(0, 3).map((b) => h("div", { title: b.backend }, trips(b.round_trips),
    h("small", {}, b.low === null || b.low === b.high ? `declared, ${b.backend}` : `${trips(b.low)}–${trips(b.high)} ${b.backend}`)));
}

function predicted(d) {
  const [here, there] = [scoreIn(d, d.default), scoreIn(d, d.regions[0])];
  if (here === null) return "–";
  if (there === null || d.regions[0] === d.default) return ms(here);
  return [h("span", { class: "was" }, ms(here)), h("span", { class: "arrow" }, " → "), h("strong", {}, ms(there))];
}

function quantiles(row, tag) {
  if (!row) return "–";
  return [h(tag, {}, ms(row.p50_ms)), h("small", {}, `p95 ${ms(row.p95_ms)} · ${count(row.requests)} req`)];
}

function savingCell({ saving, status }) {
  if (!saving || saving.mean_ms === null) return "–";
  const tone = status !== "placed" ? "was" : saving.mean_ms > 0 ? "gain" : "loss";
  const isOver = status !== "placed" && status !== "not helping";
  const bounds = saving.low_ms === null ? "too little traffic" : `± ${plusMinus(saving.low_ms, saving.high_ms)}, ${Math.round(saving.confidence * 100)} %`;
  return [h("strong", { class: tone }, ms(saving.mean_ms)), h("small", {}, isOver ? "while it was placed" : bounds)];
}
