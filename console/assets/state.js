// Brings how the pair is now into the page. Without it the page loads itself again every few seconds.
"use strict";

(() => {
  const live = document.getElementById("live");
  if (!live || !window.EventSource) return;
  const away = document.getElementById("away");
  const announcement = document.getElementById("announcement");
  const source = new EventSource(live.dataset.events);
  const verdict = () => live.querySelector("h1")?.textContent;
  let said = verdict();
  let waiting = null;

  // Nobody loses a click, a text that is being copied, or something that is being typed.
  const isInUse = () => {
    const focused = document.activeElement;
    if (live.querySelector(":active")) return true;
    if (live.contains(focused) && focused.matches("input:not([type=hidden]), select, textarea")) return true;
    const selection = document.getSelection();
    return selection && !selection.isCollapsed && live.contains(selection.anchorNode);
  };

  const show = (html) => {
    if (isInUse()) {
      waiting = html;
      return;
    }
    waiting = null;
    const focused = live.contains(document.activeElement) ? document.activeElement.id : "";
    const scrolled = [...live.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
    // The server escapes whatever comes from elsewhere; it sends the same piece in the page itself.
    live.innerHTML = html;
    live.querySelectorAll(".scroll").forEach((box, at) => { box.scrollLeft = scrolled[at] ?? 0; });
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    // "but for the last 3 changes" comes and goes, and is no news.
    const now = verdict();
    if (now?.split(", but")[0] !== said?.split(", but")[0]) announcement.textContent = now;
    said = now;
  };

  source.addEventListener("live", (event) => {
    away.hidden = true;
    show(event.data);
  });

  document.addEventListener("selectionchange", () => {
    if (waiting !== null && !isInUse()) show(waiting);
  });

  source.addEventListener("error", () => {
    away.hidden = false;
    // A browser gives up where the answer is no stream: the session may be over, which a reload will show.
    if (source.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 3000);
  });
})();
