// Starts the page: tables first (they are light), then figures, then what reacts to the reader.

sinceTables();
neighbourTable();
routingTable();
taskTable();
curveTables();
startCards();
startDownloads();
unpackPlotly()
  .then(() => Promise.all([startMap(), startHeat()]), withoutFigures)
  .then(() => {
    document.documentElement.dataset.ready = "true";
  })
  .then(startCurves);

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawFigures);

let width = innerWidth;
let waiting = 0;
addEventListener("resize", () => {
  // A phone's address bar changes the height all the time; only the width matters here.
  if (innerWidth === width) return;
  width = innerWidth;
  clearTimeout(waiting);
  waiting = setTimeout(redrawFigures, 120);
});
addEventListener("scroll", hideTip, { passive: true });
addEventListener("keydown", (event) => {
  if (event.key === "Escape") hideTip();
});

const links = new Map([...document.querySelectorAll(".contents a")].map((link) => [link.hash.slice(1), link]));
const seen = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }
  },
  { rootMargin: "-20% 0px -70% 0px" },
);
for (const id of links.keys()) seen.observe(document.getElementById(id));
