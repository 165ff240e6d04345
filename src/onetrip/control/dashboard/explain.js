// Why the selected route runs where it does: its trips before and after, every term, and the rule.

import { candidateBars } from "./candidates.js";
import { byId, count, h, ms, plusMinus, refill, trips } from "./dom.js";
import { bestOf, candidateIn, comparison, keyOf, longTrips } from "./decisions.js";
import { chip } from "./chips.js";
import { termTable, waterfall } from "./waterfall.js";

export function drawExplain(state) {
  const d = state.decisions.find((x) => keyOf(x) === state.selected);
  byId("explain-note").textContent = d ? `${d.route} (${d.method}) from ${d.edge}` : "";
  refill("explain", d ? { ...d, decided_at: 0 } : null, () => {
    if (!d) return h("p", { class: "empty" }, "Choose a route below.");
    const sides = comparison(d);
    if (!sides) return [headline(d), missing(d), facts(d), d.candidates.length ? regions(d) : ""];
    return [headline(d), d.missing ? missing(d) : "", legend(d), waterfall(sides, d.edge), termTable(sides), facts(d), regions(d)];
  });
}

/** What is needed before a decision, said before anything else. */
const missing = (d) => h("p", { class: "waiting" }, "◔ ", h("strong", {}, "Not decided yet. "), d.missing || d.reason || "No region has been scored yet.");

function headline(d) {
  const at = (region) => longTrips(candidateIn(d, region));
  const [before, after] = [at(d.default), at(d.regions[0])];
  const best = bestOf(d);
  let text = "";
  if (before !== null && after !== null && d.regions[0] !== d.default) {
    text = `${trips(before)} long trips at ${d.default} become ${trips(after)} in ${d.regions[0]}.`;
  } else if (best && best.region !== d.regions[0] && longTrips(best) !== null && before !== null) {
    text = `${trips(before)} long trips here; ${best.region} would need ${trips(longTrips(best))}.`;
  } else if (before !== null) {
    text = before < 0.05 ? "No long trips to save." : `${trips(before)} long ${before === 1 ? "trip" : "trips"}, and no region needs fewer in total.`;
  }
  return h("p", { class: "headline" }, chip(d.status), ` ${text}`);
}

function legend(d) {
  const key = (name, text) => h("li", {}, h("span", { class: `swatch ${name}` }), text);
  return h("ul", { class: "legend" }, key("edge", "edge to region"), key("compute", "compute"),
    d.candidates[0].backends.map((term, i) => key(`trip-${i % 4}`, `a trip to ${term.backend}`)));
}

function facts(d) {
  const rows = [["Rule", d.reason], ["Evidence", evidence(d)]];
  if (d.saving && d.saving.mean_ms !== null) {
    const v = d.saving;
    const bounds = v.low_ms === null ? "" : ` ± ${plusMinus(v.low_ms, v.high_ms)}`;
    rows.push(["Measured", `saves ${ms(v.mean_ms)}${bounds} ms: ${count(v.placed_requests)} placed against ${count(v.control_requests)} control requests`]);
  }
  if (d.explore_region && d.explore > 0) rows.push(["Exploring", `${trips(d.explore * 100)} % of reads go to ${d.explore_region} to learn`]);
  return h("dl", { class: "facts" }, rows.filter(([, text]) => text).map(([name, text]) => [h("dt", {}, name), h("dd", {}, text)]));
}

function evidence(d) {
  if (d.trips.source === "declared") return "round trips declared in the configuration";
  if (d.trips.source === "none") return `${count(d.trips.requests)} requests seen; round trips not known yet`;
  const from = `round trips learned from ${d.trips.source}`;
  return d.trips.requests ? `${from}: ${count(d.trips.requests)} requests in ${d.trips.regions} ${d.trips.regions === 1 ? "region" : "regions"}` : from;
}

const regions = (d) => h("details", { class: "rest", open: d.candidates.length <= 3 || comparison(d) === null },
  h("summary", { "data-key": "regions" }, `Every region, by score (${d.candidates.length})`), candidateBars(d));
