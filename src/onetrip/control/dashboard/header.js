// The header: which node, and whether its cluster is well.

import { duration, h, refill } from "./dom.js";

/** The header: which node, and whether its cluster is well. */
export function drawHeader(state) {
  const { status } = state;
  const title = state.regions.find((r) => r.id === status.region)?.title ?? "";
  const up = duration(Math.floor(status.uptime / 60) * 60 || status.uptime);
  const takesNone = status.mode === "advise";
  refill("node", [status.region, title, status.version, up, takesNone], () => [
    h("span", {}, "node ", h("strong", {}, status.region), title && title !== status.region ? ` · ${title}` : ""),
    h("span", {}, `up ${up}`),
    h("span", {}, `version ${status.version}`),
    takesNone && h("span", { class: "pill warn", id: "takes-none" }, "ⓘ advises only: takes no traffic"),
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
