// A status as a chip: colour, icon and word, so that none of them is needed to tell it.

import { h } from "./dom.js";

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

export const chip = (status, text = status) =>
  h("span", { class: `chip chip-${(ICONS[status] ? status : "off").replaceAll(" ", "-")}` },
    h("span", { "aria-hidden": "true" }, ICONS[status] ?? "?"), ` ${text}`);
