"use strict";
// The one thing that needs a script: choosing a theme against the system's. Everything else works without it.
(() => {
  const names = { "": "as the system", light: "light", dark: "dark" };
  const order = Object.keys(names);
  const button = document.getElementById("theme");
  const name = document.getElementById("theme-name");
  let chosen = "";
  button.hidden = false;
  button.addEventListener("click", () => {
    chosen = order[(order.indexOf(chosen) + 1) % order.length];
    if (chosen) {
      document.documentElement.dataset.theme = chosen;
    } else {
      delete document.documentElement.dataset.theme;
    }
    name.textContent = names[chosen];
  });
})();
