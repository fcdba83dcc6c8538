// Comfort for lists: choose all parts of a page, print with every field of a record. Everything
// else works without it.
"use strict";

(function () {
  for (const box of document.querySelectorAll("[data-choose-all]")) {
    box.closest("label").hidden = false;
    box.addEventListener("change", () => {
      for (const one of document.querySelectorAll("[name=seq][type=checkbox]")) {
        one.checked = box.checked;
      }
    });
  }
  for (const button of document.querySelectorAll("[data-print]")) {
    button.hidden = false;
    button.addEventListener("click", () => window.print());
  }
  window.addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details.raw")) details.open = true;
  });
})();
