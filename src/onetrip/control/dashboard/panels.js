// The small controls around the panels: the legend of the map, and the filters of the table.

import { byId, h, refill } from "./dom.js";

export function drawLegend(chosen) {
  const item = (name, text) => h("li", {}, h("span", { class: `swatch ${name}` }), text);
  refill("map-legend", chosen?.route ?? null, () => [
    chosen ? item("flow-forward", `${chosen.route}: forwarded once`) : null,
    chosen ? item("flow-query", "its queries") : null,
    item("rtt-near", "RTT below 30 ms"), item("rtt-mid", "30 to 150 ms"), item("rtt-far", "above 150 ms"),
  ]);
}

export function drawFilters(state) {
  const statuses = [...new Set(state.decisions.map((d) => d.status))].sort();
  options(byId("edge-filter"), state.regions.map((r) => r.id), state.edgeFilter);
  options(byId("status-filter"), statuses, state.statusFilter);
}

function options(select, names, value) {
  const wanted = ["", ...names];
  if (value && !names.includes(value)) wanted.push(value);
  if (wanted.join("|") === [...select.options].map((o) => o.value).join("|")) return;
  select.replaceChildren(...wanted.map((name) => h("option", { value: name, selected: name === value }, name || "all")));
}
