// Each part of the page, drawn from the state; none of them calls the node.

import { historyChart, longTrips, sparkline, waterfall } from "/assets/charts.js";
import { ago, byId, count, duration, h, hourMinute, ms, refill, trips } from "/assets/dom.js";

const MAX_ROWS = 200;

const ICONS = {
  placed: "➜",
  "at edge": "●",
  analyzing: "◔",
  off: "○",
  pinned: "◆",
  "insufficient traffic": "◌",
  "not helping": "↺",
  unreachable: "✕",
};

const chip = (status, text = status) =>
  h("span", { class: `chip chip-${(ICONS[status] ? status : "off").replaceAll(" ", "-")}` },
    h("span", { "aria-hidden": "true" }, ICONS[status] ?? "?"), ` ${text}`);

export const keyOf = (row) => [row.environment, row.method, row.route, row.edge].join("|");

/** The header: which node, and whether its cluster is well. */
export function drawHeader(state) {
  const { status } = state;
  const title = state.regions.find((r) => r.id === status.region)?.title ?? "";
  const up = duration(Math.floor(status.uptime / 60) * 60 || status.uptime);
  refill("node", [status.region, title, status.version, up], () => [
    h("span", {}, "node ", h("strong", {}, status.region), title && title !== status.region ? ` · ${title}` : ""),
    h("span", {}, `up ${up}`),
    h("span", {}, `version ${status.version}`),
  ]);
  const silent = status.regions - status.regions_alive;
  const draining = state.regions.filter((r) => r.is_draining).map((r) => r.id);
  const data = [status.state, status.problems, status.regions, silent, draining, status.snapshot_version];
  refill("cluster", data, () => [
    h("span", { class: `pill ${status.state === "ok" ? "good" : "bad"}`, title: status.problems.join("; ") },
      status.state === "ok" ? "✓ healthy" : `! ${status.problems[0] ?? status.state}`),
    h("span", {}, `${status.regions_alive} of ${status.regions} regions alive`),
    draining.length ? h("span", { class: "pill warn" }, `⇢ draining: ${draining.join(", ")}`) : "",
    h("span", {}, `placements v${status.snapshot_version}`),
  ]);
}

/** The projects, each with its toggle and its pin. */
export function drawProjects(state, act) {
  const data = [state.projects, state.project, state.regions.map((r) => r.id), [...state.busy]];
  refill("projects", data, () =>
    state.projects.length ? state.projects.map((p) => projectItem(p, state, act)) : h("li", { class: "empty" }, "No project is configured."));
}

function projectItem(project, state, act) {
  const isSmart = project.placement.mode === "smart";
  const isBusy = state.busy.has(project.name);
  const hosts = project.environments.flatMap((e) => e.hosts);
  return h("li", { class: project.name === state.project ? "project selected" : "project" },
    h("div", { class: "project-top" },
      h("button", {
        class: "project-name", "data-key": `project ${project.name}`, type: "button",
        "aria-pressed": String(project.name === state.project), onclick: () => act.choose(project.name),
      }, project.name),
      h("button", {
        class: "switch", role: "switch", type: "button", "data-key": `switch ${project.name}`,
        "aria-checked": String(isSmart), "aria-label": `Smart placement of ${project.name}`,
        "aria-busy": String(isBusy), // never `disabled`: that would drop the keyboard focus
        onclick: () => act.change(project, { mode: isSmart ? "off" : "smart" }),
      }, h("span", { class: "knob" }))),
    h("p", { class: "project-hosts" }, hosts.slice(0, 3).join(", ") + (hosts.length > 3 ? ` and ${hosts.length - 3} more` : "")),
    h("div", { class: "chips" }, Object.entries(project.routes).map(([name, n]) => chip(name, `${count(n)} ${name}`))),
    h("div", { class: "project-foot" },
      h("span", {}, project.saving_ms === null ? "no saving measured yet" : h("strong", { class: "gain" }, `saves ${ms(project.saving_ms)} ms`), project.saving_ms === null ? "" : " a request"),
      h("label", { class: "pin" }, "pin ",
        h("select", {
          "data-key": `pin ${project.name}`, "aria-label": `Pin ${project.name} to a region`,
          onchange: (event) => act.change(project, { hint: event.target.value }),
        }, ["", ...state.regions.map((r) => r.id)].map((id) =>
          h("option", { value: id, selected: id === project.placement.hint }, id || "none"))))));
}

