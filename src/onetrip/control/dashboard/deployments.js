// Deployments: what serves each environment, and the buttons that change it, each confirmed first.

import { ago, byId, count, h, hourMinuteSecond, ms, refill } from "./dom.js";
import { matches } from "./decisions.js";

const MAX_ROWS = 100;
const ICONS = { ready: "✓", checking: "◔", failed: "✕" };

const percent = (share) => `${ms(share * 100).replace(/\.0$/, "")}\u00a0%`;

/** Draw the panel of the selected project. */
export function drawDeployments(state, act) {
  const { deployments, environments, project } = state;
  byId("deployments-title").textContent = project ? `Deployments of ${project}` : "Deployments";
  const wanted = deployments.filter((d) => matches([d.id, d.environment, d.branch, d.commit, d.message, d.status].join(" "), state.deploymentFilter));
  const rows = wanted.slice(0, MAX_ROWS);
  const ages = rows.map((d) => ago(d.created_at, state.now()));
  refill("environments", [environments, deployments.map((d) => [d.id, d.status])], () => environments.map((e) => environmentItem(e, deployments, act)));
  refill("deployment-table", [rows, ages, environments, deployments.length], () => {
    if (!rows.length) return h("p", { class: "empty" }, deployments.length ? "No deployment matches the filter." : "Nothing was deployed through the API yet; what serves is in the configuration.");
    return [table(rows, ages, environments, act), wanted.length > rows.length ? h("p", { class: "note" }, `${count(wanted.length - rows.length)} more; filter to see them`) : ""];
  });
}

function environmentItem(environment, deployments, act) {
  const { name, hosts, deployment, candidate, share, before } = environment;
  const label = (id) => { const d = deployments.find((x) => x.id === id); return d?.branch ? `${id} (${d.branch})` : id || "the configuration's"; };
  const button = (text, order, isPrimary) => h("button", { type: "button", class: isPrimary ? "quiet strong" : "quiet", "data-key": `${name} ${order.kind}`, onclick: () => act.release(order, `${name} ${order.kind}`) }, text);
  return h("li", { class: "environment" },
    h("div", { class: "environment-head" }, h("h3", {}, name), h("small", {}, hosts.slice(0, 3).join(", ") + (hosts.length > 3 ? ` and ${hosts.length - 3} more` : ""))),
    h("div", { class: "shares" },
      !deployment && !hosts.length ? h("p", { class: "empty" }, "Nothing serves it yet.") : h("p", {}, h("strong", {}, label(deployment)), ` serves ${percent(candidate ? 1 - share : 1)}`,
        candidate ? [", ", h("strong", {}, label(candidate)), ` ${percent(share)}`] : ""),
      candidate ? shareBar(1 - share) : ""),
    h("div", { class: "actions" },
      candidate ? [button("Change share…", { kind: "share", environment, deployment: candidate, share }),
        button("Promote…", { kind: "promote", environment, deployment: candidate }, true),
        button("End rollout…", { kind: "end", environment, deployment: candidate })] : "",
      before.length ? button("Roll back…", { kind: "back", environment, deployment: before[0] }) : ""));
}

/** The requests of an environment, parted between what serves it and its candidate. */
function shareBar(current) {
  const bar = h("div", { class: "share-bar", "aria-hidden": "true" }, h("span", {}));
  bar.firstChild.style.width = `${current * 100}%`;
  return bar;
}

function table(rows, ages, environments, act) {
  const head = ["Deployment", "Environment", "Status", "Share", "Made", "Change"];
  return h("table", { class: "deployments" },
    h("caption", { class: "sr" }, "Deployments, newest first"),
    h("thead", {}, h("tr", {}, head.map((name, i) => h("th", { scope: "col", class: i === 3 ? "num" : "" }, name)))),
    h("tbody", {}, rows.map((d, i) => row(d, ages[i], environments.find((e) => e.name === d.environment), act))));
}

function row(d, age, environment, act) {
  const origin = [d.branch, d.commit.slice(0, 10)].filter(Boolean).join(" @ ");
  return h("tr", { class: d.is_current ? "selected" : "" },
    h("th", { scope: "row" }, h("span", { class: "id" }, d.id), h("small", {}, origin || "no branch"), d.message ? h("small", { class: "message" }, d.message) : ""),
    h("td", {}, d.environment, d.hosts.map((host) => h("small", { class: "host" }, host))),
    h("td", { class: "status-cell" }, h("span", { class: `chip chip-${d.status}` }, h("span", { "aria-hidden": "true" }, ICONS[d.status] ?? "?"), ` ${d.status}`), checks(d)),
    h("td", { class: "num" }, d.share > 0 ? h("strong", {}, percent(d.share)) : "–", d.is_current ? h("small", {}, "current") : ""),
    h("td", {}, age, h("small", { title: hourMinuteSecond(d.created_at) }, d.created_by ? `by ${d.created_by}` : "")),
    h("td", {}, h("div", { class: "actions" }, actions(d, environment, act))));
}

/** What each region found that is not ready, with its reason. */
const checks = (d) => d.checks.filter((c) => c.status !== "ready").map((c) => h("small", {}, `${c.region}: ${c.detail || c.status}`));

function actions(d, environment, act) {
  if (!environment || d.is_current || d.status !== "ready") return d.is_current ? h("small", {}, "serves now") : h("small", {}, d.status === "checking" ? "when it is ready" : "never served");
  const named = (text, order) => h("button", { type: "button", class: "quiet", "data-key": `${d.id} ${order.kind}`, "aria-label": `${text.replace("…", "")} ${d.id}`, onclick: () => act.release(order, `${d.id} ${order.kind}`) }, text);
  return [named("Promote…", { kind: "promote", environment, deployment: d.id }),
    named(d.share > 0 ? "Change share…" : "Roll out…", { kind: "share", environment, deployment: d.id, share: d.share || 0.1 })];
}

/** What is asked before a change, and the call that makes it; `share` is 0 to 1. */
export function confirmation({ kind, environment, deployment, share }) {
  const { name, deployment: current } = environment;
  const path = (what) => `/environments/${encodeURIComponent(name)}/${what}`;
  const target = deployment || "what the configuration says";
  const rollout = (value) => ["PUT", path("rollout"), { deployment, share: value }];
  switch (kind) {
    case "promote":
      return { title: `Promote ${deployment}?`, text: `It gets all requests of ${name} at once, instead of ${current}.`, button: "Promote", call: () => rollout(1) };
    case "share":
      return { title: `Roll out ${deployment}`, text: `It gets this share of the clients of ${name}; the others stay with ${current}. A client keeps what it has while the share grows.`,
        button: "Roll out", percent: Math.round(share * 100), call: (value) => rollout(value) };
    case "end":
      return { title: `End the rollout of ${deployment}?`, text: `All clients of ${name} go back to ${current}.`, button: "End rollout", call: () => rollout(0) };
    default:
      return { title: `Roll ${name} back?`, text: `${target} serves all its requests again, at once, instead of ${current}.`, button: "Roll back", call: () => ["POST", path("rollback"), { deployment }] };
  }
}
