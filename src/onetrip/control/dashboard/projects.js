// The projects, each with its toggle and its pin.

import { chip } from "./chips.js";
import { byId, count, h, ms, refill } from "./dom.js";
import { matches } from "./decisions.js";

const MAX_SHOWN = 20;
const FEW = 6; // up to so many need no filter

/** The projects, each with its toggle and its pin. */
export function drawProjects(state, act) {
  const wanted = state.projectFilter ? state.projects.filter((p) => matches(textOf(p), state.projectFilter)) : state.projects;
  const shown = wanted.slice(0, MAX_SHOWN);
  const chosen = state.projects.find((p) => p.name === state.project);
  if (chosen && wanted.includes(chosen) && !shown.includes(chosen)) shown.unshift(chosen);
  byId("project-find").hidden = state.projects.length <= FEW;
  const data = [shown, wanted.length, state.projects.length, state.project, state.regions.map((r) => r.id), [...state.busy]];
  refill("projects", data, () => {
    if (!shown.length) return h("li", { class: "empty" }, state.projects.length ? "No project matches the filter." : "There is no project yet.");
    const left = wanted.length - shown.length;
    return [shown.map((p) => projectItem(p, state, act)), left > 0 ? h("li", { class: "note" }, `${count(left)} more projects; filter to see them`) : ""];
  });
}

const textOf = (project) => [project.name, project.placement.mode, ...project.environments.flatMap((e) => e.hosts)].join(" ");

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
