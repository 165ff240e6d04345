// What happened, as it happens: filtered by words, and held still while somebody reads.

import { announce, ago, byId, count, h, hourMinuteSecond, refill } from "./dom.js";
import { matches } from "./decisions.js";

const MAX_SHOWN = 60;

/** Lasting shifts of a route's service time, told apart by whether the RTTs shifted with it. */
export const DRIFTS = { "estimate.code_changed": "code changed", "estimate.network_changed": "network changed" };

export const isPolicy = (name) => /(^|\.)policy/.test(name);

/** Draw the latest events; while paused, those that were there when the pause began. */
export function drawEvents(state) {
  const shown = state.pausedAt === null ? state.events : state.events.filter((e) => e.id <= state.pausedAt);
  const found = shown.filter((e) => matches(`${e.name} ${e.subject} ${e.detail}`, state.eventFilter));
  const waiting = state.events.length - shown.length;
  const button = byId("events-pause");
  button.setAttribute("aria-pressed", String(state.pausedAt !== null));
  button.textContent = state.pausedAt === null ? "Pause" : waiting ? `Resume, ${count(waiting)} new` : "Resume";
  const rows = found.slice(0, MAX_SHOWN).map((e) => [ago(e.at, state.now()), e.name, e.subject, e.detail, hourMinuteSecond(e.at), e.id]);
  refill("events", [rows, state.eventFilter !== ""], () => rows.length
    ? rows.map(item)
    : h("li", { class: "empty" }, state.eventFilter ? "No event matches the filter." : "Nothing has happened yet."));
}

/** Say the newest of some events aloud. */
export function tellEvents(events) {
  const [newest] = events;
  if (newest) announce(`${newest.name}: ${newest.subject}. ${newest.detail}`);
}

function item([age, name, subject, detail, at]) {
  return h("li", {},
    h("span", { class: `dot ${toneOf(name)}`, "aria-hidden": "true" }),
    h("div", {}, h("p", {}, h("strong", {}, name), DRIFTS[name] ? h("span", { class: "tag drift" }, DRIFTS[name]) : "", " ", subject), h("small", {}, detail)),
    h("time", { title: at }, age));
}

function toneOf(name) {
  if (DRIFTS[name] || name === "app.draining") return "warn";
  if (/fail|lost|down|unreachable|reverted|refused/.test(name)) return "bad";
  if (/moved|confirmed|recovered|placed|promoted/.test(name)) return "good";
  return isPolicy(name) ? "accent" : "";
}
