// The page: keeps the state, asks the node for what changed, and draws it.

import { CallError, change, changePlacement, dropToken, get, hasToken, keepToken, openStream, projectPath } from "./client.js";
import { byArm, flowsOf, keyOf, mergeEvents, mostTelling } from "./decisions.js";
import { ask } from "./confirm.js";
import { confirmation, drawDeployments } from "./deployments.js";
import { announce, byId } from "./dom.js";
import { drawEvents, tellEvents } from "./events.js";
import { drawExplain } from "./explain.js";
import { drawHeader } from "./header.js";
import { drawHistogram } from "./histogram.js";
import { drawHistory } from "./history.js";
import { Loader } from "./loader.js";
import { drawMap } from "./map.js";
import { drawMatrix } from "./matrix.js";
import { drawFilters, drawLegend } from "./panels.js";
import { drawProjects } from "./projects.js";
import { drawRoutes } from "./routes.js";
import { Follower } from "./stream.js";
import { drawTiles } from "./tiles.js";
import { drawWhatIf } from "./whatif.js";

const FIGURES = 4000; // ms between two looks at figures that no event tells of, such as RTTs
const SLOW_EVERY = 5; // of those, for what changes slowly and is large
const HIDDEN = 30_000; // ms after which a page that nobody looks at lets go of the stream
const MAX_EVENTS = 300;
const MANY = 200; // projects; the list of more is asked for seldom, whatever happens
const CLUSTER = ["status", "regions", "rtts", "projects"];
const PROJECT = ["decisions", "distribution"];
const ALL = [...CLUSTER, ...PROJECT, "history", "events", "deployments"];

const state = {
  status: null, regions: [], rtts: [], projects: [], events: [], decisions: [], distribution: null,
  latencies: new Map(), history: new Map(), whatIf: null, busy: new Set(),
  project: null, selected: null, focusRegion: null, isAllEdges: false,
  edgeFilter: "", statusFilter: "", routeFilter: "", sort: { column: "", isDescending: false },
  deployments: [], environments: [], projectFilter: "", deploymentFilter: "", eventFilter: "", pausedAt: null, isStreaming: false, isLost: false, clockAhead: 0,
  now: () => Date.now() / 1000 + state.clockAhead,
};

let fading = null;
let leaving = null;
let looks = 0;

const act = {
  choose(name) {
    if (state.project === name) return;
    Object.assign(state, { project: name, selected: null, decisions: [], distribution: null, whatIf: null, deployments: [], environments: [] });
    state.latencies = new Map();
    state.history = new Map();
    loader.want(...PROJECT, "history", "deployments");
  },
  select(key) {
    state.selected = key;
    state.distribution = null;
    draw();
    loader.want("distribution");
    byId("why").scrollIntoView({ block: "nearest", behavior: "auto" });
  },
  sort(sort) {
    state.sort = sort;
    draw();
  },
  allEdges(isAll) {
    state.isAllEdges = isAll;
    draw();
    loader.want("distribution");
  },
  release(order, key) {
    const { project } = state;
    const asked = confirmation(order);
    ask(asked, async (share) => {
      const [method, path, body] = asked.call(share);
      await change(method, projectPath(project, path), body);
      announce(`${order.environment.name} was changed`);
      loader.want(...ALL);
    }, key);
  },
  async change(project, placement) {
    if (state.busy.has(project.name)) return;
    state.busy.add(project.name);
    draw();
    try {
      await changePlacement(project.name, placement, project.etag);
      tell("");
      announce(`${project.name} was changed`);
    } catch (error) {
      const isStale = error instanceof CallError && error.status === 412;
      tell(isStale ? `${project.name} was changed elsewhere meanwhile; look again and retry.` : `${project.name} was not changed: ${error.message}`);
    }
    state.busy.delete(project.name);
    loader.want(...ALL);
  },
};

/** Show a problem until it is over ("lost") or has been read ("action"). */
function tell(text, kind = "action") {
  const alert = byId("alert");
  if (alert.textContent !== text) alert.textContent = text;
  alert.hidden = !text;
  alert.dataset.kind = kind;
  clearTimeout(fading);
  if (text && kind === "action") fading = setTimeout(tell, 15_000, "");
}

