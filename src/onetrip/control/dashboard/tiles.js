// The selected project in four figures, each weighted by requests.

import { count, h, ms, refill, trips } from "./dom.js";
import { bestOf, candidateIn, gainOf, latencyOf, longTrips, weighted } from "./decisions.js";

/** The selected project in figures, each weighted by requests. */
export function drawTiles(state) {
  const project = state.projects.find((p) => p.name === state.project);
  const moved = state.decisions.filter((d) => d.status === "placed");
  const tiles = moved.length ? tilesAfter(state, moved, project) : tilesBefore(state, project);
  refill("tiles", [state.project, tiles], () => tiles.map(({ name, value, note, win }) =>
    h("div", { class: `card tile ${win ? "win" : ""}` }, h("h3", {}, name), h("p", { class: "tile-value" }, value), h("p", { class: "note" }, note))));
}

function tilesAfter(state, moved, project) {
  const known = moved.map((d) => latencyOf(state.latencies, d)).filter((r) => r.before && r.after);
  const before = weighted(known, (r) => r.before.p50_ms, (r) => r.after.requests);
  const after = weighted(known, (r) => r.after.p50_ms, (r) => r.after.requests);
  const requests = known.reduce((sum, r) => sum + r.after.requests, 0);
  const saving = project?.saving_ms ?? null;
  const isFaster = before !== null && after !== null && before > after;
  return [
    { name: "Median before", value: before === null ? "–" : `${ms(before)} ms`, note: "placed routes, left at the default" },
    { name: "Median now", value: after === null ? "–" : `${ms(after)} ms`, win: isFaster,
      note: before && after ? `${trips(before / after)} times as fast` : "no placed request measured yet" },
    { name: "Measured saving", value: saving === null ? "–" : `${ms(saving)} ms`, win: saving > 0,
      note: saving === null ? "too little control traffic yet" : `a request, over ${count(requests)} placed requests` },
    longTile(moved, (d) => d.regions[0], "placed routes, at the default → where they run"),
  ];
}

function tilesBefore(state, project) {
  const isOff = project?.placement.mode !== "smart";
  const better = state.decisions.filter((d) => gainOf(d) > (project?.placement.least_gain_ms ?? 10));
  const known = better.map((d) => latencyOf(state.latencies, d)).filter((r) => r.before);
  const now = weighted(known, (r) => r.before.p50_ms, (r) => r.before.requests);
  const gain = isOff && state.whatIf ? state.whatIf.totals.moved_saving_ms : weighted(better, gainOf, (d) => d.trips.requests);
  return [
    { name: "Median now", value: now === null ? "–" : `${ms(now)} ms`, note: known.length ? "routes that another region would serve faster" : "no route is known to gain from a move" },
    { name: "Predicted saving", value: gain === null ? "–" : `${ms(gain)} ms`, note: gain === null ? "nothing to save so far" : isOff ? "a request that would move, once it is on" : "a request, when these routes move" },
    { name: "Measured saving", value: "–", note: "measured once a route has moved" },
    longTile(better, (d) => bestOf(d)?.region, "the same routes, as they run → at best"),
  ];
}

function longTile(decisions, where, note) {
  const at = (d, region) => longTrips(candidateIn(d, region));
  const known = decisions.filter((d) => at(d, d.default) !== null && at(d, where(d)) !== null);
  const here = weighted(known, (d) => at(d, d.default), (d) => d.trips.requests);
  const there = weighted(known, (d) => at(d, where(d)), (d) => d.trips.requests);
  return { name: "Long trips a request", value: here === null ? "–" : `${trips(here)} → ${trips(there)}`, note: here === null ? "none to save" : note };
}
