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
  const WHOLE = "/calibrate/whole"; // the picture beside the crop, too
  let answeredAt = Date.now();
  let isWhole = false; // the picture that is shown
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

  async function draw(answer, path) {
    const before = shownUrl;
    const has = answer.status === 200;
    isWhole = has && path === WHOLE;
    if (has) {
      shownUrl = URL.createObjectURL(await answer.blob());
      image.src = shownUrl;
      if (before) setTimeout(() => URL.revokeObjectURL(before), 1000);
    }
    image.hidden = !has;
    noImage.hidden = has;
    if (has) await image.decode().catch(() => {});
    drawShape();
  }

  // One loop for each of the two: asks, shows what is new, and asks again while somebody looks.
  function follow(pathNow, everyMs, show) {
    let etag = "", asked = "";
    const round = async () => {
      let pause = everyMs;
      try {
        const path = pathNow();
        if (path !== asked) etag = "";
        asked = path;
        const answer = await ask(path, etag);
        if (answer.status !== 304) {
          etag = answer.headers.get("ETag") || "";
          await show(answer, path);
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

  // --- region of interest and crop, drawn on the picture while their fields are open ---
  const SIDES = ["left", "top", "width", "height"], CORNER = ["crop_x", "crop_y"];
  const SHAPE = ["x", "y", "width", "height"];
  const figure = image.parentElement;
  const drawn = document.querySelector("[data-drawn]");
  const rect = document.querySelector("[data-rect]");
  const regionFields = () => place.querySelector("[data-region][open]");
  const cropFields = () => place.querySelector("[data-crop][open]");
  const field = (open, name) => open.querySelector(`[name=${name}]`);
  let from = null; // where the pointer went down: on the region's view, or from the crop's corner

  // [width and height of what is drawn on, left, top, width, height of the rectangle], or null.
  function shapeNow() {
    const crop = cropFields(), region = regionFields();
    if (crop && isWhole) {
      const [width, height, ...whole] = crop.dataset.crop.split(" ").map(Number);
      return [whole, [...CORNER.map((name) => Number(field(crop, name).value)), width, height]];
    }
    const view = [image.naturalWidth, image.naturalHeight];
    if (!region || isWhole || !view[0]) return null;
    return [view, SIDES.map((side, at) => Number(field(region, side).value) / 100 * view[at % 2])];
  }

  function drawShape() {
    const shape = shapeNow();
    figure.classList.toggle("is-drawn", Boolean(shape));
    drawn.toggleAttribute("hidden", !shape);
    if (!shape) return;
    drawn.setAttribute("viewBox", `0 0 ${shape[0][0]} ${shape[0][1]}`);
    SHAPE.forEach((name, at) => rect.setAttribute(name, String(shape[1][at])));
  }

  function write(shares) {
    const open = regionFields();
    SIDES.forEach((side, at) => { field(open, side).value = (100 * shares[at]).toFixed(1); });
    field(open, "region_set").value = "1";
    drawShape();
  }

  function placeCrop(corner) {
    const open = cropFields();
    const [whole, shape] = shapeNow();
    CORNER.forEach((name, at) => {
      const most = whole[at] - shape[2 + at];
      field(open, name).value = String(Math.min(most, Math.max(0, Math.round(corner[at]))));
    });
    field(open, "crop_set").value = "1";
    drawShape();
  }

  function pointAt(event) {
    const at = new DOMPoint(event.clientX, event.clientY);
    const point = at.matrixTransform(drawn.getScreenCTM().inverse());
    return [point.x, point.y];
  }

  const shareOf = (point, view) => point.map((one, at) => Math.min(1, Math.max(0, one / view[at])));

  figure.addEventListener("pointerdown", (event) => {
    const shape = shapeNow();
    if (!shape || event.button !== 0) return;
    event.preventDefault();
    figure.setPointerCapture(event.pointerId);
    const point = pointAt(event);
    from = cropFields() ? point.map((one, at) => one - shape[1][at]) : shareOf(point, shape[0]);
  });
  figure.addEventListener("pointermove", (event) => {
    const shape = shapeNow();
    if (!from || !shape) return;
    const point = pointAt(event);
    if (cropFields()) {
      placeCrop(point.map((one, at) => one - from[at]));
      return;
    }
    const to = shareOf(point, shape[0]);
    const low = from.map((one, at) => Math.min(one, to[at]));
    write([...low, ...from.map((one, at) => Math.abs(one - to[at]))]);
  });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
    figure.addEventListener(end, () => { from = null; });
  }
  place.addEventListener("toggle", (event) => {
    const other = event.target.matches("[data-crop]") ? regionFields()
      : event.target.matches("[data-region]") ? cropFields() : null;
    if (event.target.open && other) other.open = false;
    from = null;
    drawShape();
  }, true);
  place.addEventListener("input", (event) => {
    for (const [open, name] of [[regionFields(), "region_set"], [cropFields(), "crop_set"]]) {
      if (open && open.contains(event.target)) field(open, name).value = "1";
    }
    drawShape();
  });
  place.addEventListener("click", (event) => {
    if (event.target.matches("[data-whole]")) write([0, 0, 1, 1]);
  });
  document.addEventListener("replaced", drawShape);

  follow(() => cropFields() ? WHOLE : "/api/v1/live/picture", PICTURE_MS, draw);
  follow(() => place.dataset.now, STATE_MS, async (answer) => replace(await answer.text()));
})();
