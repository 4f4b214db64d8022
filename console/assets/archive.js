// Brings lines of a file as they are written, stops a search, and ticks all files. Without it the pages do the same by loading them again.
"use strict";

(() => {
  const all = document.getElementById("all");
  if (all) {
    const ticks = () => [...document.querySelectorAll("input[name=file]")];
    all.hidden = false;
    all.addEventListener("change", () => ticks().forEach((tick) => { tick.checked = all.checked; }));
    document.addEventListener("change", () => { all.checked = ticks().every((tick) => tick.checked); });
  }

  // The page is still loading while it is searched: to stop loading it is to stop searching.
  const halt = document.getElementById("stop");
  if (halt) {
    halt.hidden = false;
    halt.addEventListener("click", () => {
      window.stop();
      halt.closest(".running").hidden = true;
      document.getElementById("stopped").hidden = false;
    });
  }

  const follow = document.getElementById("follow");
  if (!follow || !window.EventSource) return;
  const lines = document.getElementById("lines");
  const ended = document.getElementById("ended");
  const away = document.getElementById("away");
  const announcement = document.getElementById("announcement");
  const linesMax = 5000;
  let source = null, count = 0;

  function stop() {
    source?.close();
    source = null;
    follow.setAttribute("aria-pressed", "false");
    follow.textContent = "Follow";
    away.hidden = true;
  }

  function show(html) {
    const isAtEnd = innerHeight + scrollY >= document.documentElement.scrollHeight - 200;
    // Half a line comes again, whole.
    lines.querySelectorAll(".unended").forEach((line) => line.remove());
    const before = lines.childElementCount;
    // The server escapes whatever comes from elsewhere; it sends the same pieces in the page itself.
    lines.insertAdjacentHTML("beforeend", html);
    count += lines.childElementCount - before;
    while (lines.childElementCount > linesMax) lines.firstElementChild.remove();
    announcement.textContent = `${count} new lines since this page was loaded`;
    if (isAtEnd) scrollTo(0, document.documentElement.scrollHeight);
  }

  function start() {
    source = new EventSource(follow.dataset.events);
    follow.setAttribute("aria-pressed", "true");
    follow.textContent = "Stop following";
    announcement.textContent = "New lines appear by themselves.";
    source.addEventListener("lines", (event) => {
      away.hidden = true;
      show(event.data);
    });
    source.addEventListener("ended", (event) => {
      stop();
      follow.hidden = true;
      ended.textContent = event.data;
      ended.hidden = false;
    });
    source.addEventListener("open", () => { away.hidden = true; });
    source.addEventListener("error", () => { away.hidden = false; });
  }

  follow.hidden = false;
  follow.addEventListener("click", () => { if (source) stop(); else start(); });
})();
