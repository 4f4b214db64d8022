// Draws the charts, and brings new records into their table. Without it the tables are there, and a page shows what was when it was loaded.
"use strict";

(() => {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function dressed(figure, element) {
    const names = element.dataset.colours.split(" ");
    const ink = colour("--ink"), muted = colour("--muted"), line = colour("--line"), surface = colour("--surface");
    figure.data.forEach((trace, at) => {
      const own = colour(names[at % names.length]);
      trace.marker = { ...trace.marker, color: trace.marker?.color ?? own };
      // A number for each bar: the more, the stronger the colour.
      if (Array.isArray(trace.marker.color)) trace.marker.colorscale = [[0, line], [1, colour(names[0])]];
    });
    const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, tickfont: { color: muted } };
    for (const name of ["xaxis", "yaxis"]) figure.layout[name] = { ...figure.layout[name], ...axis };
    const font = { family: getComputedStyle(document.body).fontFamily, color: ink, size: 13 };
    Object.assign(figure.layout, {
      font,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      hoverlabel: { bgcolor: surface, bordercolor: line, font: { ...font, color: ink } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: muted, activecolor: ink },
    });
    return figure;
  }

  function draw() {
    document.querySelectorAll(".plot").forEach((element) => {
      const figure = dressed(JSON.parse(element.dataset.figure), element);
      Plotly.react(element, figure.data, figure.layout, figure.config);
    });
  }

  if (window.Plotly && document.querySelector(".plot")) {
    draw();
    document.querySelectorAll(".drawn").forEach((hint) => { hint.hidden = false; });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  }

  const live = document.getElementById("live");
  if (!live || !window.EventSource) return;
  const rows = document.getElementById("rows");
  const button = document.getElementById("pause");
  const away = document.getElementById("away");
  const announcement = document.getElementById("announcement");
  const rowsMax = 300;
  let isPaused = false, waiting = [], count = 0;

  function put(html) {
    // The server escapes whatever comes from elsewhere; it sends the same pieces in the page itself.
    rows.insertAdjacentHTML("afterbegin", html);
    while (rows.rows.length > rowsMax) rows.deleteRow(-1);
  }

  live.hidden = false;
  button.addEventListener("click", () => {
    isPaused = !isPaused;
    button.setAttribute("aria-pressed", String(isPaused));
    button.textContent = isPaused ? "Go on" : "Pause";
    if (!isPaused) {
      waiting.forEach(put);
      waiting = [];
    }
  });

  const source = new EventSource(live.dataset.events);
  source.addEventListener("records", (event) => {
    away.hidden = true;
    const [number, ...html] = event.data.split("\n");
    count += Number(number);
    if (isPaused) waiting = [...waiting, html.join("\n")].slice(-rowsMax);
    else put(html.join("\n"));
    announcement.textContent = `${count} new since this page was loaded${isPaused ? ", paused" : ""}`;
  });
  source.addEventListener("open", () => { away.hidden = true; });
  source.addEventListener("error", () => { away.hidden = false; });
})();
