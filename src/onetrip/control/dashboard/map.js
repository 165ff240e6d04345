// The map: regions where they are, RTTs as arcs between them, and the trips of one request on top.

import { byId, h, ms, refill, s, trips } from "./dom.js";
import { landPath } from "./land.js";

const WORLD = 1000;
const NORTH = 78;
const HEIGHT = 372;
const RATIO = 2.3;
const FEW = 4; // up to so many regions, every pair gets its arc
const FULL = 8; // up to so many regions, names are written out

const project = (longitude, latitude) => [
  ((longitude + 180) / 360) * WORLD,
  ((NORTH - latitude) / 360) * WORLD,
];

let land = null;

/** Class of an RTT; the bounds are a metro, a continent and an ocean, in ms. */
export const rttClass = (value) =>
  value === null || value === undefined ? "rtt-none" : value < 30 ? "rtt-near" : value < 150 ? "rtt-mid" : "rtt-far";

/** Draw the map. `flows` are {from, to, trips, kind} of the selected route. */
export function drawMap(state, flows, onFocus) {
  const placed = state.regions.filter((r) => r.position);
  const width = Math.round((byId("map").clientWidth || 860) / 40) * 40;
  const data = { placed, flows, focus: state.focusRegion, rtts: peerRtts(state.rtts), width };
  refill("map", data, () => (placed.length ? build(placed, data, onFocus) : empty()));
  byId("map-note").textContent =
    placed.length > FEW ? `RTTs from ${state.focusRegion}; choose a region to see its own` : "";
}

function empty() {
  return h("p", { class: "empty" }, "No region has a position yet. Give each one `position: [latitude, longitude]`.");
}

function peerRtts(rows) {
  const found = {};
  for (const row of rows) {
    if (row.kind === "peer" && row.rtt_ms !== null) found[`${row.source} ${row.target}`] = row.rtt_ms;
  }
  return found;
}

function build(regions, data, onFocus) {
  const points = new Map(regions.map((r) => [r.id, project(r.position.longitude, r.position.latitude)]));
  const box = frame([...points.values()]);
  const unit = box.width / Math.max(data.width, 280); // one CSS pixel, about
  land ??= landPath(project);
  const svg = s("svg", {
    viewBox: `${box.x} ${box.y} ${box.width} ${box.height}`,
    class: "world",
    role: "group",
    "aria-label": "World map of the regions",
  });
  svg.append(s("path", { d: land, class: "land", "stroke-width": 3.1, "aria-hidden": "true" }));
  const taken = regions.map((r) => labelBox(r, points.get(r.id), box, unit, regions.length));
  svg.append(arcs(regions, points, data, unit), flowLayer(points, data, unit), labels(points, data, unit, regions, taken));
  for (const region of regions) svg.append(marker(region, points, box, unit, regions.length, data, onFocus));
  return svg;
}

/** Return the part of the world to show: all regions, some air, and never less than a continent. */
function frame(points) {
  const xs = points.map((p) => p[0]);
  const ys = points.map((p) => p[1]);
  let width = Math.max(Math.max(...xs) - Math.min(...xs) + 190, 420);
  let height = Math.max(Math.max(...ys) - Math.min(...ys) + 130, width / RATIO);
  width = Math.min(WORLD, Math.max(width, height * RATIO));
  height = Math.min(HEIGHT, width / RATIO);
  const middle = (values) => (Math.max(...values) + Math.min(...values)) / 2;
  const clamp = (value, most) => Math.max(0, Math.min(most, value));
  return {
    x: clamp(middle(xs) - width / 2, WORLD - width),
    y: clamp(middle(ys) - height / 2 - 12, HEIGHT - height),
    width,
    height,
  };
}

function bend(from, to) {
  const [a, b] = from[0] <= to[0] ? [from, to] : [to, from];
  const [dx, dy] = [b[0] - a[0], b[1] - a[1]];
  return [(a[0] + b[0]) / 2 + dy * 0.2, (a[1] + b[1]) / 2 - dx * 0.2];
}

function curve(from, to) {
  const [cx, cy] = bend(from, to);
  return `M${from[0].toFixed(1)} ${from[1].toFixed(1)}Q${cx.toFixed(1)} ${cy.toFixed(1)} ${to[0].toFixed(1)} ${to[1].toFixed(1)}`;
}

function pairs(regions, data) {
  const found = [];
  for (let i = 0; i < regions.length; i += 1) {
    for (let j = i + 1; j < regions.length; j += 1) {
      const [a, b] = [regions[i].id, regions[j].id];
      if (regions.length > FEW && data.focus !== a && data.focus !== b) continue;
      found.push([a, b, data.rtts[`${a} ${b}`] ?? data.rtts[`${b} ${a}`] ?? null]);
    }
  }
  return found;
}

function arcs(regions, points, data, unit) {
  const group = s("g", { "aria-hidden": "true" });
  for (const [a, b, rtt] of pairs(regions, data)) {
    const attributes = { d: curve(points.get(a), points.get(b)), class: `arc ${rttClass(rtt)} ${regions.length > FEW && data.flows.length ? "faint" : ""}`, "stroke-width": 1.6 * unit };
    group.append(s("path", attributes));
  }
  return group;
}

