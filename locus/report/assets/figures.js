// The two Plotly figures: colours looked up in the style sheet, details in the page's own tooltip.

const specs = read("figures");
const CONFIG = { displayModeBar: false, responsive: false, scrollZoom: false, showTips: false, doubleClick: "reset" };
const coarse = matchMedia("(pointer: coarse)").matches;
const heat = content.heat;

// The drawing library travels deflated. It runs as a script element of its own, which the page's
// policy allows by the hash of exactly this text.
async function unpackPlotly() {
  const packed = document.getElementById("plotly");
  const source = await inflated(packed.textContent);
  const script = document.createElement("script");
  script.textContent = source;
  document.head.append(script);
  packed.remove();
  if (!window.Plotly) throw new Error("the drawing library did not start");
}

// A browser from before 2023 can't unpack it: the tables hold the same, and say so where figures would be.
function withoutFigures() {
  for (const figure of document.querySelectorAll("figure")) {
    figure.replaceChildren(el("p", { class: "cap" }, "This browser is too old to draw figures. The tables on this page hold the same models and pairs."));
  }
}

// Replace the names of custom properties by their values, but only where a colour or a font belongs:
// a model may well be called "--ink".
function painted(value, key = "") {
  if (Array.isArray(value)) return value.map((item) => painted(item, key));
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, painted(item, name)]));
  }
  if (typeof value === "string" && value.startsWith("--") && /color|family/i.test(key)) {
    return getComputedStyle(document.documentElement).getPropertyValue(value).trim();
  }
  return value;
}

const pen = document.createElement("canvas").getContext("2d");
const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;" };

// A model's own name as a label. Plotly reads a small dialect of HTML, so that a name could become a
// link; and control characters could turn the text of a whole axis around.
function plotText(index, length) {
  const id = models.id[index];
  const letters = [...(id.slice(id.lastIndexOf("/") + 1) || id)];
  const cut = letters.length > length ? `${letters.slice(0, length - 1).join("")}…` : letters.join("");
  return cut.replace(/(?!\u200d)[\p{C}\p{Zl}\p{Zp}]/gu, " ").replace(/[&<>]/g, (char) => ENTITIES[char]);
}

function textWidth(text, size) {
  pen.font = `${size}px ${getComputedStyle(document.body).fontFamily}`;
  return pen.measureText(text.replace(/&(lt|gt|amp);/g, "<")).width;
}

// ---- map ----

const map = { plot: document.getElementById("map-plot"), hidden: new Set(), query: "", size: "params", layout: "pca", view: null };

function nearestOf(index) {
  const at = content.neighbours.model.findIndex((model, i) => model === index && content.neighbours.rank[i] === 1);
  return at < 0 ? null : at;
}

function modelTip(index, event) {
  const group = content.groups.find((one) => one.cluster === models.cluster[index]);
  const rows = [
    ["Group", group ? group.label : "–"],
    ["Parameters", parameters(models.params[index])],
    ["Accuracy", `${percent(models.accuracy[index], 1)} of ${count(models.n[index])} scores`],
  ];
  if (models.family[index]) rows.push(["Family", models.family[index]]);
  const at = nearestOf(index);
  if (at !== null) {
    const { neighbour, agreement, low, high } = content.neighbours;
    rows.push(["Nearest", models.id[neighbour[at]]], ["Agreement", `${percent(agreement[at])} (${range(low[at], high[at])})`]);
  }
  showTip(modelName(index), rows, event);
}

function matches(index) {
  return map.query.split(/\s+/).every((word) => models.id[index].toLowerCase().includes(word));
}

// Where a group's models lie in the layout that is shown.
function spots(trace) {
  const layout = specs.map.layouts[map.layout];
  if (!layout) return { x: trace.x, y: trace.y };
  return { x: trace.customdata.map((index) => layout.x[index]), y: trace.customdata.map((index) => layout.y[index]) };
}

function mapTraces() {
  const groups = specs.map.data.slice(0, -1).map((trace, at) => ({
    ...trace,
    ...spots(trace),
    visible: map.hidden.has(at) ? false : true,
    marker: {
      ...trace.marker,
      size: trace.meta[map.size],
      opacity: map.query ? trace.customdata.map((index) => (matches(index) ? 1 : 0.12)) : trace.marker.opacity,
    },
  }));
  return painted([...groups, specs.map.data.at(-1)]);
}

