"use strict";
(() => {
  // The legend of the map shows and hides what it names.
  document.getElementById("groups")?.addEventListener("change", (event) => {
    const { group } = event.target.dataset;
    for (const dot of document.querySelectorAll(`#map g[data-group="${group}"]`)) dot.toggleAttribute("hidden", !event.target.checked);
  });
})();
