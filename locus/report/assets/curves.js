// Three line charts and their tables: shares of held-out queries answered right by few models, within a
// budget, and at a cost. Shares come as thousandths.

const curves = content.curves;
const percents = (share) => (share === null ? null : share / 10);
const three = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const money = (value) => (value === null ? "–" : `${three.format(value)} USD`);
const UNITS = {
  price: { axis: "USD per million tokens, all models of the set together", words: money },
  params: { axis: "Billions of parameters, all models of the set together", words: parameters },
};

const budget = { unit: Object.keys(curves.budget)[0] ?? "price" };

const portfolioRows = (choice) =>
  curves.portfolio[choice].map(([size, model, hit, low, high, n, pool, params, price]) => ({ size, model, hit, low, high, n, pool, params, price, x: size }));

const budgetRows = () =>
  (curves.budget[budget.unit] ?? []).map(([most, cost, size, hit, low, high, n, pool, model, alone, aloneLow, aloneHigh, aloneN]) => ({
    most, cost, size, hit, low, high, n, pool, model, alone, aloneLow, aloneHigh, aloneN, x: cost,
  }));

const routedRows = () => curves.cost.routed.map(([weight, cost, hit, low, high, n]) => ({ weight, cost, hit, low, high, n, x: cost }));
const singleRows = () => curves.cost.single.map(([model, cost, hit, low, high, n]) => ({ model, cost, hit, low, high, n, x: cost }));

// ---- drawing ----

// A share with its interval as a band behind it.
function banded(rows, color, extra = {}) {
  const known = rows.filter((row) => row.hit !== null);
  const band = known.filter((row) => row.low !== null && row.high !== null);
  const edge = [...band, ...[...band].reverse()];
  return [
    {
      type: "scatter",
      mode: "lines",
      x: edge.map((row) => row.x),
      y: edge.map((row, at) => percents(at < band.length ? row.high : row.low)),
      fill: "toself",
      fillcolor: color,
      opacity: 0.14,
      line: { width: 0, color, shape: extra.line?.shape ?? "linear" },
      hoverinfo: "skip",
    },
    { type: "scatter", mode: "lines+markers", x: known.map((row) => row.x), y: known.map((row) => percents(row.hit)), customdata: known, hoverinfo: "none", marker: { color, size: 7 }, ...extra, line: { color, width: 2, ...extra.line } },
  ];
}

const poolLine = (rows) => ({
  type: "scatter",
  mode: "lines",
  x: rows.map((row) => row.x),
  y: rows.map((row) => percents(row.pool)),
  line: { color: "--quiet", width: 1.5, dash: "dot" },
  hoverinfo: "skip",
});

// A logarithmic axis, unless something is free or all cost about the same.
function costAxis(values, title) {
  const low = values.reduce((one, other) => Math.min(one, other), Infinity);
  const high = values.reduce((one, other) => Math.max(one, other), -Infinity);
  if (!(low > 0 && high / low > 15)) return { rangemode: "tozero", title: { text: title } };
  const decades = Math.log10(high / low);
  const steps = decades > 2.5 ? [1] : [1, 2, 5];
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
    for (const step of steps) ticks.push(Number((step * 10 ** power).toPrecision(1)));
  }
  const pad = 0.04 * decades;
  return { type: "log", tickmode: "array", tickvals: ticks, ticktext: ticks.map((tick) => three.format(tick)), range: [Math.log10(low) - pad, Math.log10(high) + pad], title: { text: title } };
}

function chart(plot, traces, xaxis) {
  const width = plot.clientWidth;
  // Plotly doesn't break a long title by itself.
  if (width < 480) xaxis.title.text = xaxis.title.text.replace(", ", ",<br>");
  const height = Math.round(Math.min(380, Math.max(280, width * 0.5)));
  plot.style.height = `${height}px`;
  const axis = { showgrid: true, gridcolor: "--grid", zeroline: false, showline: false, ticks: "", automargin: true, fixedrange: true, tickfont: { size: 12, color: "--quiet" } };
  const title = { font: { size: 12.5, color: "--quiet" }, standoff: 10 };
  const layout = {
    ...specs.map.layout,
    width,
    height,
    margin: { l: 8, r: 12, t: 10, b: 0, pad: 4 },
    xaxis: { ...axis, ...xaxis, title: { ...title, ...xaxis.title } },
    yaxis: { ...axis, title: { ...title, text: "Answered right" }, ticksuffix: " %", nticks: 6 },
  };
  return [plot, painted(traces), painted(layout), CONFIG];
}