// As tall as the data is for its width, within what is comfortable to look at.
function mapHeight() {
  const spans = ["x", "y"].map((axis) => {
    const values = specs.map.data.slice(0, -1).flatMap((trace) => spots(trace)[axis]).filter((value) => value !== null);
    return values.reduce((high, value) => Math.max(high, value), -Infinity) - values.reduce((low, value) => Math.min(low, value), Infinity);
  });
  const ratio = spans[0] > 0 ? spans[1] / spans[0] : 1;
  const width = map.plot.clientWidth;
  return Math.round(Math.min(Math.max(width * ratio * 0.9 + 70, 300), Math.max(360, width * 0.68)));
}

function mapLayout() {
  const layout = painted(specs.map.layout);
  layout.height = mapHeight();
  layout.width = map.plot.clientWidth;
  map.plot.style.height = `${layout.height}px`;
  layout.dragmode = coarse ? false : "zoom";
  // A finger that starts on the map still scrolls the page.
  for (const axis of [layout.xaxis, layout.yaxis]) axis.fixedrange = coarse;
  if (map.view) {
    layout.xaxis.range = [...map.view.x];
    layout.yaxis.range = [...map.view.y];
  }
  return layout;
}

async function drawMap() {
  await Plotly.react(map.plot, mapTraces(), mapLayout(), CONFIG);
  await labelMap();
}

// Names beside points where there is room; the rest are a hover away.
async function labelMap() {
  const { xaxis, yaxis } = map.plot._fullLayout;
  const points = [];
  map.plot.data.slice(0, -1).forEach((trace, at) => {
    if (map.hidden.has(at)) return;
    trace.x.forEach((x, i) => {
      if (x === null) return;
      const [px, py] = [xaxis.d2p(x), yaxis.d2p(trace.y[i])];
      if (px < 0 || py < 0 || px > xaxis._length || py > yaxis._length) return;
      const index = trace.customdata[i];
      points.push({ x, y: trace.y[i], px, py, r: (trace.marker.size[i] / 2) * (trace.marker.symbol === "circle" ? 1 : 1.25), index, name: plotText(index, 26) });
    });
  });
  let wanted = points.length <= 40 ? points : points.filter((point) => models.new[point.index]);
  if (map.query) wanted = points.filter((point) => matches(point.index));
  wanted = [...wanted].sort((a, b) => models.new[b.index] - models.new[a.index] || b.r - a.r).slice(0, 40);
  // In a crowd every spot is taken: there a label only keeps clear of the points it is about.
  const obstacles = map.query || points.length > 40 ? wanted : points;
  const taken = obstacles.map((point) => ({ l: point.px - point.r, r: point.px + point.r, t: point.py - point.r, b: point.py + point.r, own: point.index }));
  const placed = [];
  for (const point of wanted) {
    const width = textWidth(point.name, 11.5);
    const spots = [
      ["middle right", point.px + point.r + 5, point.py - 7],
      ["middle left", point.px - point.r - 5 - width, point.py - 7],
      ["top center", point.px - width / 2, point.py - point.r - 16],
      ["bottom center", point.px - width / 2, point.py + point.r + 3],
    ];
    for (const [position, left, top] of spots) {
      const box = { l: left, r: left + width, t: top, b: top + 14 };
      const inside = box.l >= 0 && box.t >= 0 && box.r <= xaxis._length && box.b <= yaxis._length;
      if (inside && taken.every((other) => other.own === point.index || box.r < other.l || box.l > other.r || box.b < other.t || box.t > other.b)) {
        taken.push(box);
        // The label trace knows no marker size, so its anchor moves to the rim of the point.
        const shift = { "middle right": [point.r + 3, 0], "middle left": [-point.r - 3, 0], "top center": [0, -point.r], "bottom center": [0, point.r] }[position];
        placed.push({ x: xaxis.p2d(point.px + shift[0]), y: yaxis.p2d(point.py + shift[1]), text: point.name, position });
        break;
      }
    }
  }
  const last = map.plot.data.length - 1;
  await Plotly.restyle(map.plot, { x: [placed.map((one) => one.x)], y: [placed.map((one) => one.y)], text: [placed.map((one) => one.text)], textposition: [placed.map((one) => one.position)] }, [last]);
}

