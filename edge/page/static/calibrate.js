// The guided calibration: the camera's picture, and how far the step is, from the server's own page.
"use strict";

(() => {
  const place = document.querySelector("[data-now]");
  if (!place) return;
  const image = document.querySelector("[data-view]");
  const noImage = document.querySelector("[data-no-view]");
  const lost = document.querySelector("[data-lost]");
  const PICTURE_MS = 200, STATE_MS = 500, SLOW_MS = 1000, LOST_MS = 3000;
  const TYPED = "input:not([name=what], [name=order], [name=seen]), select";
  let answeredAt = Date.now();
  let shownUrl = "";

  async function ask(path, etag) {
    const answer = await fetch(path, {
      headers: etag ? { Accept: "text/html", "If-None-Match": etag } : { Accept: "text/html" },
      cache: "no-store",
      credentials: "same-origin",
      redirect: "manual",
    });
    if (answer.type === "opaqueredirect") { // the login or the password is asked for
      location.reload();
      throw new Error("login");
    }
    if (answer.status >= 400) throw new Error(String(answer.status));
    answeredAt = Date.now();
    return answer;
  }

  // Whatever somebody has opened or typed stays, as long as it is there.
  function replace(html) {
    const open = [...place.querySelectorAll("details")].map((one) => one.open);
    const typed = new Map([...place.querySelectorAll(TYPED)]
      .map((one) => [one.name, one.type === "checkbox" ? one.checked : one.value]));
    const focused = document.activeElement && place.contains(document.activeElement)
      ? document.activeElement.textContent.trim() : "";
    const step = place.querySelector("[data-step]");
    const before = step && step.dataset.step + step.dataset.phase;
    place.innerHTML = html;
    const after = place.querySelector("[data-step]");
    if (after && before === after.dataset.step + after.dataset.phase) {
      [...place.querySelectorAll("details")].forEach((one, at) => { one.open = open[at] || false; });
      for (const one of place.querySelectorAll(TYPED)) {
        if (!typed.has(one.name)) continue;
        if (one.type === "checkbox") one.checked = typed.get(one.name);
        else one.value = typed.get(one.name);
      }
    }
    const same = [...place.querySelectorAll("button, a, summary")]
      .find((one) => focused && one.textContent.trim() === focused);
    if (same) same.focus();
    document.dispatchEvent(new CustomEvent("replaced"));
  }

  async function draw(answer) {
    const before = shownUrl;
    const has = answer.status === 200;
    if (has) {
      shownUrl = URL.createObjectURL(await answer.blob());
      image.src = shownUrl;
      if (before) setTimeout(() => URL.revokeObjectURL(before), 1000);
    }
    image.hidden = !has;
    noImage.hidden = has;
  }

  // One loop for each of the two: asks, shows what is new, and asks again while somebody looks.
  function follow(path, everyMs, show) {
    let etag = "";
    const round = async () => {
      let pause = everyMs;
      try {
        const answer = await ask(path, etag);
        if (answer.status !== 304) {
          etag = answer.headers.get("ETag") || "";
          await show(answer);
        }
      } catch (error) {
        pause = SLOW_MS;
      }
      lost.hidden = Date.now() - answeredAt < LOST_MS;
      if (document.hidden) {
        document.addEventListener("visibilitychange", round, { once: true });
      } else {
        setTimeout(round, pause);
      }
    };
    round();
  }

  // A glove bounces: what was sent just now is not sent again.
  let sentAt = 0;
  place.addEventListener("submit", (event) => {
    if (Date.now() - sentAt < LOST_MS) event.preventDefault();
    else sentAt = Date.now();
  });

  // --- the region of interest, drawn on the picture while its fields are open ---
  const SIDES = ["left", "top", "width", "height"];
  const figure = image.parentElement;
  const drawn = document.querySelector("[data-drawn]");
  const rect = document.querySelector("[data-rect]");
  const fields = () => place.querySelector("[data-region][open]");
  let from = null; // where the pointer went down, as shares of the view

  function drawRegion() {
    const open = fields();
    const size = [image.naturalWidth, image.naturalHeight];
    figure.classList.toggle("is-drawn", Boolean(open));
    drawn.toggleAttribute("hidden", !open || !size[0]);
    if (!open || !size[0]) return;
    drawn.setAttribute("viewBox", `0 0 ${size[0]} ${size[1]}`);
    const names = ["x", "y", "width", "height"];
    SIDES.forEach((side, at) => {
      const share = Number(open.querySelector(`[name=${side}]`).value) / 100;
      rect.setAttribute(names[at], String(share * size[at % 2]));
    });
  }

  function write(shares) {
    const open = fields();
    SIDES.forEach((side, at) => {
      open.querySelector(`[name=${side}]`).value = (100 * shares[at]).toFixed(1);
    });
    open.querySelector("[name=region_set]").value = "1";
    drawRegion();
  }

  function shareAt(event) {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(drawn.getScreenCTM().inverse());
    const within = (value, most) => Math.min(1, Math.max(0, value / most));
    return [within(point.x, image.naturalWidth), within(point.y, image.naturalHeight)];
  }

  figure.addEventListener("pointerdown", (event) => {
    if (!fields() || drawn.hasAttribute("hidden")) return;
    event.preventDefault();
    figure.setPointerCapture(event.pointerId);
    from = shareAt(event);
  });
  figure.addEventListener("pointermove", (event) => {
    if (!from || !fields()) return;
    const to = shareAt(event);
    const low = from.map((one, at) => Math.min(one, to[at]));
    write([...low, ...from.map((one, at) => Math.abs(one - to[at]))]);
  });
  figure.addEventListener("pointerup", () => { from = null; });
  place.addEventListener("toggle", drawRegion, true);
  place.addEventListener("input", (event) => {
    const open = fields();
    if (!open || !open.contains(event.target)) return;
    open.querySelector("[name=region_set]").value = "1";
    drawRegion();
  });
  place.addEventListener("click", (event) => {
    if (event.target.matches("[data-whole]")) write([0, 0, 1, 1]);
  });
  document.addEventListener("replaced", drawRegion);

  follow("/api/v1/live/picture", PICTURE_MS, draw);
  follow(place.dataset.now, STATE_MS, async (answer) => replace(await answer.text()));
})();
