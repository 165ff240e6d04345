// The page: asks the admin API every two seconds, keeps the state, and draws what changed.

import { CallError, change, dropToken, get, hasToken, keepToken } from "/assets/client.js";
import { byId, h } from "/assets/dom.js";
import { drawMap } from "/assets/map.js";
import { drawMatrix } from "/assets/matrix.js";
import * as sections from "/assets/sections.js";
import { drawWhatIf } from "/assets/whatif.js";

const PERIOD = 2000;
const PERIOD_HIDDEN = 30000;
const HISTORY_EVERY = 5; // polls; a history changes slowly and is the largest reply

const state = {
  status: null, regions: [], rtts: [], projects: [], events: [], decisions: [],
  latencies: new Map(), history: new Map(), whatIf: null, busy: new Set(), now: 0,
  project: null, selected: null, focusRegion: null, edgeFilter: "", statusFilter: "",
};

let timer = null;
let rounds = 0;
let polling = false;
let again = false;
let historyOf = null;
let fading = null;

const act = {
  choose(name) {
    if (state.project === name) return;
    Object.assign(state, { project: name, selected: null, decisions: [], whatIf: null });
    state.latencies = new Map();
    state.history = new Map();
    poll();
  },
  select(key) {
    state.selected = key;
    draw();
    byId("why").scrollIntoView({ block: "nearest", behavior: "auto" });
  },
  async change(project, placement) {
    if (state.busy.has(project.name)) return;
    state.busy.add(project.name);
    draw();
    try {
      await change(project.name, placement, project.etag);
      tell("");
    } catch (error) {
      const isStale = error instanceof CallError && error.status === 412;
      tell(isStale ? `${project.name} was changed elsewhere meanwhile; look again and retry.` : `${project.name} was not changed: ${error.message}`);
    }
    state.busy.delete(project.name);
    rounds = 0;
    poll();
  },
};

/** Show a problem until it is over ("lost") or has been read ("action"). */
function tell(text, kind = "action") {
  const alert = byId("alert");
  alert.textContent = text;
  alert.hidden = !text;
  alert.dataset.kind = kind;
  clearTimeout(fading);
  if (text && kind === "action") fading = setTimeout(tell, 15000, "");
}

async function poll() {
  if (polling) {
    again = true;
    return;
  }
  polling = true;
  clearTimeout(timer);
  try {
    await load();
    live(true);
    draw();
  } catch (error) {
    live(false, error);
  }
  polling = false;
  const wait = again ? 0 : document.hidden ? PERIOD_HIDDEN : PERIOD;
  again = false;
  if (!byId("token-dialog").open) timer = setTimeout(poll, wait);
}

async function load() {
  const status = await get("/v1/status"); // alone, so a missing token is refused once
  const [regions, rtts, projects, events] = await Promise.all(
    ["/v1/regions", "/v1/rtts", "/v1/projects", "/v1/events?limit=60"].map(get));
  Object.assign(state, { status, regions: regions.regions, rtts: rtts.rtts, projects: projects.projects, events: events.events });
  state.now = status.started_at + status.uptime;
  state.focusRegion ??= status.region;
  if (!state.projects.some((p) => p.name === state.project)) {
    const smart = state.projects.find((p) => p.placement.mode === "smart");
    state.project = (smart ?? state.projects[0])?.name ?? null;
    state.selected = null;
  }
  if (state.project !== null) await loadProject(state.project);
  else Object.assign(state, { decisions: [], whatIf: null });
}

async function loadProject(name) {
  const at = encodeURIComponent(name);
  const wantsHistory = historyOf !== name || rounds % HISTORY_EVERY === 0;
  const isOff = state.projects.find((p) => p.name === name)?.placement.mode === "off";
  const [explain, latencies, history, whatIf] = await Promise.all([
    get(`/v1/projects/${at}/explain`), get(`/v1/latencies?project=${at}`),
    wantsHistory ? get(`/v1/projects/${at}/history`) : null,
    isOff ? get(`/v1/projects/${at}/whatif`) : null,
  ]);
  if (state.project !== name) return; // another project was chosen meanwhile
  rounds += 1;
  Object.assign(state, { decisions: explain.decisions, whatIf });
  state.latencies = new Map();
  for (const row of latencies.latencies) {
    const key = sections.keyOf(row);
    state.latencies.set(key, { ...state.latencies.get(key), [row.arm]: row });
  }
  if (history) {
    historyOf = name;
    state.history = new Map(history.series.map((s) => [sections.keyOf(s), s.points]));
  }
  if (!state.decisions.some((d) => sections.keyOf(d) === state.selected)) state.selected = mostTelling();
}

