// The page's own script. Nothing is loaded from elsewhere, nothing runs that is not in this file.
"use strict";

(() => {
  const $ = (selector, inside = document) => inside.querySelector(selector);

  // --- the menu closes by Escape and by a click elsewhere ---
  const menu = $("[data-menu]");
  if (menu) {
    document.addEventListener("click", (event) => {
      if (menu.open && !menu.contains(event.target)) menu.open = false;
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && menu.open) {
        menu.open = false;
        $("summary", menu).focus();
      }
    });
  }

  // --- times are shown in the reader's own zone and language ---
  const language = document.documentElement.lang;
  for (const time of document.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (!Number.isNaN(moment.getTime())) {
      time.textContent = moment.toLocaleString(language, { dateStyle: "short", timeStyle: "medium" });
    }
  }

  // --- the live view ---
  const live = $("[data-live]");
  if (live) watch(live);

  function watch(view) {
    const EVERY_MS = 200; // five pictures a second, and none while nobody looks
    const SLOW_MS = 1000; // after a failure
    const LOST_MS = 3000; // without an answer: what is shown may be old then
    const ANSWER_MS = 2500;
    const AT_WORK = ["online", "degraded", "fault"];
    const HAND_MS = 600; // from seeing to touching
    const words = JSON.parse($("#words").textContent);
    const number = new Intl.NumberFormat(language, { maximumSignificantDigits: 4 });
    const whole = new Intl.NumberFormat(language);
    let state = null;
    let etag = "";
    let timer = 0;
    let isAsking = false;
    let answeredAt = Date.now();
    let shownUrl = "";
    let newestAt = 0; // when the last verdict came, by this browser's clock

    const put = (name, text) => {
      const place = $(`[data-${name}]`, view);
      if (place && place.textContent !== text) place.textContent = text;
    };
    // `commands` in a sentence
    const write = (name, text) => {
      const pieces = text.split("`").map((piece, number) => {
        if (number % 2 === 0) return piece;
        const code = document.createElement("code");
        code.textContent = piece;
        return code;
      });
      $(`[data-${name}]`, view).replaceChildren(...pieces);
    };
    const show = (name, is) => {
      const place = $(`[data-${name}]`, view);
      if (place) place.hidden = !is;
    };

    async function ask(path, headers) {
      const answer = await fetch(path, {
        headers: headers || {},
        cache: "no-store",
        credentials: "same-origin",
        signal: AbortSignal.timeout ? AbortSignal.timeout(ANSWER_MS) : undefined,
      });
      if (answer.status === 401) {
        location.reload(); // the session has ended: the server asks for the login
        throw new Error("logged out");
      }
      if (answer.status >= 400) throw new Error(String(answer.status));
      return answer;
    }

    async function look() {
      const answer = await ask("/api/v1/live/picture", etag ? { "If-None-Match": etag } : {});
      const version = answer.headers.get("X-Live-Version");
      if (answer.status === 200) {
        etag = answer.headers.get("ETag") || "";
        drawPicture(await answer.blob());
      } else if (answer.status === 204) {
        etag = "";
        drawPicture(null);
      }
      if (!state || state.version !== version) {
        const told = await ask("/api/v1/live", { Accept: "application/json" });
        draw(await told.json());
      }
    }

    function drawPicture(blob) {
      const image = $("[data-picture]", view);
      const before = shownUrl;
      shownUrl = blob ? URL.createObjectURL(blob) : "";
      if (blob) image.src = shownUrl;
      image.hidden = !blob;
      show("no-picture", !blob);
      if (before) setTimeout(() => URL.revokeObjectURL(before), 1000);
    }

    // What is shown large: the last verdict, but only while the station judges.
    function shown(now) {
      if (!AT_WORK.includes(now.station)) return now.station;
      if (!now.ready) return now.station === "online" ? "not_ready" : now.station;
      return now.last ? String(now.last.code) : "online";
    }

    function draw(now) {
      const before = state;
      state = now;
      const what = shown(now);
      const isVerdict = ["1", "2", "3"].includes(what);
      const isNew = !before || !before.last || !now.last || before.last.seq !== now.last.seq;
      if (isNew && now.last) newestAt = arrival(now.last);
      setWord(what, isVerdict ? words.code[what] : words.station[`${what}.word`]);
      if (isVerdict) {
        put("part", now.last.part);
        put("meaning", words.meaning[what]);
        if (isNew && before) flash();
      }
      if (isNew && before) holdLabels();
      drawNotice(now, what);
      drawReason(now, isVerdict);
      drawEvidence(isVerdict ? now.last : null);
      drawCounters(now);
      put("product", now.product);
      put("engine", [now.bundle, now.engine, now.precision].filter(Boolean).join(" · "));
      tick();
      view.dispatchEvent(new CustomEvent("live", { detail: now }));
    }

    function setWord(what, text) {
      view.dataset.show = what;
      put("word", text);
      const { classList } = $("[data-word]", view);
      classList.toggle("is-mid", text.length > 3 && text.length < 9);
      classList.toggle("is-long", text.length > 8);
    }

    function drawNotice(now, what) {
      const isWrong = !["1", "2", "3", "online"].includes(what) || now.station === "degraded";
      const reason = words.reason[`${now.reason}.name`] ? `reason ${now.reason}` : `station ${what}`;
      const [table, key] = reason.split(" ");
      show("notice", isWrong);
      $("[data-notice]", view).classList.toggle("is-fault", ["fault", "stopped", "silent", "lost"].includes(what));
      if (!isWrong) return;
      put("notice-name", `${words[table][`${key}.name`]}.`);
      write("notice-do", words[table][`${key}.do`]);
      write("notice-why", now.why || "");
    }

    function drawCounters(now) {
      const counts = now.shift || now;
      const isTold = AT_WORK.includes(now.station);
      for (const name of ["ok", "ng", "unknown"]) {
        $(`[data-count="${name}"]`, view).textContent = isTold ? whole.format(counts[name]) : "–";
      }
      // the station's own time of day, whatever the zone of this browser
      const heading = now.shift
        ? words.live.shift.replace("{time}", now.shift.since.slice(11, 16))
        : words.live.counters;
      put("counters", heading);
    }

    function drawReason(now, isVerdict) {
      show("reason", isVerdict);
      if (!isVerdict) return;
      const last = now.last;
      put("reason-name", words.reason[`${last.reason}.name`] || last.reason);
      write("reason-do", words.reason[`${last.reason}.do`] || "");
      drawLabel(last.seq);
      show("todo", last.code !== 1);
      show("reason-do", last.code !== 1);
      const isScored = last.score !== null && last.threshold !== null && last.threshold > 0;
      show("meter", isScored);
      if (!isScored) return;
      const share = Math.max(0, Math.min(2, last.score / last.threshold)); // the limit is in the middle
      $("[data-level]", view).setAttribute("width", String(50 * share));
      put("score", number.format(last.score));
      put("threshold", number.format(last.threshold));
    }

    // What somebody says of the last part changes no verdict; it is kept and counted.
    let held = 0;
    const said = new Map(); // by the number of the part, in this browser alone

    function drawLabel(seq) {
      for (const button of view.querySelectorAll("[data-say]")) {
        button.setAttribute("aria-pressed", String(said.get(seq) === button.dataset.say));
      }
      const link = $("[data-show-part]", view);
      if (link) link.href = `/history/${seq}`;
    }

    // A part that has just come is not the one that somebody is about to touch.
    function holdLabels() {
      const buttons = view.querySelectorAll("[data-say]");
      show("say-problem", false);
      for (const button of buttons) button.disabled = true;
      clearTimeout(held);
      held = setTimeout(() => { for (const button of buttons) button.disabled = false; }, HAND_MS);
    }

    async function say(seq, what) {
      const answer = await fetch(`/api/v1/parts/${seq}/label`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ said: what }),
      });
      if (!answer.ok) throw new Error(String(answer.status));
      said.set(seq, what);
      if (said.size > 100) said.delete(said.keys().next().value);
    }

    for (const button of view.querySelectorAll("[data-say]")) {
      button.addEventListener("click", async () => {
        if (!state || !state.last) return;
        const seq = state.last.seq; // the part that was shown at the click
        const what = said.get(seq) === button.dataset.say ? "none" : button.dataset.say;
        const failed = await say(seq, what).then(() => false, () => true);
        show("say-problem", failed);
        if (state && state.last) drawLabel(state.last.seq);
      });
    }

    // A rejected part has left the view when people look: its kept picture takes the place of the
    // camera's, which stays in a corner. The station writes it a moment after the verdict.
    let evidenceOf = 0;

    function drawEvidence(last) {
      const seq = last && last.code !== 1 ? last.seq : 0;
      if (seq === evidenceOf || !$("[data-evidence]", view)) return;
      evidenceOf = seq;
      showEvidence("");
      if (seq) tryEvidence(seq, [300, 1000, 3000]);
    }

    function tryEvidence(seq, [pause, ...later]) {
      if (pause === undefined) return; // none was kept
      setTimeout(() => {
        if (evidenceOf !== seq) return;
        const image = new Image();
        image.onload = () => { if (evidenceOf === seq) showEvidence(image.src); };
        image.onerror = () => tryEvidence(seq, later);
        image.src = `/api/v1/parts/${seq}/pictures/overlay.png`;
      }, pause);
    }

    function showEvidence(source) {
      const image = $("[data-evidence]", view);
      if (source) image.src = source;
      image.hidden = !source;
      $(".picture", view).classList.toggle("has-evidence", Boolean(source));
    }

    function flash() {
      const verdict = $(".verdict", view);
      verdict.classList.remove("is-new");
      void verdict.offsetWidth; // begins the animation anew
      verdict.classList.add("is-new");
    }

    // The station's clock may differ from this one: an age is believed only within a day.
    function arrival(last) {
      const judged = last.judged_at ? Date.parse(last.judged_at) : NaN;
      const age = Date.now() - judged;
      return age > 0 && age < 86400000 ? judged : Date.now();
    }

    function tick() {
      if (!newestAt) return;
      const seconds = Math.max(0, Math.round((Date.now() - newestAt) / 1000));
      const told = seconds < 60 ? [seconds, "seconds"]
        : seconds < 3600 ? [Math.floor(seconds / 60), "minutes"]
        : [Math.floor(seconds / 3600), "hours"];
      put("ago", words.live.ago.replace("{time}", `${told[0]} ${words.live[told[1]]}`));
    }

    function lose() {
      state = null;
      etag = "";
      setWord("lost", words.station["lost.word"]);
      drawNotice({ station: "lost", reason: "", why: "" }, "lost");
      drawReason({}, false);
      drawEvidence(null);
      $(".picture", view).classList.add("is-old");
    }

    async function round() {
      if (isAsking) return;
      isAsking = true;
      clearTimeout(timer);
      const begun = performance.now();
      let pause = SLOW_MS;
      try {
        await look();
        answeredAt = Date.now();
        $(".picture", view).classList.remove("is-old");
        pause = Math.max(20, EVERY_MS - (performance.now() - begun));
      } catch (error) {
        if (Date.now() - answeredAt > LOST_MS) lose();
      }
      isAsking = false;
      if (!document.hidden) timer = setTimeout(round, pause);
    }

    document.addEventListener("visibilitychange", () => { if (!document.hidden) round(); });
    setInterval(() => { if (!document.hidden) tick(); }, 1000);
    round();
  }
})();