const loader = new Loader(load, (error) => {
  state.isLost = error !== null;
  if (error) return lost(error);
  if (byId("alert").dataset.kind === "lost") tell("");
  document.body.classList.remove("stale");
  showLive(state.isStreaming ? "live" : "polling");
  if (!follower.isRunning && !document.hidden) follower.start();
  draw();
});

const follower = new Follower({
  open: openStream,
  sleep: (ms) => new Promise((resolve) => { setTimeout(resolve, ms); }),
  take(message) {
    if (message.name === "missed") loader.want(...ALL);
    else if (message.name === "status") takeStatus(JSON.parse(message.data));
    else if (message.name === "event") takeEvent(JSON.parse(message.data));
  },
  tell(name, error) {
    state.isStreaming = name === "live";
    if (name === "live" || (name === "lost" && error)) loader.want(...ALL); // what it missed, or the reason
    if (name === "refused" && error.status === 401) lost(error);
  },
});

function takeStatus(status) {
  setStatus(status);
  loader.want("regions", "rtts", ...listing(), ...PROJECT);
}

function takeEvent(event) {
  state.events = mergeEvents(state.events, [event], MAX_EVENTS);
  if (state.pausedAt === null) tellEvents([event]);
  loader.want(...listing(), "deployments", ...PROJECT);
  draw();
}

const listing = () => (state.projects.length > MANY ? [] : ["projects"]);

function setStatus(status) {
  state.status = status;
  state.clockAhead = status.started_at + status.uptime - Date.now() / 1000;
  state.focusRegion ??= status.region;
}

async function load(parts) {
  if (parts.has("status") || !state.status) setStatus(await get("/v1/status")); // alone, so a missing token is refused once
  await Promise.all([
    parts.has("regions") && get("/v1/regions").then((body) => { state.regions = body.regions; }),
    parts.has("rtts") && get("/v1/rtts").then((body) => { state.rtts = body.rtts; }),
    parts.has("projects") && get("/v1/projects").then((body) => { state.projects = body.projects; }),
    parts.has("events") && get("/v1/events?limit=100").then((body) => { state.events = mergeEvents(state.events, body.events, MAX_EVENTS); }),
  ]);
  if (!state.projects.some((p) => p.name === state.project)) {
    const smart = state.projects.find((p) => p.placement.mode === "smart");
    Object.assign(state, { project: (smart ?? state.projects[0])?.name ?? null, selected: null, decisions: [], whatIf: null });
  }
  if (state.project !== null) await loadProject(state.project, parts);
}

async function loadProject(name, parts) {
  const isOff = state.status.mode === "advise" || state.projects.find((p) => p.name === name)?.placement.mode === "off";
  const wants = parts.has("decisions");
  const [explain, latencies, history, whatIf, releases] = await Promise.all([
    wants && get(projectPath(name, "/explain")),
    wants && get(`/v1/latencies?project=${encodeURIComponent(name)}`),
    parts.has("history") && get(projectPath(name, "/history")),
    wants && isOff && get(projectPath(name, "/whatif")),
    parts.has("deployments") && Promise.all(["/environments", "/deployments?limit=200"].map((rest) => get(projectPath(name, rest)))),
  ]);
  if (state.project !== name) return; // another project was chosen meanwhile
  if (wants) {
    Object.assign(state, { decisions: explain.decisions, whatIf: whatIf || null, latencies: byArm(latencies.latencies) });
    if (!state.decisions.some((d) => keyOf(d) === state.selected)) state.selected = mostTelling(state.decisions);
  }
  if (releases) Object.assign(state, { environments: releases[0].environments, deployments: releases[1].deployments });
  if (history) state.history = new Map(history.series.map((s) => [keyOf(s), s.points]));
  if (parts.has("distribution")) await loadDistribution(name);
}