const shareTip = (row) => ["Answered right", `${percent(row.hit, 1)} (${range(row.low, row.high)})`];

const charts = {
  portfolio: {
    spec: (plot) => {
      const [best, naive] = [portfolioRows("best"), portfolioRows("naive")];
      const other = { marker: { color: "--group-2", size: 7, symbol: "diamond" }, line: { dash: "dash" } };
      const most = Math.max(best.length, naive.length);
      const sizes = Array.from({ length: most }, (_, at) => at + 1).filter((size) => most <= 12 || size === 1 || size % 5 === 0);
      const whole = { tickmode: "array", tickvals: sizes, range: [1 - 0.03 * most, most + 0.03 * most], title: { text: "Models in the set" } };
      return chart(plot, [poolLine(best.length < naive.length ? naive : best), ...banded(naive.map((row) => ({ ...row, naive: true })), "--group-2", other), ...banded(best, "--group-1")], whole);
    },
    tip: (row) => [
      row.naive ? "Most accurate models" : "Best set",
      [
        ["Models", count(row.size)],
        shareTip(row),
        ["Whole pool", percent(row.pool, 1)],
        ["Joins", models.id[row.model]],
        ["Queries", count(row.n)],
      ],
    ],
  },
  budget: {
    spec: (plot) => {
      const rows = budgetRows();
      const alone = rows.filter((row) => row.alone !== null).map((row) => ({ ...row, hit: row.alone, low: row.aloneLow, high: row.aloneHigh, single: true }));
      const other = { marker: { color: "--group-2", size: 7, symbol: "diamond" }, line: { dash: "dash" } };
      return chart(plot, [poolLine(rows), ...banded(alone, "--group-2", other), ...banded(rows, "--group-1")], costAxis(rows.map((row) => row.x), UNITS[budget.unit].axis));
    },
    tip: (row) => {
      const { words } = UNITS[budget.unit];
      return row.single
        ? ["Most accurate single model", [["Budget", words(row.most)], ["Model", models.id[row.model]], shareTip(row), ["Queries", count(row.aloneN)]]]
        : [row.size === 1 ? "A set of one model" : `A set of ${count(row.size)} models`, [["Budget", words(row.most)], ["It costs", words(row.cost)], shareTip(row), ["Whole pool", percent(row.pool, 1)], ["Queries", count(row.n)]]];
    },
  },
  cost: {
    spec: (plot) => {
      const [routed, single] = [routedRows(), singleRows()];
      const points = (rows, marker) => ({ type: "scatter", mode: "markers", x: rows.map((row) => row.x), y: rows.map((row) => percents(row.hit)), customdata: rows, hoverinfo: "none", marker });
      // The best single model comes first, if there is one.
      const best = curves.cost.best ? single.slice(0, 1) : [];
      const rest = single.slice(best.length);
      const few = rest.length <= 200;
      return chart(
        plot,
        [
          points(rest, { color: "--group-other", size: few ? 7 : 5, opacity: few ? 0.75 : 0.4 }),
          ...banded(routed, "--group-1"),
          points(best, { color: "--group-2", size: 15, symbol: "star", line: { color: "--surface", width: 1 } }),
        ],
        costAxis([...routed, ...single].map((row) => row.x), "Mean cost of a query, USD per million tokens"),
      );
    },
    tip: (row) =>
      row.model === undefined
        ? ["Routed", [["Mean cost", money(row.cost)], shareTip(row), ["1 USD is worth", weightWords(row.weight)], ["Queries", count(row.n)]]]
        : [modelName(row.model), [["Cost", money(row.cost)], shareTip(row), ["Queries", count(row.n)]]],
  },
};

const weightWords = (weight) => (weight === 0 ? "nothing" : `${three.format(weight)} right answers`);

const chartPlot = (name) => document.getElementById(`${name}-plot`);

// Last, and one at a time: two thousand points further down must not keep the map waiting.
async function startCurves() {
  for (const [name, { spec, tip: words }] of Object.entries(charts)) {
    const plot = chartPlot(name);
    if (!plot) continue;
    await new Promise((next) => setTimeout(next));
    await Plotly.newPlot(...spec(plot));
    const details = ({ points, event }) => {
      const row = points[0].customdata;
      if (row !== undefined) showTip(...words(row), event);
    };
    plot.on("plotly_hover", details);
    plot.on("plotly_click", details);
    plot.on("plotly_unhover", hideTip);
    plot.dataset.ready = "true";
  }
}

