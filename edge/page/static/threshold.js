// The threshold slider: what another threshold would have done to the parts that were judged.
// It only counts in the browser; without it the form asks the server, with the same answer.
"use strict";

(function () {
  const form = document.getElementById("try");
  if (!form) return;
  const slider = form.querySelector("[type=range]");
  const field = form.querySelector("[name=at]");
  const low = Number(form.dataset.low), high = Number(form.dataset.high);
  const isLogarithmic = form.dataset.logarithmic === "true";
  const LEFT = 56, PLOT = 656, STEPS = 1000, LISTED = 24; // as edge/page/charts.py

  const typed = () => Number(field.value.replace(",", "."));

  function valueAt(position) {
    const share = position / STEPS;
    return isLogarithmic ? low * Math.pow(high / low, share) : low + (high - low) * share;
  }

  function shareOf(value) {
    const at = isLogarithmic
      ? Math.log(Math.max(value, low) / low) / Math.log(high / low)
      : (value - low) / (high - low);
    return Math.min(1, Math.max(0, at));
  }

  function listParts(name, parts) {
    const list = document.querySelector(`[data-list=${name}]`);
    list.replaceChildren(...parts.slice(0, LISTED).map((part) => {
      const item = document.createElement("li");
      const link = document.createElement("a");
      link.href = `/history/${part.seq}`;
      link.textContent = part.part;
      item.append(link, ` ${part.score}`);
      return item;
    }));
    document.querySelector(`[data-count=${name}]`).textContent = parts.length;
  }

  function show(parts, threshold) {
    const limit = Math.fround(threshold);
    const isRejected = (part) => Math.fround(part.score) > limit;
    for (const label of ["good", "bad", "unlabeled"]) {
      const mine = parts.filter((part) => part.label === label);
      const rejected = mine.filter(isRejected).length;
      document.querySelector(`[data-count=rejected-${label}]`).textContent = rejected;
      document.querySelector(`[data-count=accepted-${label}]`).textContent = mine.length - rejected;
    }
    listParts("newly_rejected", parts.filter((part) => part.code === 1 && isRejected(part)));
    listParts("newly_accepted", parts.filter((part) => part.code === 2 && !isRejected(part)));
    const line = document.getElementById("tried");
    const x = LEFT + PLOT * shareOf(threshold);
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
    slider.setAttribute("aria-valuetext", field.value);
  }

  function start(answer) {
    const parts = answer.parts;
    const tryOut = () => {
      const threshold = typed();
      if (field.value !== "" && Number.isFinite(threshold)) show(parts, threshold);
    };
    slider.addEventListener("input", () => {
      field.value = Number(valueAt(Number(slider.value)).toPrecision(6));
      tryOut();
    });
    field.addEventListener("input", () => {
      slider.value = Math.round(STEPS * shareOf(typed()));
      tryOut();
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    slider.hidden = false;
    form.classList.add("live");
    tryOut();
  }

  fetch(form.dataset.source, { credentials: "same-origin" })
    .then((reply) => (reply.ok ? reply.json() : Promise.reject(reply.status)))
    .then(start)
    .catch(() => {}); // the form goes on working by itself
})();
