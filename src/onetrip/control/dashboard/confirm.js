// The dialog before a change that others feel: what will be, maybe a share, and the error if it fails.

import { byId } from "./dom.js";

let pending = null;

/**
 * Ask; `act(share)` makes the change, and the dialog stays open with the reason while that fails.
 * Afterwards the focus is on what has the data-key `from`.
 */
export function ask({ title, text, button, percent }, act, from) {
  pending = { act, from, isShare: percent !== undefined };
  byId("confirm-title").textContent = title;
  byId("confirm-text").textContent = text;
  byId("confirm-go").textContent = button;
  byId("confirm-error").textContent = "";
  byId("confirm-share").hidden = !pending.isShare;
  byId("confirm-percent").disabled = !pending.isShare;
  byId("confirm-percent").value = percent ?? 10;
  byId("confirm-dialog").showModal();
  (pending.isShare ? byId("confirm-percent") : byId("confirm-cancel")).focus();
}

async function go(event) {
  event.preventDefault();
  const { act } = pending;
  byId("confirm-go").disabled = true;
  byId("confirm-error").textContent = "";
  try {
    await act(Number(byId("confirm-percent").value) / 100);
    byId("confirm-dialog").close();
  } catch (error) {
    byId("confirm-error").textContent = error.message;
  }
  byId("confirm-go").disabled = false;
}

byId("confirm-form").addEventListener("submit", go);
byId("confirm-cancel").addEventListener("click", () => byId("confirm-dialog").close());
byId("confirm-dialog").addEventListener("close", () => {
  // The table may have been drawn again meanwhile, without the button that asked.
  const button = [...document.querySelectorAll("[data-key]")].find((e) => e.dataset.key === pending.from);
  (button ?? byId("deployments")).focus();
});