function redrawCurves() {
  for (const [name, { spec }] of Object.entries(charts)) {
    const plot = chartPlot(name);
    if (plot?.dataset.ready) Plotly.react(...spec(plot));
  }
}

// ---- tables ----

const shareCell = (td, hit, low, high) => td.append(el("span", {}, el("b", {}, percent(hit, 1)), " ", el("span", { class: "soft" }, range(low, high))));

const shareColumn = (label) => ({ label, number: true, sort: (row) => row.hit, cell: (td, row) => shareCell(td, row.hit, row.low, row.high) });
const numberColumn = (label, value, words = count) => ({ label, number: true, sort: value, cell: (td, row) => td.append(words(value(row))) });

function portfolioTable() {
  const named = { best: (size) => (size === 1 ? "Best one" : `Best set of ${size}`), naive: (size) => (size === 1 ? "Most accurate one" : `${size} most accurate`) };
  const rows = ["best", "naive"].flatMap((choice) => portfolioRows(choice).map((row) => ({ ...row, choice: named[choice](row.size) })));
  dataTable("portfolio", {
    kind: "set",
    stack: true,
    caption: "Sets in the order in which models join them: share of test queries answered right, and what the set has together",
    searchLabel: "Search models",
    pageSize: narrow ? 5 : 10,
    rows,
    search: (row) => `${row.choice} ${models.id[row.model]}`,
    columns: [
      { label: "Set", class: "set-name", sort: (row) => row.size, cell: (td, row) => td.append(row.choice) },
      { label: "Joins", sort: (row) => models.id[row.model], cell: (td, row) => td.append(modelLink(row.model)) },
      shareColumn("Right"),
      numberColumn("Whole pool", (row) => row.pool, (value) => percent(value, 1)),
      numberColumn("Parameters", (row) => row.params, parameters),
      ...(rows.some((row) => row.price !== null) ? [numberColumn("USD per Mtok", (row) => row.price, money)] : []),
      numberColumn("Queries", (row) => row.n),
    ],
  });
}

function budgetTable() {
  const { words } = UNITS[budget.unit];
  dataTable("budget", {
    kind: "set",
    stack: true,
    caption: "What a budget buys: the set and the most accurate single model, with the share of test queries each answered right",
    searchLabel: "Search single models",
    pageSize: narrow ? 5 : 10,
    rows: budgetRows(),
    search: (row) => (row.model === null ? "" : models.id[row.model]),
    columns: [
      numberColumn("Budget", (row) => row.most, words),
      numberColumn("Cost of the set", (row) => row.cost, words),
      numberColumn("Models", (row) => row.size),
      shareColumn("Right"),
      numberColumn("Queries", (row) => row.n),
      { label: "Single model", sort: (row) => (row.model === null ? null : models.id[row.model]), cell: (td, row) => td.append(row.model === null ? "–" : modelLink(row.model)) },
      { label: "Alone", number: true, sort: (row) => row.alone, cell: (td, row) => shareCell(td, row.alone, row.aloneLow, row.aloneHigh) },
      numberColumn("Its queries", (row) => row.aloneN),
    ],
  });
}

function costTable() {
  const rows = [...routedRows(), ...singleRows()];
  const name = (row) => (row.model === undefined ? "Routed by this map" : models.id[row.model]);
  dataTable("cost", {
    kind: "set",
    stack: true,
    caption: "Mean cost of a query and share of test queries answered right: routing with a growing weight of money, then the best single model, then the others",
    searchLabel: "Search models",
    pageSize: narrow ? 5 : 16,
    rows,
    search: name,
    columns: [
      { label: "Who answers", sort: name, cell: (td, row) => td.append(row.model === undefined ? name(row) : modelLink(row.model)) },
      numberColumn("Cost", (row) => row.cost, money),
      shareColumn("Right"),
      numberColumn("1 USD is worth", (row) => row.weight ?? null, (value) => (value === null ? "–" : weightWords(value))),
      numberColumn("Queries", (row) => row.n),
    ],
  });
}

function curveTables() {
  const tables = { portfolio: portfolioTable, budget: budgetTable, cost: costTable };
  for (const [name, draw] of Object.entries(tables)) {
    if (document.getElementById(`${name}-table`)) draw();
  }
  document.getElementById("budget-unit")?.addEventListener("change", (event) => {
    budget.unit = event.target.value;
    redrawCurves();
    document.getElementById("budget-table").replaceChildren();
    budgetTable();
  });
}