function symbolIcon(trace) {
  const draw = { circle: "M8 2a6 6 0 1 0 .01 0z", diamond: "M8 1l7 7-7 7-7-7z", square: "M2.5 2.5h11v11h-11z", "triangle-up": "M8 1.5l7 12.5H1z", pentagon: "M8 1l7 5.2-2.7 8.3H3.7L1 6.2z", cross: "M5.5 1.5h5v4h4v5h-4v4h-5v-4h-4v-5h4z", star: "M8 .8l2 4.9 5.2.4-4 3.4 1.3 5.1L8 11.8l-4.5 2.8 1.3-5.1-4-3.4 5.2-.4z", hexagon: "M4.5 2h7L15 8l-3.5 6h-7L1 8z" };
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", draw[trace.marker.symbol] ?? draw.circle);
  const open = trace.marker.symbol.endsWith("-open");
  path.style.fill = open ? "none" : `var(${trace.marker.color})`;
  path.style.stroke = open ? `var(${trace.marker.color})` : "none";
  path.style.strokeWidth = "2";
  svg.append(path);
  return svg;
}

function mapLegend() {
  const list = document.getElementById("map-legend");
  content.groups.forEach((group, at) => {
    const button = el(
      "button",
      {
        type: "button",
        "aria-pressed": "true",
        onclick: () => {
          if (!map.hidden.delete(at)) map.hidden.add(at);
          button.setAttribute("aria-pressed", String(!map.hidden.has(at)));
          drawMap();
        },
      },
      symbolIcon(specs.map.data[at]),
      el("bdi", {}, group.label),
      el("span", { class: "size" }, count(group.size)),
    );
    list.append(el("li", {}, button));
  });
}

async function startMap() {
  mapLegend();
  await Plotly.newPlot(map.plot, mapTraces(), mapLayout(), CONFIG);
  await labelMap();
  const reset = document.getElementById("map-reset");
  const details = ({ points, event }) => {
    if (points[0].customdata !== undefined) modelTip(points[0].customdata, event);
  };
  map.plot.on("plotly_hover", details);
  map.plot.on("plotly_click", ({ points }) => {
    if (points[0].customdata !== undefined) openCard(points[0].customdata);
  });
  map.plot.on("plotly_unhover", hideTip);
  map.plot.on("plotly_relayout", (change) => {
    if (!("xaxis.range[0]" in change) && !("xaxis.autorange" in change)) return;
    const zoomed = "xaxis.range[0]" in change;
    const { xaxis, yaxis } = map.plot._fullLayout;
    map.view = zoomed ? { x: [...xaxis.range], y: [...yaxis.range] } : null;
    reset.hidden = !zoomed;
    labelMap();
  });
  reset.addEventListener("click", () => {
    map.view = null;
    reset.hidden = true;
    Plotly.relayout(map.plot, { "xaxis.autorange": true, "yaxis.autorange": true });
  });
  document.getElementById("map-layout")?.addEventListener("change", (event) => {
    map.layout = event.target.value;
    map.view = null;
    reset.hidden = true;
    for (const words of document.querySelectorAll("[data-layout]")) words.hidden = words.dataset.layout !== map.layout;
    // From the start: a range that was drawn for another layout must not stay.
    Plotly.relayout(map.plot, { "xaxis.autorange": true, "yaxis.autorange": true }).then(drawMap);
  });
  document.getElementById("map-size").addEventListener("change", (event) => {
    map.size = event.target.value;
    drawMap();
  });
  document.getElementById("map-find").addEventListener("input", (event) => {
    map.query = event.target.value.trim().toLowerCase();
    drawMap();
  });
  map.plot.dataset.ready = "true";
}

// ---- heat map ----

const heatPlot = document.getElementById("heat-plot");

// Position of the pair (i, j), i < j, in a triangle that is stored row by row.
function pairAt(i, j) {
  const [a, b] = i < j ? [i, j] : [j, i];
  return (a * (2 * heat.order.length - a - 1)) / 2 + (b - a - 1);
}

function heatCells(value) {
  return heat.order.map((_, row) => heat.order.map((__, column) => value(row, column)));
}

