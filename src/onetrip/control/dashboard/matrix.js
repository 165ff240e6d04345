// The RTT matrix: regions by regions, then backends.

import { standingOf } from "./decisions.js";
import { h, ms, refill } from "./dom.js";
import { rttClass } from "./map.js";

const MAX_REGIONS = 16; // each way; the one in focus is among them
const MAX_BACKENDS = 16;

/** The RTT matrix: regions by regions, then backends. */
export function drawMatrix(state) {
  const all = state.regions.map((r) => r.id);
  const regions = all.filter((id, i) => i < MAX_REGIONS || id === state.focusRegion);
  const backends = [...new Set(state.rtts.filter((r) => r.kind === "backend").map((r) => r.target))].slice(0, MAX_BACKENDS);
  const anycast = new Set(state.rtts.filter((r) => r.is_anycast).map((r) => r.target));
  const draining = new Set(state.regions.filter((r) => r.is_draining).map((r) => r.id));
  const shown = new Set([...regions, ...backends]);
  const rtts = state.rtts.filter((r) => shown.has(r.source) && shown.has(r.target));
  const cells = new Map(rtts.map((r) => [`${r.source}|${r.kind}|${r.target}`, r]));
  const standings = new Map(state.status.replicas.map((r) => [r.endpoint, standingOf(r)]));
  refill("matrix", [regions, all.length, backends, [...standings], [...draining], rtts.map((r) => ({ ...r, samples: 0 })), state.focusRegion], () => [
    h("table", { class: "matrix" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, h("span", { class: "sr" }, "from")),
        regions.map((id) => h("th", { scope: "col" }, id)),
        backends.map((id, i) => h("th", { scope: "col", class: i ? "backend" : "backend first" }, "⛁ ", id, anycast.has(id) ? h("small", {}, "anycast") : "", standing(standings.get(id)))))),
      h("tbody", {}, regions.map((from) => h("tr", { class: from === state.focusRegion ? "focus" : "" },
        h("th", { scope: "row" }, from, draining.has(from) ? h("small", {}, "draining") : ""),
        regions.map((to) => rttCell(cells.get(`${from}|peer|${to}`), from === to)),
        backends.map((to, i) => rttCell(cells.get(`${from}|backend|${to}`), false, i === 0)))))),
    h("ul", { class: "legend" },
      h("li", {}, h("span", { class: "swatch rtt-near" }), "below 30"), h("li", {}, h("span", { class: "swatch rtt-mid" }), "30 to 150"),
      h("li", {}, h("span", { class: "swatch rtt-far" }), "above 150"), h("li", {}, "◷ stale"), h("li", {}, "✕ failing"),
      all.length > regions.length ? h("li", {}, `${regions.length} of ${all.length} regions; choose one on the map to have its row here`) : "",
      anycast.size ? h("li", {}, "anycast: answered in more than one place") : ""),
  ]);
}

function standing(told) {
  if (!told) return "";
  return h("small", { class: told.isWell ? "" : "bad", title: told.title || null }, told.isWell ? "" : "! ", told.text);
}

function rttCell(row, isSelf, isFirst = false) {
  const edge = isFirst ? " first" : "";
  if (isSelf) return h("td", { class: "self" }, "·");
  if (!row) return h("td", { class: `rtt-none${edge}` }, "–");
  const mark = { stale: " ◷", failing: " ✕" }[row.state] ?? "";
  const title = `${row.source} to ${row.target}: ${row.state}, smoothed ${ms(row.srtt_ms)} ± ${ms(row.rttvar_ms)} ms`;
  return h("td", { class: `${rttClass(row.rtt_ms)}${edge} ${row.state === "fresh" ? "" : "dim"}`, title },
    ms(row.rtt_ms), mark ? h("span", { "aria-hidden": "true" }, mark) : "", mark ? h("span", { class: "sr" }, ` ${row.state}`) : "");
}