/** The route worth showing first: the one with the largest difference between its regions. */
function mostTelling() {
  const gain = (d) => {
    const at = d.candidates.find((c) => c.region === d.default)?.score_ms ?? 0;
    return at - Math.min(...d.candidates.map((c) => c.score_ms ?? Infinity), at);
  };
  const rank = (d) => (d.status === "placed" ? 1e9 : 0) + gain(d);
  const best = state.decisions.reduce((a, b) => (a && rank(a) >= rank(b) ? a : b), null);
  return best ? sections.keyOf(best) : null;
}

/** The trips of the selected route over the map, from every edge. */
function flows() {
  const chosen = state.decisions.find((d) => sections.keyOf(d) === state.selected);
  if (!chosen) return [];
  const homes = new Map(state.regions.flatMap((r) => r.backends.map((b) => [b, r.id])));
  const found = [];
  for (const d of state.decisions) {
    if (d.route !== chosen.route || d.method !== chosen.method || d.environment !== chosen.environment) continue;
    const place = d.regions[0];
    const candidate = d.candidates.find((c) => c.region === place);
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

function draw() {
  if (!state.status) return;
  const chosen = state.decisions.find((d) => sections.keyOf(d) === state.selected);
  sections.drawHeader(state);
  drawMap(state, flows(), (id) => { state.focusRegion = id; draw(); });
  drawLegend(chosen);
  sections.drawProjects(state, act);
  sections.drawTiles(state);
  drawWhatIf(state, act);
  drawFilters();
  sections.drawRoutes(state, act);
  sections.drawExplain(state);
  sections.drawHistory(state);
  drawMatrix(state);
  sections.drawEvents(state);
}

function drawLegend(chosen) {
  const item = (name, text) => h("li", {}, h("span", { class: `swatch ${name}` }), text);
  byId("map-legend").replaceChildren(...[
    chosen ? item("flow-forward", `${chosen.route}: forwarded once`) : null,
    chosen ? item("flow-query", "queries from the edge") : null,
    item("rtt-near", "RTT below 30 ms"), item("rtt-mid", "30 to 150 ms"), item("rtt-far", "above 150 ms"),
  ].filter(Boolean));
}

function drawFilters() {
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

function live(isGood, error) {
  const box = byId("live");
  box.classList.toggle("lost", !isGood);
  document.body.classList.toggle("stale", !isGood && state.status !== null);
  byId("live-text").textContent = isGood ? "live" : "not connected";
  if (isGood) {
    if (byId("alert").dataset.kind === "lost") tell("");
    return;
  }
  if (error instanceof CallError && error.status === 401) askToken();
  else if (error instanceof CallError) tell(`${error.message}; trying again. The figures below are the last ones seen.`, "lost");
  else {
    tell("The page failed; reload it.");
    throw error;
  }
}

function askToken() {
  const dialog = byId("token-dialog");
  byId("token-error").textContent = hasToken() ? "That token was refused." : "";
  dropToken();
  if (!dialog.open) dialog.showModal();
  byId("token-input").focus();
}

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepToken(byId("token-input").value.trim());
  byId("token-input").value = "";
  byId("token-dialog").close();
  poll();
});
byId("token-dialog").addEventListener("cancel", (event) => event.preventDefault());
byId("edge-filter").addEventListener("change", (event) => { state.edgeFilter = event.target.value; draw(); });
byId("status-filter").addEventListener("change", (event) => { state.statusFilter = event.target.value; draw(); });
document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });
poll();
