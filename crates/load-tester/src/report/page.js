// A common cursor over all charts, and zoom. The page reads well without it.
(() => {
  "use strict";
  document.documentElement.classList.add("scripted");
  const $ = (id) => document.getElementById(id);
  const result = $("result"), link = $("download");
  if (result && link) {
    link.hidden = false;
    link.addEventListener("click", () => {
      const url = URL.createObjectURL(new Blob([result.textContent], { type: "application/json" }));
      link.href = url;
      setTimeout(() => { URL.revokeObjectURL(url); link.removeAttribute("href"); }, 10000);
    });
    link.href = "#";
  }

  const timeline = $("timeline");
  if (!timeline) return;
  const data = JSON.parse($("chart-data").textContent);
  const length = data.to - data.from;
  const charts = data.charts.map((chart) => {
    const figure = $(chart.id);
    return {
      ...chart,
      plot: figure.querySelector(".plot"),
      svg: figure.querySelector("svg"),
      values: [...figure.querySelectorAll("[data-series]")],
    };
  });
  const idle = timeline.querySelector("[data-idle]"), reset = $("reset");
  if (matchMedia("(hover: none)").matches) idle.textContent = "Touch a chart to read all of them at that moment.";
  const idleText = idle.textContent;
  let zoom = [0, 1], at = null;

  const figureText = (v) => {
    if (v === null || v === undefined) return "–";
    if (Number.isInteger(v)) return v.toLocaleString("en-US");
    const size = Math.abs(v);
    if (size >= 999.5) return Math.round(v).toLocaleString("en-US");
    return v.toFixed(size === 0 || size >= 99.95 ? 0 : size >= 9.995 ? 1 : size >= 0.9995 ? 2 : 3);
  };
  const clock = (s) => {
    if (s < 120) return (Math.round(s * 10) / 10).toFixed(1) + " s";
    const two = (n) => String(n).padStart(2, "0"), w = Math.floor(s);
    return w < 3600 ? Math.floor(w / 60) + ":" + two(w % 60)
      : Math.floor(w / 3600) + ":" + two(Math.floor(w % 3600 / 60)) + ":" + two(w % 60);
  };
  // Last point that starts at or before the instant.
  const index = (xs, s) => {
    let low = 0, high = xs.length;
    while (low < high) { const middle = (low + high) >> 1; if (xs[middle] <= s) low = middle + 1; else high = middle; }
    return low - 1;
  };

  const read = (share) => {
    at = share;
    timeline.classList.toggle("reading", share !== null);
    if (share === null) {
      idle.textContent = idleText;
      for (const chart of charts) for (const cell of chart.values) cell.textContent = cell.dataset.overall;
      return;
    }
    const second = data.from + share * length;
    timeline.style.setProperty("--c", share);
    idle.textContent = "at " + clock(second);
    for (const chart of charts) {
      const i = index(chart.x, second);
      for (const cell of chart.values) cell.textContent = figureText(chart.s[cell.dataset.series]?.[i]);
    }
  };

  const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
  const show = (from, to) => {
    zoom = [from, to];
    timeline.style.setProperty("--z0", from);
    timeline.style.setProperty("--z1", to);
    for (const chart of charts) chart.svg.setAttribute("viewBox", `${from * 1000} 0 ${(to - from) * 1000} 100`);
    reset.hidden = from === 0 && to === 1;
    const span = (to - from) * length;
    const step = steps.find((s) => span / s <= 8) ?? Math.ceil(span / 8 / 3600) * 3600;
    const ticks = [];
    for (let s = Math.ceil(from * length / step - 1e-9) * step; s <= (from + (to - from) * 0.97) * length; s += step) {
      const tick = document.createElement("span");
      tick.style.setProperty("--t", s / length);
      tick.textContent = step < 1 ? s.toFixed(1) + " s" : clock(s).replace(".0 s", " s");
      if (s / length > from + (to - from) * 0.02) tick.style.transform = "translateX(-50%)";
      ticks.push(tick);
    }
    for (const row of timeline.querySelectorAll(".ticks")) row.replaceChildren(...ticks.map((t) => t.cloneNode(true)));
  };

  const shareAt = (plot, event) => {
    const box = plot.getBoundingClientRect();
    const x = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    return zoom[0] + x * (zoom[1] - zoom[0]);
  };
  let drag = null;
  for (const { plot } of charts) {
    plot.addEventListener("pointermove", (event) => {
      const share = shareAt(plot, event);
      read(share);
      if (drag) {
        const part = (s) => (s - zoom[0]) / (zoom[1] - zoom[0]) * 100;
        const [a, b] = [Math.min(drag.from, share), Math.max(drag.from, share)];
        drag.box.style.left = part(a) + "%";
        drag.box.style.width = part(b) - part(a) + "%";
      }
    });
    plot.addEventListener("pointerdown", (event) => {
      read(shareAt(plot, event));
      // A finger scrolls the page; only a mouse or pen draws a stretch to zoom into.
      if (event.pointerType === "touch" || event.button !== 0) return;
      const box = document.createElement("div");
      box.className = "selection";
      plot.append(box);
      plot.setPointerCapture(event.pointerId);
      drag = { from: shareAt(plot, event), box };
      event.preventDefault();
      timeline.focus({ preventScroll: true });
    });
    const end = (event) => {
      if (!drag) return;
      const to = shareAt(plot, event), [a, b] = [Math.min(drag.from, to), Math.max(drag.from, to)];
      drag.box.remove();
      drag = null;
      if (event.type === "pointerup" && (b - a) * length > 0.5 && b - a > (zoom[1] - zoom[0]) * 0.01) show(a, b);
    };
    plot.addEventListener("pointerup", end);
    plot.addEventListener("pointercancel", end);
    plot.addEventListener("pointerleave", (event) => { if (!drag && event.pointerType !== "touch") read(null); });
    plot.addEventListener("dblclick", () => show(0, 1));
  }
  reset.addEventListener("click", () => show(0, 1));
  timeline.tabIndex = 0;
  timeline.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { read(null); show(0, 1); return; }
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!way) return;
    event.preventDefault();
    const step = (zoom[1] - zoom[0]) / (event.shiftKey ? 10 : 60);
    read(Math.min(zoom[1], Math.max(zoom[0], (at ?? zoom[0]) + way * step)));
  });
})();