/** The selected project in figures, each weighted by requests. */
export function drawTiles(state) {
  const project = state.projects.find((p) => p.name === state.project);
  const moved = state.decisions.filter((d) => d.status === "placed");
  const tiles = moved.length ? tilesAfter(state, moved, project) : tilesBefore(state, project);
  refill("tiles", [state.project, tiles], () => tiles.map(({ name, value, note, win }) =>
    h("div", { class: `card tile ${win ? "win" : ""}` }, h("h3", {}, name), h("p", { class: "tile-value" }, value), h("p", { class: "note" }, note))));
}

function tilesAfter(state, moved, project) {
  const known = moved.map((d) => latencyOf(state, d)).filter((r) => r.before && r.after);
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
  const known = better.map((d) => latencyOf(state, d)).filter((r) => r.before);
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
  const at = (d, region) => longTrips(d.candidates.find((c) => c.region === region));
  const known = decisions.filter((d) => at(d, d.default) !== null && at(d, where(d)) !== null);
  const here = weighted(known, (d) => at(d, d.default), (d) => d.trips.requests);
  const there = weighted(known, (d) => at(d, where(d)), (d) => d.trips.requests);
  return { name: "Long trips a request", value: here === null ? "–" : `${trips(here)} → ${trips(there)}`, note: here === null ? "none to save" : note };
}

function weighted(rows, value, weight) {
  const total = rows.reduce((sum, row) => sum + weight(row), 0);
  return total ? rows.reduce((sum, row) => sum + value(row) * weight(row), 0) / total : null;
}

const bestOf = (d) => d.candidates.filter((c) => c.score_ms !== null).reduce((a, b) => (a && a.score_ms <= b.score_ms ? a : b), null);

/** What the best region would save over the default placement, ms; 0 when that is not known. */
function gainOf(d) {
  const here = d.candidates.find((c) => c.region === d.default)?.score_ms ?? null;
  const best = bestOf(d);
  return here === null || !best || d.trips.source === "none" ? 0 : here - best.score_ms;
}

/** The latencies of a decision's route: what stays at the default, and what was moved. */
export function latencyOf(state, decision) {
  const arms = state.latencies.get(keyOf(decision)) ?? {};
  const first = (...names) => names.map((n) => arms[n]).find((row) => row && row.requests > 0 && row.p50_ms !== null);
  return { before: first("control", "default"), after: first("placed", "hint") };
}

/** The per-route table. */
export function drawRoutes(state, act) {
  const wanted = byGain(state.decisions).filter((d) =>
    (!state.edgeFilter || d.edge === state.edgeFilter) && (!state.statusFilter || d.status === state.statusFilter));
  const rows = wanted.slice(0, MAX_ROWS).map((d) => ({ d, ...latencyOf(state, d), points: state.history.get(keyOf(d)) }));
  byId("routes-title").textContent = state.project ? `Routes of ${state.project}` : "Routes";
  refill("route-table", [rows, state.selected, wanted.length, state.decisions.length], () => {
    if (!rows.length) {
      return h("p", { class: "empty" }, state.decisions.length
        ? "No route matches the filter." : "No route has been seen yet. Rows appear with the first requests.");
    }
    return [routeTable(rows, state, act), wanted.length > rows.length ? h("p", { class: "note" }, `${count(wanted.length - rows.length)} more routes; filter to see them`) : ""];
  });
}

/** Order the routes by what a move is worth, coarsely, so that rows do not swap at every poll. */
function byGain(decisions) {
  const worth = new Map();
  for (const d of decisions) {
    const name = `${d.environment} ${d.route}`;
    worth.set(name, Math.max(worth.get(name) ?? 0, Math.round(Math.log2(Math.max(gainOf(d), 1)))));
  }
  return [...decisions].sort((a, b) => worth.get(`${b.environment} ${b.route}`) - worth.get(`${a.environment} ${a.route}`));
}