async function loadDistribution(name) {
  const [selected, isAll] = [state.selected, state.isAllEdges];
  const d = state.decisions.find((x) => keyOf(x) === selected);
  if (!d) return;
  const query = new URLSearchParams({ route: d.route, method: d.method, environment: d.environment });
  if (!isAll) query.set("edge", d.edge);
  const body = await get(projectPath(name, `/distributions?${query}`));
  if (state.selected === selected && state.isAllEdges === isAll) state.distribution = body.distributions[0] ?? null;
}

function draw() {
  if (!state.status) return;
  const chosen = state.decisions.find((d) => keyOf(d) === state.selected);
  drawHeader(state);
  drawMap(state, flowsOf(state.decisions, state.regions, chosen), (id) => { state.focusRegion = id; draw(); });
  drawLegend(chosen);
  drawProjects(state, act);
  drawTiles(state);
  drawWhatIf(state, act);
  drawFilters(state);
  drawRoutes(state, act);
  drawExplain(state);
  drawHistogram(state, act);
  drawHistory(state);
  drawDeployments(state, act);
  drawMatrix(state);
  drawEvents(state);
}

function showLive(text) {
  byId("live").classList.toggle("lost", text === "not connected");
  if (byId("live-text").textContent !== text) byId("live-text").textContent = text;
}

function lost(error) {
  showLive("not connected");
  document.body.classList.toggle("stale", state.status !== null);
  if (error instanceof CallError && error.status === 401) askToken();
  else if (error instanceof CallError) tell(`${error.message}; trying again. The figures below are the last ones seen.`, "lost");
  else {
    tell("The page failed; reload it.");
    throw error;
  }
}

function askToken() {
  const dialog = byId("token-dialog");
  if (dialog.open) return;
  follower.stop();
  byId("token-error").textContent = hasToken() ? "That token was refused." : "";
  dropToken();
  dialog.showModal();
  byId("token-input").focus();
}

/** Whether a deployment is on its way: its checks end without an event at this node. */
const isReleasing = () => state.deployments.some((d) => d.status === "checking") || state.environments.some((e) => e.candidate);

/** Whether a listing of so many rows is to be read again at this look: long ones less often. */
const isDue = (rows) => looks % Math.min(15, Math.ceil(Math.max(rows, 1) / 1000)) === 0;

/** Look at the figures again; and at everything else, too, while no stream tells of it. */
function look() {
  if (document.hidden || byId("token-dialog").open) return;
  looks += 1;
  const isSlow = looks % SLOW_EVERY === 0;
  loader.want("regions");
  if (state.status?.replicas.length) loader.want("status"); // lag moves without an event
  if (isDue(state.rtts.length)) loader.want("rtts");
  if (isDue(state.decisions.length)) loader.want(...PROJECT);
  if (isSlow || isReleasing()) loader.want("deployments");
  if (isSlow) loader.want("projects", "history");
  if (state.isLost) loader.want(...ALL); // a project may be gone, with all that was asked of it
  if (!state.isStreaming) loader.want("status", ...listing(), "events");
}

function watch(id, name, field) {
  byId(id).addEventListener(name, (event) => { state[field] = event.target.value; draw(); });
}

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepToken(byId("token-input").value.trim());
  byId("token-input").value = "";
  byId("token-dialog").close();
  loader.want(...ALL);
});
byId("token-dialog").addEventListener("cancel", (event) => event.preventDefault());
watch("edge-filter", "change", "edgeFilter");
watch("status-filter", "change", "statusFilter");
watch("route-filter", "input", "routeFilter");
watch("project-filter", "input", "projectFilter");
watch("event-filter", "input", "eventFilter");
watch("deployment-filter", "input", "deploymentFilter");
byId("events-pause").addEventListener("click", () => {
  state.pausedAt = state.pausedAt === null ? state.events[0]?.id ?? 0 : null;
  draw();
});
document.addEventListener("visibilitychange", () => {
  clearTimeout(leaving);
  if (document.hidden) leaving = setTimeout(() => { follower.stop(); state.isStreaming = false; }, HIDDEN);
  else loader.want(...ALL);
});
setInterval(look, FIGURES);
loader.want(...ALL);
