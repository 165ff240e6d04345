// Light, dark, or as the system has it; a classic script in the head, so that nothing flashes.
{
  const KEY = "onetrip-theme";
  const NAMES = { auto: "System", light: "Light", dark: "Dark" };
  const ICONS = { auto: "◐", light: "☀", dark: "☾" };
  let chosen = "auto";
  try {
    chosen = localStorage.getItem(KEY) ?? "auto";
  } catch {
    // A browser that keeps nothing follows the system.
  }

  const apply = (name) => {
    chosen = NAMES[name] ? name : "auto";
    document.documentElement.dataset.theme = chosen;
    const button = document.getElementById("theme");
    if (!button) return;
    button.querySelector(".theme-icon").textContent = ICONS[chosen];
    button.querySelector(".theme-name").textContent = NAMES[chosen];
  };

  apply(chosen);
  document.addEventListener("DOMContentLoaded", () => {
    apply(chosen);
    document.getElementById("theme").addEventListener("click", () => {
      const names = Object.keys(NAMES);
      apply(names[(names.indexOf(chosen) + 1) % names.length]);
      try {
        if (chosen === "auto") localStorage.removeItem(KEY);
        else localStorage.setItem(KEY, chosen);
      } catch {
        // As above: it lasts until the page is left.
      }
    });
  });
}
