// A common cursor over all charts, zoom, and tables sorted by a column. The page reads well without it.
(() => {
  "use strict";
  document.documentElement.classList.add("scripted");
  const $ = (id) => document.getElementById(id);

  // What the reader chose; it outlives the page's parts when a live page swaps them. Zoom is in seconds.
  const state = { zoom: null, sorted: {} };

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

  const download = () => {
    const result = $("result"), link = $("download");
    if (!result || !link) return;
    link.hidden = false;
    link.addEventListener("click", () => {
      const url = URL.createObjectURL(new Blob([result.textContent], { type: "application/json" }));
      link.href = url;
      setTimeout(() => { URL.revokeObjectURL(url); link.removeAttribute("href"); }, 10000);
    });
    link.href = "#";
  };

  // ------------------------------------------------------------------------------------------------ sorted tables
  const sortBy = (table, column, down) => {
    const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
    const key = (row) => {
      const cell = row.cells[column];
      return cell.dataset.sort === undefined ? cell.textContent.trim() : Number(cell.dataset.sort);
    };
    const compare = (a, b) => {
      const x = key(a), y = key(b);
      if (typeof x === "number" && typeof y === "number") return x - y;
      // What has no figure comes last either way.
      if (typeof x !== typeof y) return (typeof x === "number" ? -1 : 1) * (down ? -1 : 1);
      return x.localeCompare(y, "en", { numeric: true });
    };
    body.append(...[...body.rows].sort((a, b) => (down ? -1 : 1) * compare(a, b)));
    heads.forEach((head, i) => {
      if (i === column) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    state.sorted[table.id] = [column, down];
  };
  const sortable = () => {
    for (const table of document.querySelectorAll("table.data[id]")) {
      if (table.tBodies[0].rows.length < 2) continue;
      [...table.tHead.rows[0].cells].forEach((head, column) => {
        if (!("sortable" in head.dataset)) return;
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = head.textContent;
        head.replaceChildren(button);
        button.addEventListener("click", () => {
          const now = head.getAttribute("aria-sort");
          sortBy(table, column, now ? now === "ascending" : head.classList.contains("n"));
        });
      });
      if (state.sorted[table.id]) sortBy(table, ...state.sorted[table.id]);
    }
  };

  // ---------------------------------------------------------------------------------------------- cursor and zoom
  let charts = [], cursors = [], data = null, length = 1, zoom = [0, 1], at = null, idleText = "", drag = null;
  const place = (share) => (share - zoom[0]) / (zoom[1] - zoom[0]) * 100;

  const read = (share) => {
    at = share;
    const page = $("page"), idle = $("idle");
    page.classList.toggle("reading", share !== null);
    if (share === null) {
      idle.textContent = idleText;
      for (const chart of charts) for (const cell of chart.values) cell.textContent = cell.dataset.overall;
      return;
    }
    const second = data.from + share * length;
    idle.textContent = "at " + clock(second);
    for (const cursor of cursors) cursor.style.left = place(share) + "%";
    for (const chart of charts) {
      const i = index(chart.x, second);
      for (const cell of chart.values) cell.textContent = figureText(chart.s[cell.dataset.series]?.[i]);
    }
  };

  const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
  const show = (from, to) => {
    zoom = [from, to];
    const page = $("page"), whole = from === 0 && to === 1;
    state.zoom = whole ? null : [from * length, to * length];
    page.style.setProperty("--z0", from);
    page.style.setProperty("--z1", to);
    for (const chart of charts) chart.svg.setAttribute("viewBox", `${from * 1000} 0 ${(to - from) * 1000} 100`);
    $("reset").hidden = whole;
    const span = (to - from) * length;
    const step = steps.find((s) => span / s <= 6) ?? Math.ceil(span / 6 / 3600) * 3600;
    const ticks = [];
    for (let s = Math.ceil(from * length / step - 1e-9) * step; s <= (from + (to - from) * 0.97) * length; s += step) {
      const tick = document.createElement("span");
      tick.style.setProperty("--t", s / length);
      tick.textContent = step < 1 ? s.toFixed(1) + " s" : clock(s).replace(".0 s", " s");
      if (s / length > from + (to - from) * 0.02) tick.style.transform = "translateX(-50%)";
      ticks.push(tick);
    }
    for (const row of document.querySelectorAll(".ticks")) row.replaceChildren(...ticks.map((t) => t.cloneNode(true)));
    if (at !== null) read(at);
  };

  const shareAt = (plot, event) => {
    const box = plot.getBoundingClientRect();
    const x = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    return zoom[0] + x * (zoom[1] - zoom[0]);
  };

  const listen = (plot) => {
    plot.addEventListener("pointermove", (event) => {
      const share = shareAt(plot, event);
      read(share);
      if (drag) {
        const [a, b] = [Math.min(drag.from, share), Math.max(drag.from, share)];
        drag.box.style.left = place(a) + "%";
        drag.box.style.width = place(b) - place(a) + "%";
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
      $("page").focus({ preventScroll: true });
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
  };

  const timeline = () => {
    const page = $("page"), idle = $("idle");
    const second = at === null ? null : data.from + at * length;
    data = JSON.parse($("chart-data").textContent);
    length = data.to - data.from;
    if (matchMedia("(hover: none)").matches) idle.textContent = "Touch a chart to read them all.";
    idleText = idle.textContent;
    charts = data.charts.map((chart) => {
      const figure = $(chart.id);
      return {
        ...chart,
        plot: figure.querySelector(".plot"),
        svg: figure.querySelector("svg"),
        values: [...figure.querySelectorAll("[data-series]")],
      };
    });
    cursors = [...document.querySelectorAll(".timed .cursor, .strip .cursor")];
    for (const { plot } of charts) listen(plot);
    $("reset").addEventListener("click", () => show(0, 1));
    page.tabIndex = -1;
    page.addEventListener("keydown", (event) => {
      if (event.target.closest("button, summary, a")) return;
      if (event.key === "Escape") { read(null); show(0, 1); return; }
      const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!way || at === null) return;
      event.preventDefault();
      const step = (zoom[1] - zoom[0]) / (event.shiftKey ? 10 : 60);
      read(Math.min(zoom[1], Math.max(zoom[0], at + way * step)));
    });
    if (state.zoom) show(Math.min(0.99, state.zoom[0] / length), Math.min(1, state.zoom[1] / length));
    else zoom = [0, 1];
    at = second === null ? null : Math.min(1, (second - data.from) / length);
    if (at !== null) read(at);
  };

  const start = () => {
    download();
    sortable();
    timeline();
  };
  // For the script of a live page.
  window.drumfire = { start, busy: () => drag !== null };
  start();
})();
