// Elements, numbers and times. Text from the API enters the page here and only as text nodes.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(4).filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

/** Make an HTML element; strings among the children become text nodes. */
export const h = (tag, attributes = {}, ...children) =>
  fill(document.createElement(tag), attributes, children);

/** Make an SVG element. */
export const s = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

export const byId = (id) => document.getElementById(id);

const shown = new Map();

/**
 * Fill an element again, but only when `data` differs from what it was filled with; the keyboard
 * focus stays on the control with the same data-key.
 */
export function refill(id, data, build) {
  const text = JSON.stringify(data);
  if (shown.get(id) === text) return;
  shown.set(id, text);
  const element = byId(id);
  const focused = element.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  element.replaceChildren(...[build()].flat(3).filter(Boolean));
  if (focused) {
    const again = [...element.querySelectorAll("[data-key]")].find((e) => e.dataset.key === focused);
    if (again) again.focus({ preventScroll: true });
  }
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

/** Milliseconds for people: one digit below 10, none above; a dash when unknown. */
export const ms = (value) =>
  value === null || value === undefined ? "–" : Math.abs(value) < 9.95 ? tenths.format(value) : whole.format(value);

/** "± 3.2 ms" and the like: no more digits than the interval has. */
export const plusMinus = (low, high) => ms(Math.abs(high - low) / 2);

export const count = (value) => whole.format(value);

/** Round trips: "11", "6.2"; a dash when unknown. */
export const trips = (value) =>
  value === null || value === undefined ? "–" : tenths.format(value).replace(/\.0$/, "");

/** "5 min ago", from Unix times in seconds. */
export function ago(at, now) {
  const seconds = Math.max(0, now - at);
  if (seconds < 5) return "just now";
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]]) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit} ago`;
  }
  return "just now";
}

/** "2 h 14 min", from seconds. */
export function duration(seconds) {
  const parts = [];
  let left = Math.max(0, Math.floor(seconds));
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]]) {
    const part = Math.floor(left / size);
    left -= part * size;
    if (part || parts.length) parts.push(`${part} ${unit}`);
  }
  return parts.slice(0, 2).join(" ") || "0 s";
}

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const precise = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
export const hourMinute = (at) => clock.format(new Date(at * 1000));
export const hourMinuteSecond = (at) => precise.format(new Date(at * 1000));

let saying = null;

/** Tell a screen reader; said again when it comes again. */
export function announce(text) {
  const box = byId("announce");
  box.textContent = "";
  clearTimeout(saying);
  saying = setTimeout(() => { box.textContent = text; }, 60);
}
