// Every region that was scored for a route: a bar each, one block for each trip, to one scale.

import { h, ms, s, trips } from "./dom.js";

const MAX_BLOCKS = 60;
const MAX_BARS = 5; // before the others fold away
const SCALE = 1000;

/** The bars; those of regions that nobody would choose fold away. */
export function candidateBars(decision) {
  const most = Math.max(...decision.candidates.map((c) => c.score_ms ?? 0), 1e-9);
  const [first, others] = split(decision.candidates);
  return h("div", { class: "bars" }, first.map((c) => bar(c, most, decision)), others.length ? rest(others, most, decision) : "");
}

/** Part the candidates worth a look (the best, the chosen, the default) from the others. */
function split(candidates) {
  const isWorth = (c, i) => i < MAX_BARS || c.is_chosen || c.is_default;
  return [candidates.filter(isWorth), candidates.filter((c, i) => !isWorth(c, i))];
}

const rest = (candidates, most, decision) =>
  h("details", { class: "rest" }, h("summary", { "data-key": "rest" }, `${candidates.length} more regions`),
    candidates.map((c) => bar(c, most, decision)));

function bar(candidate, most, decision) {
  const tags = [candidate.is_chosen ? "runs here" : "", candidate.is_default ? "default" : ""].filter(Boolean);
  const svg = s("svg", { viewBox: `0 0 ${SCALE} 20`, preserveAspectRatio: "none", "aria-hidden": "true" });
  blocks(candidate, most).forEach((block) => svg.append(block));
  return h(
    "div",
    { class: `bar ${candidate.is_chosen ? "chosen" : ""} ${decision.status === "placed" ? "win" : ""}` },
    h("div", { class: "bar-name" }, h("strong", {}, candidate.region), tags.map((t) => h("span", { class: "tag" }, t))),
    h("div", { class: "bar-track" }, svg),
    h("div", { class: "bar-total" }, candidate.score_ms === null ? "unknown" : `${ms(candidate.score_ms)} ms`),
    h("div", { class: "bar-terms" }, termText(candidate), candidate.is_chosen || candidate.is_default ? "" : h("span", { class: "verdict-note" }, candidate.verdict)),
  );
}

function termText(candidate) {
  const terms = [`edge RTT ${ms(candidate.edge_rtt_ms)}`, `compute ${ms(candidate.compute_ms)}`];
  for (const t of candidate.backends) {
    terms.push(`${t.backend} ${trips(t.round_trips)} × ${ms(t.rtt_ms)} = ${ms(t.product_ms)}`);
  }
  return terms.join("  +  ");
}

function blocks(candidate, most) {
  const found = [];
  let x = 0;
  const add = (length, name) => {
    const width = (length / most) * SCALE;
    if (width > 0) {
      // A gap between blocks, so that eleven trips look like eleven; slivers stay visible.
      const drawn = Math.max(width > 6 ? width - 2.5 : width * 0.8, 0.8);
      found.push(s("rect", { x: x.toFixed(2), y: 0, width: drawn.toFixed(2), height: 20, class: name }));
    }
    x += width;
  };
  add(candidate.edge_rtt_ms ?? 0, "edge");
  add(candidate.compute_ms ?? 0, "compute");
  candidate.backends.forEach((term, i) => {
    const name = `trip-${i % 4}`;
    const [count, rtt] = [term.round_trips ?? 0, term.rtt_ms ?? 0];
    if (count > MAX_BLOCKS) add(count * rtt, name);
    else {
      for (let left = count; left > 0.01; left -= 1) add(rtt * Math.min(1, left), name);
    }
  });
  return found;
}
