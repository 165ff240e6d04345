// The projects, each with its toggle and its pin.

import { chip } from "./chips.js";
import { count, h, ms, refill } from "./dom.js";

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