function flowLayer(points, data, unit) {
  const group = s("g", { "aria-hidden": "true" });
  for (const flow of data.flows) {
    const [from, to] = [points.get(flow.from), points.get(flow.to)];
    if (!from || !to) continue;
    const attributes = { d: curve(from, to), class: `flow ${flow.kind}`, "stroke-width": 3.4 * unit };
    const path = s("path", attributes);
    path.style.strokeDasharray = `${7 * unit} ${6 * unit}`;
    path.style.setProperty("--dash", `${-13 * unit}px`);
    group.append(path);
  }
  return group;
}

const isLeftOf = (box, x) => x > box.x + box.width * 0.8;

/** Return the line below a region's name: its drain, lost instances, the backends that are there. */
function noteOf(region) {
  const backends = region.backends.length ? `⛁ ${region.backends.join(", ")}` : "";
  const lost = region.instances - region.instances_ready;
  const instances = lost ? `${region.instances_ready} of ${region.instances} instances ready` : "";
  return [region.is_draining ? "⇢ draining" : "", instances, backends].filter(Boolean).join("  ");
}

/** Return about where a region's name and backends stand, so that no arc label covers them. */
function labelBox(region, [x, y], box, unit, total) {
  const text = total <= FULL ? region.title : region.id;
  const note = total <= FULL ? noteOf(region) : "";
  const width = Math.max(text.length * 8.4, note.length * 6.6) * unit;
  const left = isLeftOf(box, x) ? x - 12 * unit - width : x - 8 * unit;
  return { left, top: y - 12 * unit, width: width + 20 * unit, height: (note ? 38 : 24) * unit };
}

/** Return the first free place along an arc and take it, or null: the matrix has the figure too. */
function place(from, to, text, unit, taken) {
  const [cx, cy] = bend(from, to);
  const width = text.length * 7.4 * unit;
  const height = 15 * unit;
  for (const t of [0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74]) {
    const at = (a, c, b) => (1 - t) ** 2 * a + 2 * t * (1 - t) * c + t ** 2 * b;
    const [x, y] = [at(from[0], cx, to[0]), at(from[1], cy, to[1]) - 6 * unit];
    const here = { left: x - width / 2, top: y - height, width, height: height + 3 * unit, x, y };
    if (taken.every((other) => !overlaps(here, other))) {
      taken.push(here);
      return here;
    }
  }
  return null;
}

const overlaps = (a, b) =>
  a.left < b.left + b.width && b.left < a.left + a.width && a.top < b.top + b.height && b.top < a.top + a.height;

function labels(points, data, unit, regions, taken) {
  const group = s("g", { "font-size": 12.5 * unit, "aria-hidden": "true" });
  for (const [a, b, rtt] of pairs(regions, data)) {
    if (rtt === null) continue;
    const flow = data.flows.find((f) => (f.from === a && f.to === b) || (f.from === b && f.to === a));
    const text = flow ? `${trips(flow.trips)} × ${ms(rtt)} ms` : `${ms(rtt)} ms`;
    const free = place(points.get(a), points.get(b), text, unit, taken);
    if (!free) continue;
    group.append(
      s("text", { x: free.x, y: free.y, class: `arc-label ${flow ? flow.kind : ""}`, "stroke-width": 4 * unit }, text),
    );
  }
  return group;
}

function marker(region, points, box, unit, total, data, onFocus) {
  const [x, y] = points.get(region.id);
  const state = region.is_alive === null ? "none" : region.is_alive ? "alive" : "silent";
  const isLeft = isLeftOf(box, x);
  const choose = () => onFocus(region.id);
  const isNoted = total <= FULL;
  const note = noteOf(region);
  // What is seen comes first in the name, so that a person who speaks to the page can say it.
  const seen = isNoted ? [region.title, note].filter(Boolean).join(" ") : region.id;
  const told = [state === "none" ? "no node" : state, isNoted ? "" : note].filter(Boolean).join(", ");
  const at = { x: isLeft ? x - 12 * unit : x + 12 * unit, "text-anchor": isLeft ? "end" : "start", "stroke-width": 4 * unit };
  return s(
    "g",
    {
      class: `region ${state} ${region.is_draining ? "draining" : ""}`,
      tabindex: 0,
      role: "button",
      "aria-pressed": String(data.focus === region.id),
      "aria-label": `${seen}, ${told}`,
      "data-key": `region ${region.id}`,
      onclick: choose,
      onkeydown: (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        choose();
      },
    },
    s("circle", { cx: x, cy: y, r: 14 * unit, class: "halo" }),
    s("circle", { cx: x, cy: y, r: 5.5 * unit, class: "point", "stroke-width": 2 * unit }),
    isNoted
      ? s("text", { ...at, y: y + 4 * unit, class: "region-label", "font-size": 14 * unit }, region.title)
      : s("text", { ...at, y: y + 4 * unit, class: "region-label", "font-size": 12 * unit }, region.id),
    note && isNoted
      ? s("text", { ...at, y: y + 20 * unit, class: "region-note", "font-size": 11.5 * unit }, note)
      : null,
  );
}