const heatZ = {
  agreement: heatCells((row, column) => (column > row ? heat.agreement[pairAt(row, column)] : null)),
  distance: heatCells((row, column) => (column < row ? heat.distance[pairAt(row, column)] : null)),
  missing: heatCells((row, column) => {
    if (row === column) return null;
    return (column > row ? heat.agreement : heat.distance)[pairAt(row, column)] === null ? 1 : null;
  }),
};

// The tree's lines: each merge is a bracket between its two branches, at the distance where they meet.
function treeLines() {
  const nodes = heat.order.map((_, row) => ({ x: 0, y: row }));
  const [x, y] = [[], []];
  for (const [one, other, far] of heat.tree) {
    const [a, b] = [nodes[one], nodes[other]];
    x.push(a.x, far, far, b.x, null);
    y.push(a.y, a.y, b.y, b.y, null);
    nodes.push({ x: far, y: (a.y + b.y) / 2 });
  }
  return { x, y };
}

function heatSpec() {
  const width = heatPlot.clientWidth;
  const size = heat.order.length;
  const layout = painted(specs.heat.layout);
  const share = layout.xaxis.domain[1];
  const cell = ((width - 8) * share) / size;
  const labels = size <= 60 && width >= 520;
  const phone = size <= 24 && width < 520;
  for (const axis of [layout.xaxis, layout.yaxis]) {
    axis.showticklabels = labels;
    axis.fixedrange = coarse || size <= 60;
    axis.tickfont.size = Math.max(8, Math.min(11.5, cell * 0.7));
  }
  if (phone) {
    layout.yaxis.showticklabels = true;
    layout.yaxis.tickfont.size = 9;
  }
  const names = heat.order.map((index) => plotText(index, phone ? 18 : 24));
  layout.xaxis.ticktext = layout.yaxis.ticktext = names;
  const longest = Math.max(...names.map((name) => textWidth(name, layout.yaxis.tickfont.size)));
  const margin = labels || phone ? Math.min(longest + 10, labels ? 190 : 110) : 4;
  layout.margin = { l: margin, r: 4, t: 4, b: labels ? margin : 4, pad: 2 };
  // Cells are squares.
  layout.height = (width - margin - 4) * share + layout.margin.b + 4;
  layout.width = width;
  // The root's line stands inside the picture, not on its edge.
  if (heat.tree.length) layout.xaxis2.range = [0, 1.04 * (heat.tree.at(-1)[2] || 1)];
  layout.dragmode = coarse || size <= 60 ? false : "zoom";
  const data = painted(specs.heat.data).map((trace) => (trace.name === "tree" ? { ...trace, ...treeLines() } : { ...trace, z: heatZ[trace.name] }));
  if (cell < 14) for (const trace of data) trace.xgap = trace.ygap = size <= 60 ? 1 : 0;
  return [data, layout, CONFIG];
}

function pairWords(row, column) {
  const at = pairAt(row, column);
  return {
    names: [heat.order[row], heat.order[column]],
    rows: [
      ["Agreement", `${percent(heat.agreement[at])} (${range(heat.low[at], heat.high[at])})`],
      ["Common queries", count(heat.n[at])],
      ["Distance", decimal(heat.distance[at])],
      ["Expected at that distance", percent(heat.expected[at])],
    ],
  };
}

async function startHeat() {
  if (heat.order.length < 2) {
    heatPlot.replaceWith(el("p", { class: "soft" }, "Two models are needed before anything can be compared."));
    return;
  }
  await Plotly.newPlot(heatPlot, ...heatSpec());
  const details = ({ points, event }) => {
    const { x: column, y: row } = points[0];
    if (row === column) return hideTip();
    const { names, rows } = pairWords(row, column);
    return showTip([modelName(names[0]), " and ", modelName(names[1])], rows, event);
  };
  heatPlot.on("plotly_hover", details);
  heatPlot.on("plotly_click", details);
  heatPlot.on("plotly_unhover", hideTip);
  heatPlot.dataset.ready = "true";
}

function redrawFigures() {
  hideTip();
  if (map.plot.dataset.ready) {
    drawMap();
  }
  if (heatPlot.dataset.ready) Plotly.react(heatPlot, ...heatSpec());
  redrawCurves();
}
