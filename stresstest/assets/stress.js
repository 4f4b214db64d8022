// Brings new numbers of a run into its page. Without it the page loads itself again every few seconds.
"use strict";

(() => {
  const live = document.getElementById("live");
  if (!live || !window.EventSource) return;
  const away = document.getElementById("away");
  const announcement = document.getElementById("announcement");
  const source = new EventSource(live.dataset.events);
  let phase = live.firstElementChild?.dataset.phase;

  source.addEventListener("live", (event) => {
    away.hidden = true;
    // The server escapes whatever comes from elsewhere; it sends the same piece in the page itself.
    live.innerHTML = event.data;
    const now = live.firstElementChild?.dataset.phase;
    if (now !== phase) announcement.textContent = now;
    phase = now;
  });

  source.addEventListener("over", () => {
    source.close();
    location.reload();
  });

  source.addEventListener("error", () => {
    away.hidden = false;
    // A browser gives up where the answer is no stream: the session may be over, which a reload will show.
    if (source.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 3000);
  });
})();