function routeTable(rows, state, act) {
  const head = ["Edge", "Route", "Status", "Runs in", "Round trips", "Predicted, ms", "p50 before, ms", "p50 after, ms", "Measured saving, ms", "History"];
  const right = new Set([4, 5, 6, 7, 8]);
  return h("table", { class: "routes" },
    h("thead", {}, h("tr", {}, head.map((name, i) => h("th", { scope: "col", class: right.has(i) ? "num" : "" }, name)))),
    h("tbody", {}, rows.map((row) => routeRow(row, state, act))));
}

function routeRow({ d, before, after, points }, state, act) {
  const key = keyOf(d);
  const isSelected = key === state.selected;
  const score = (region) => d.candidates.find((c) => c.region === region)?.score_ms ?? null;
  const [here, there] = [score(d.default), score(d.regions[0])];
  const several = new Set(state.decisions.map((x) => x.environment)).size > 1;
  return h("tr", { class: isSelected ? "selected" : "", onclick: () => act.select(key) },
    h("td", { class: "edge-cell" }, d.edge),
    h("td", {}, h("button", { type: "button", class: "route-name", "data-key": key, "aria-pressed": String(isSelected), title: d.route }, d.route),
      h("small", {}, several ? `${d.environment}, ${d.method}` : d.method)),
    h("td", { class: "status-cell" }, chip(d.status), h("small", {}, d.missing || d.reason)),
    h("td", {}, h("strong", {}, d.regions[0] ?? "nowhere"), d.regions[0] && d.regions[0] !== d.edge ? h("small", {}, `from ${d.edge}`) : ""),
    h("td", { class: "num" }, tripCells(d)),
    h("td", { class: "num" }, predicted(here, there, d)),
    h("td", { class: "num" }, before ? ms(before.p50_ms) : "–", before ? h("small", {}, `${count(before.requests)} req`) : ""),
    h("td", { class: "num" }, after ? h("strong", {}, ms(after.p50_ms)) : "–", after ? h("small", {}, `${count(after.requests)} req`) : ""),
    h("td", { class: "num" }, savingCell(d)),
    h("td", {}, sparkline(points)));
}

function tripCells(d) {
  if (d.trips.source === "none") return ["–", h("small", {}, `${count(d.trips.requests)} req seen`)];
  const used = d.trips.backends.filter((b) => b.round_trips);
  if (!used.length) return ["0", h("small", {}, "no backend")];
  return used.slice(0, 3).map((b) => h("div", { title: b.backend }, trips(b.round_trips),
    h("small", {}, b.low === null || b.low === b.high ? `declared, ${b.backend}` : `${trips(b.low)}–${trips(b.high)} ${b.backend}`)));
}

function predicted(here, there, d) {
  if (here === null) return "–";
  if (there === null || d.regions[0] === d.default) return ms(here);
  return [h("span", { class: "was" }, ms(here)), h("span", { class: "arrow" }, " → "), h("strong", {}, ms(there))];
}

function savingCell({ saving, status }) {
  if (!saving || saving.mean_ms === null) return "–";
  const hasBounds = saving.low_ms !== null && saving.high_ms !== null;
  return [
    h("strong", { class: status !== "placed" ? "was" : saving.mean_ms > 0 ? "gain" : "loss" }, ms(saving.mean_ms)),
    h("small", {}, status !== "placed" && status !== "not helping" ? "while it was placed" : hasBounds ? `${Math.round(saving.confidence * 100)} %: ${ms(saving.low_ms)}–${ms(saving.high_ms)}` : "too little traffic"),
  ];
}

