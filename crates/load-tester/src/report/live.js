// The page of a run that goes on: asks for its successor every second and swaps it in, keeping what the reader chose.
(() => {
  "use strict";
  let seen = null;
  const page = () => document.getElementById("page");

  const swap = (text) => {
    const next = new DOMParser().parseFromString(text, "text/html");
    const open = [...document.querySelectorAll("details[open]")].map((d) => d.id);
    const scrolled = [...document.querySelectorAll(".scroll, nav")].map((e) => e.scrollLeft);
    const [x, y] = [window.scrollX, window.scrollY];
    document.title = next.title;
    page().replaceWith(document.adoptNode(next.getElementById("page")));
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    document.querySelectorAll(".scroll, nav").forEach((e, i) => { e.scrollLeft = scrolled[i] ?? 0; });
    window.drumfire.start();
    window.scrollTo(x, y);
  };

  const ask = async () => {
    let wait = 1000;
    try {
      const answer = await fetch("/", { cache: "no-store", headers: seen ? { "if-none-match": seen } : {} });
      if (answer.status === 200) {
        const text = await answer.text();
        // Not under the hand that draws or the eye that marks text.
        if (!window.drumfire.busy() && getSelection().isCollapsed) {
          seen = answer.headers.get("etag");
          swap(text);
        }
      }
    } catch {
      page().dataset.live = page().dataset.live === "running" ? "lost" : page().dataset.live;
      wait = 3000;
    }
    if (page().dataset.live !== "over") setTimeout(ask, wait);
  };
  if (page().dataset.live !== "over") setTimeout(ask, 1000);
})();
