// The script of the live page. Every page works without it but for live updates: what it does in place, the links and
// forms do by asking the server. It writes no text into HTML: fragments come escaped from the server.
"use strict";

(() => {
  const one = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const kind = (one(".page")?.classList ?? []).value ?? "";
  const onList = kind.includes("list");
  const onTrace = kind.includes("one-trace");
  const tracePath = location.pathname;
  const rows = one("#rows");

  // Times in the reader's zone ------------------------------------------------------------------------------------

  const two = (number, digits = 2) => String(number).padStart(digits, "0");

  function localTimes(root) {
    for (const element of all("time[datetime]", root)) {
      const moment = new Date(element.dateTime);
      if (Number.isNaN(moment.valueOf())) continue;
      const clock = `${two(moment.getHours())}:${two(moment.getMinutes())}:${two(moment.getSeconds())}`;
      const day = `${moment.getFullYear()}-${two(moment.getMonth() + 1)}-${two(moment.getDate())}`;
      const text = `${clock}.${two(moment.getMilliseconds(), 3)}`;
      element.textContent = element.classList.contains("with-date") ? `${day} ${text}` : text;
    }
  }

  // Fragments -----------------------------------------------------------------------------------------------------

  async function get(url) {
    const answer = await fetch(url, { credentials: "same-origin" });
    if (!answer.ok) throw new Error(`${answer.status}`);
    return answer.text();
  }

  function fragment(html) {
    const template = document.createElement("template");
    template.innerHTML = html;
    localTimes(template.content);
    return template.content;
  }

  const parsed = (html) => new DOMParser().parseFromString(html, "text/html");

  // Live updates --------------------------------------------------------------------------------------------------

  const state = one("#live-state");
  const pauseButton = one("#pause");
  let paused = false;
  let stale = false;
  let source = null;
  let busy = false;
  let nextLook = 0;

  function show(word) {
    if (!state) return;
    state.textContent = word;
    state.dataset.state = word;
  }

  function connect() {
    if (source || document.hidden) return;
    source = new EventSource("/events");
    source.addEventListener("open", () => { show(paused ? "paused" : "live"); changed(); });
    source.addEventListener("change", changed);
    source.addEventListener("error", () => show("reconnecting"));
  }

  function disconnect() {
    source?.close();
    source = null;
  }

  function changed() {
    stale = true;
    if (paused || busy) return;
    busy = true;
    setTimeout(look, Math.max(0, nextLook - Date.now()));
  }

  async function look() {
    const begun = Date.now();
    try {
      if (!paused) {
        stale = false;
        await (onTrace ? lookAtTrace() : swap());
      }
    } catch {
      show("reconnecting");
    }
    busy = false;
    nextLook = Date.now() + Math.max(700, 4 * (Date.now() - begun)); // a slow page asks less often
    if (stale) changed();
  }

  async function swap() {
    const selector = onList ? "#live" : "#content";
    const place = one(selector);
    if (!place || kind.includes("compare")) return;
    const fresh = one(selector, parsed(await get(location.href)));
    if (!fresh || paused || fresh.innerHTML === swap.last) return;
    swap.last = fresh.innerHTML;
    const focused = document.activeElement?.closest?.(selector) ? document.activeElement.getAttribute("href") : null;
    const notices = one(".notice");
    localTimes(fresh);
    place.replaceWith(document.adoptNode(fresh));
    if (focused) all("a", one(selector)).find((link) => link.getAttribute("href") === focused)?.focus();
    notices?.classList.add("seen");
  }

  async function lookAtTrace() {
    const id = one("#trace-id")?.textContent;
    const shown = Number(one("#rows")?.dataset.count ?? NaN);
    const { traces } = JSON.parse(await get(`/api/traces?q=${id}&limit=1`));
    const count = traces[0]?.span_count;
    if (count === undefined) return;
    if (Number.isNaN(shown)) one("#rows").dataset.count = count;
    else if (count > shown && !one("#newer")) {
      const link = document.createElement("a");
      link.id = "newer";
      link.className = "button";
      link.href = location.href;
      link.textContent = "More spans have arrived: show them";
      link.addEventListener("click", (event) => { event.preventDefault(); location.reload(); });
      one(".waterfall .filters").append(link);
    }
  }

  function togglePause() {
    paused = !paused;
    pauseButton.setAttribute("aria-pressed", String(paused));
    pauseButton.textContent = paused ? "Resume" : "Pause";
    show(paused ? "paused" : "live");
    if (!paused && stale) changed();
  }

  // Copying -------------------------------------------------------------------------------------------------------

  async function copy(button) {
    const text = button.dataset.copy;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    const before = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = before; }, 1500);
  }

  // The waterfall: folding, opening, loading ------------------------------------------------------------------------

  const depth = (row) => Number(row.dataset.depth);

  function applyFolds() {
    let below = Infinity;
    for (const row of rows.children) {
      if (!row.classList.contains("row")) continue;
      const hidden = depth(row) > below;
      row.hidden = hidden;
      if (hidden) continue;
      below = one(".grid > .name > a.fold", row)?.getAttribute("aria-expanded") === "false" ? depth(row) : Infinity;
    }
  }

  function fold(toggle) {
    toggle.setAttribute("aria-expanded", String(toggle.getAttribute("aria-expanded") === "false"));
    applyFolds();
  }

  function unfoldTo(row) {
    let wanted = depth(row);
    for (let above = row.previousElementSibling; above && wanted > 0; above = above.previousElementSibling) {
      if (!above.classList.contains("row") || above.classList.contains("folded") || depth(above) >= wanted) continue;
      wanted = depth(above);
      one("a.fold", above)?.setAttribute("aria-expanded", "true");
    }
    applyFolds();
  }

  async function openPanel(row, open) {
    const link = one("a.title", row);
    const panel = one(":scope > .panel", row);
    link.setAttribute("aria-expanded", String(open));
    row.classList.toggle("open", open);
    if (!open) panel?.remove();
    if (!open || panel) return;
    const id = row.id.slice("span-".length);
    const content = fragment(await get(`${tracePath}/panel?span=${encodeURIComponent(id)}`));
    if (!one(":scope > .panel", row)) row.append(content);
  }

  async function toggleRow(row) {
    const open = !row.classList.contains("open");
    history.replaceState(null, "", open ? `#${row.id}` : location.pathname + location.search);
    await openPanel(row, open);
  }

  async function loadRange(row) {
    if (row.dataset.loading) return;
    row.dataset.loading = "yes";
    const { from, to } = row.dataset;
    const link = one("a.title", row);
    const loaded = [...fragment(await get(`${tracePath}/rows?from=${from}&to=${to}`)).children];
    for (const added of loaded) observeGap(added);
    if (row.classList.contains("group")) {
      link.setAttribute("aria-expanded", "true");
      row.after(...loaded);
      row.loaded = loaded;
    } else {
      row.replaceWith(...loaded);
    }
    delete row.dataset.loading;
    applyFolds();
  }

  async function toggleGroup(row) {
    if (row.loaded) {
      for (const added of row.loaded) added.remove();
      row.loaded = null;
      one("a.title", row).setAttribute("aria-expanded", "false");
    } else {
      await loadRange(row);
    }
  }

  // What is too much to be on the page at first is loaded when it comes near the window.
  const near = rows && new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting || entry.target.hidden) continue;
      near.unobserve(entry.target);
      loadRange(entry.target).catch(() => show("reconnecting"));
    }
  }, { rootMargin: "300px" });

  function observeGap(row) {
    if (row.classList.contains("folded") && !row.classList.contains("group")) near.observe(row);
  }

  async function followHash() {
    const id = decodeURIComponent(location.hash.slice(1));
    if (!rows || !id.startsWith("span-")) return;
    let row = document.getElementById(id);
    if (!row) {
      const url = `${tracePath}?span=${encodeURIComponent(id.slice("span-".length))}`;
      const fresh = one("#rows", parsed(await get(url)));
      localTimes(fresh);
      rows.replaceChildren(...fresh.children);
      all(".row", rows).forEach(observeGap);
      row = document.getElementById(id);
    }
    if (!row) return;
    unfoldTo(row);
    await openPanel(row, true);
    all(".row.target", rows).forEach((other) => other.classList.remove("target"));
    row.classList.add("target");
    row.scrollIntoView({ block: "center" });
    one("a.title", row).focus({ preventScroll: true });
  }

  function clickInRows(event) {
    const link = event.target.closest("a");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    const row = link.closest(".row");
    if (!row) return;
    if (link.classList.contains("fold")) fold(link);
    else if (!link.classList.contains("title")) return;
    else if (row.classList.contains("group")) toggleGroup(row);
    else if (row.classList.contains("folded")) loadRange(row);
    else toggleRow(row);
    event.preventDefault();
  }

  // The keyboard --------------------------------------------------------------------------------------------------

  const stops = () => all(onTrace ? "#rows > .row:not([hidden]) a.title" : "#live .trace a.what, #routes a");

  function move(step) {
    const links = stops();
    const place = document.activeElement?.closest?.(".row, .trace, tr");
    const here = place ? links.findIndex((link) => place.contains(link)) : -1;
    const there = links[here < 0 ? (step > 0 ? 0 : links.length - 1) : Math.min(links.length - 1, Math.max(0, here + step))];
    there?.focus();
    there?.scrollIntoView({ block: "nearest" });
  }

  function key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const field = one("#q");
    const typing = event.target.matches("input, select, textarea");
    if (event.key === "Escape" && typing) event.target.blur();
    else if (typing) return;
    else if (event.key === "/" && field) { field.focus(); field.select(); }
    else if (event.key === "j") move(1);
    else if (event.key === "k") move(-1);
    else if (onTrace && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
      const toggle = one("a.fold", document.activeElement?.closest?.(".row") ?? document.createElement("i"));
      if (!toggle || (toggle.getAttribute("aria-expanded") === "true") !== (event.key === "ArrowLeft")) return;
      fold(toggle);
    } else return;
    event.preventDefault();
  }

  // Beginning -----------------------------------------------------------------------------------------------------

  localTimes(document);
  for (const button of all("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", () => copy(button));
  }
  document.addEventListener("keydown", key);
  if (rows) {
    rows.addEventListener("click", clickInRows);
    all(".row", rows).forEach(observeGap);
    addEventListener("hashchange", () => followHash());
    followHash();
  }
  if (pauseButton) {
    pauseButton.hidden = false;
    pauseButton.addEventListener("click", togglePause);
  }
  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
  connect();
})();