/** Why the selected route runs where it does. */
export function drawExplain(state) {
  const d = state.decisions.find((x) => keyOf(x) === state.selected);
  byId("explain-note").textContent = d ? `${d.route} (${d.method}) from ${d.edge}` : "";
  refill("explain", d ?? null, () => {
    if (!d) return h("p", { class: "empty" }, "Choose a route above.");
    if (!d.candidates.length) return [chip(d.status), h("p", { class: "empty" }, d.missing || d.reason || "No region has been scored yet.")];
    return [headline(d), waterfall(d), facts(d)];
  });
}

function headline(d) {
  const at = (region) => d.candidates.find((c) => c.region === region);
  const [before, after] = [longTrips(at(d.default)), longTrips(at(d.regions[0]))];
  const best = d.candidates.find((c) => c.score_ms !== null);
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

function facts(d) {
  const rows = [["Rule", d.reason], ["Missing", d.missing], ["Evidence", evidence(d)]];
  if (d.saving && d.saving.mean_ms !== null) {
    const v = d.saving;
    const bounds = v.low_ms === null ? "" : ` (${Math.round(v.confidence * 100)} % interval ${ms(v.low_ms)} to ${ms(v.high_ms)} ms)`;
    rows.push(["Measured", `saves ${ms(v.mean_ms)} ms${bounds}: ${count(v.placed_requests)} placed against ${count(v.control_requests)} control requests`]);
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

/** The selected route over time, with the moment of the toggle. */
export function drawHistory(state) {
  const d = state.decisions.find((x) => keyOf(x) === state.selected);
  const points = d ? state.history.get(keyOf(d)) : null;
  const marks = d ? marksOf(state, d) : [];
  byId("history-note").textContent = d ? `${d.route} from ${d.edge}, median, ms` : "";
  refill("history", [points ?? null, marks], () => {
    if (!points || points.length < 2) return h("p", { class: "empty" }, d && d.edge !== state.status.region
      ? `The history of ${d.edge} is on the page of its own node.` : "Not enough requests for a history yet.");
    return [historyChart(points, marks), h("ul", { class: "legend" },
      h("li", {}, h("span", { class: "swatch line-default" }), "default placement"),
      h("li", {}, h("span", { class: "swatch line-placed" }), "placed"))];
  });
}

/** Lasting shifts of a route's service time, told apart by whether the RTTs shifted with it. */
const DRIFTS = { "estimate.code_changed": "code changed", "estimate.network_changed": "network changed" };

const isPolicy = (name) => /(^|\.)policy/.test(name);

function marksOf(state, d) {
  const toggles = state.events.filter((e) => isPolicy(e.name) && (e.subject === state.project || e.subject.startsWith(`${state.project}/`)));
  const route = `${d.project}/${d.environment} ${d.method} ${d.route}`;
  const drifts = state.events.filter((e) => DRIFTS[e.name] && e.subject === route);
  return [
    ...toggles.slice(0, 4).map((e) => ({ at: e.at, text: e.detail.split(/ \(|, /)[0].slice(0, 28) || e.name, kind: "toggle" })),
    ...drifts.slice(0, 4).map((e) => ({ at: e.at, text: DRIFTS[e.name], kind: "drift" })),
  ];
}

/** The latest events. */
export function drawEvents(state) {
  const rows = state.events.slice(0, 40).map((e) => [ago(e.at, state.now), e.name, e.subject, e.detail, hourMinute(e.at)]);
  refill("events", rows, () => rows.length
    ? rows.map(([age, name, subject, detail, at]) => h("li", {},
      h("span", { class: `dot ${toneOf(name)}`, "aria-hidden": "true" }),
      h("div", {}, h("p", {}, h("strong", {}, name), DRIFTS[name] ? h("span", { class: "tag drift" }, DRIFTS[name]) : "", " ", subject), h("small", {}, detail)),
      h("time", { title: at }, age)))
    : h("li", { class: "empty" }, "Nothing has happened yet."));
}

function toneOf(name) {
  if (DRIFTS[name] || name === "app.draining") return "warn";
  if (/fail|lost|down|unreachable|reverted|refused/.test(name)) return "bad";
  if (/moved|confirmed|recovered|placed/.test(name)) return "good";
  return isPolicy(name) ? "accent" : "";
}
