// What the figures of the API mean together: pure functions of its rows, without the page.

const LONG = 5; // ms; a trip that leaves its metro

export const keyOf = (row) => [row.environment, row.method, row.route, row.edge].join("|");

export const candidateIn = (decision, region) => decision.candidates.find((c) => c.region === region) ?? null;

/** Count the long trips one request makes when it runs in a candidate region; null when unknown. */
export function longTrips(candidate) {
  if (!candidate) return null;
  let found = candidate.edge_rtt_ms >= LONG ? 1 : 0;
  for (const term of candidate.backends) {
    if (term.rtt_ms === null || term.round_trips === null) return null;
    if (term.rtt_ms >= LONG) found += term.round_trips;
  }
  return found;
}

/** The candidate with the least score, or null. */
export const bestOf = (decision) =>
  decision.candidates.filter((c) => c.score_ms !== null).reduce((a, b) => (a && a.score_ms <= b.score_ms ? a : b), null);

/** What the best region would save over the default placement, ms; 0 when that is not known. */
export function gainOf(decision) {
  const here = candidateIn(decision, decision.default)?.score_ms ?? null;
  const best = bestOf(decision);
  return here === null || !best || decision.trips.source === "none" ? 0 : here - best.score_ms;
}

/**
 * What to draw side by side: the default, and where the route runs, or else the best other region.
 * Null while a score is unknown.
 */
export function comparison(decision) {
  const before = candidateIn(decision, decision.default);
  if (!before || before.score_ms === null || decision.trips.source === "none") return null;
  const isMoved = decision.regions.length > 0 && decision.regions[0] !== decision.default;
  const others = decision.candidates.filter((c) => c !== before && c.score_ms !== null);
  const after = isMoved
    ? candidateIn(decision, decision.regions[0])
    : others.reduce((a, b) => (a && a.score_ms <= b.score_ms ? a : b), null);
  return after && after.score_ms !== null ? { before, after, isMoved } : { before, after: null, isMoved: false };
}

/** The latencies of a decision's route: what stays at the default, and what was moved. */
export function latencyOf(latencies, decision) {
  const arms = latencies.get(keyOf(decision)) ?? {};
  const first = (...names) => names.map((n) => arms[n]).find((row) => row && row.requests > 0 && row.p50_ms !== null) ?? null;
  return { before: first("control", "default"), after: first("placed", "hint") };
}

/** Rows of `GET /v1/latencies` by route and edge, then arm. */
export function byArm(rows) {
  const found = new Map();
  for (const row of rows) found.set(keyOf(row), { ...found.get(keyOf(row)), [row.arm]: row });
  return found;
}

export function weighted(rows, value, weight) {
  const total = rows.reduce((sum, row) => sum + weight(row), 0);
  return total ? rows.reduce((sum, row) => sum + value(row) * weight(row), 0) / total : null;
}

/** The route worth showing first: the one with the largest difference between its regions. */
export function mostTelling(decisions) {
  const rank = (d) => (d.status === "placed" ? 1e9 : 0) + gainOf(d);
  const best = decisions.reduce((a, b) => (a && rank(a) >= rank(b) ? a : b), null);
  return best ? keyOf(best) : null;
}

/** The trips of one request of the chosen route over the map, from every edge. */
export function flowsOf(decisions, regions, chosen) {
  if (!chosen) return [];
  const homes = new Map(regions.flatMap((r) => r.backends.map((b) => [b, r.id])));
  const found = [];
  for (const d of decisions) {
    if (d.route !== chosen.route || d.method !== chosen.method || d.environment !== chosen.environment) continue;
    const place = d.regions[0];
    const candidate = candidateIn(d, place);
    if (!candidate) continue;
    if (place !== d.edge) found.push({ from: d.edge, to: place, trips: 1, kind: "forward" });
    for (const term of candidate.backends) {
      const home = homes.get(term.backend);
      if (!home || home === place || place !== d.edge || !term.round_trips) continue;
      found.push({ from: place, to: home, trips: term.round_trips, kind: "query" });
    }
  }
  return found;
}

/** Order rows by a value; rows without one come last whichever way it goes, and ties stay as they are. */
export function sortRows(rows, value, isDescending) {
  const isKnown = (v) => v !== null && v !== undefined && v !== "";
  const compare = (a, b) => {
    const [x, y] = [value(a), value(b)];
    if (!isKnown(x) || !isKnown(y)) return Number(isKnown(y)) - Number(isKnown(x));
    const order = typeof x === "string" ? x.localeCompare(y, "en") : x - y;
    return isDescending ? -order : order;
  };
  return [...rows].sort(compare);
}

/** Order the routes by what a move is worth, coarsely, so that rows do not swap at every refresh. */
export function byGain(decisions) {
  const worth = new Map();
  for (const d of decisions) {
    const name = `${d.environment} ${d.route}`;
    worth.set(name, Math.max(worth.get(name) ?? 0, Math.round(Math.log2(Math.max(gainOf(d), 1)))));
  }
  return sortRows(decisions, (d) => worth.get(`${d.environment} ${d.route}`), true);
}

/** Whether every word of a filter is in the text, whatever its case. */
export function matches(text, filter) {
  const found = text.toLowerCase();
  return filter.toLowerCase().split(/\s+/).every((word) => found.includes(word));
}

/** Add news to events that are known, newest first, each once, and no more than `most`. */
export function mergeEvents(known, news, most) {
  const byId = new Map([...known, ...news].map((event) => [event.id, event]));
  return [...byId.values()].sort((a, b) => b.id - a.id).slice(0, most);
}

/** What to say of an endpoint of a database whose replication is watched: in a few words, and whether all is well. */
export function standingOf(row) {
  const lag = row.lag_ms === null ? "lag unknown" : row.lag_ms < 100 ? "no lag" : `${(row.lag_ms / 1000).toPrecision(2)} s behind`;
  if (row.problem) return { text: "tells nothing", isWell: false, title: row.problem };
  if (row.is_primary) return { text: "primary", isWell: true, title: "" };
  return { text: row.is_read ? lag : `${lag}, left out`, isWell: row.is_read, title: "" };
}
