// The page's tables as files, made here from the same numbers: nothing is fetched, so the page's
// policy needs no exception. Columns are called as in the Parquet files beside the page.

// A cell that a spreadsheet would run gets an apostrophe before it; so does one that has its own, so
// that a reader who takes one apostrophe off always gets the text back.
function csvCell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value !== "string") return String(value);
  const defused = /^[=+\-@\t\r\n']/.test(value) ? `'${value}` : value;
  return defused === "" || /[",;\t\r\n]/.test(defused) ? `"${defused.replaceAll('"', '""')}"` : defused;
}

function asCsv(columns) {
  const names = Object.keys(columns);
  const lines = columns[names[0]].map((_, row) => names.map((name) => csvCell(columns[name][row])).join(","));
  return `${[names.join(","), ...lines].join("\r\n")}\r\n`;
}

function asJson(columns) {
  const names = Object.keys(columns);
  return JSON.stringify(columns[names[0]].map((_, row) => Object.fromEntries(names.map((name) => [name, columns[name][row]]))));
}

function save(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = el("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  // The browser reads the file after this has returned.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

const shares = (thousandths) => thousandths.map((value) => (value === null ? null : value / 1000));
const ids = (indexes) => indexes.map((index) => models.id[index]);
const column = (rows, nth) => rows.map((row) => row[nth]);

const CURVE_SHARE = ["hit1", "low", "high", "n"];

// Rows of a curve as columns: models travel by position there and shares in thousandths.
function curveColumns(names, rows) {
  const told = (name, values) => {
    if (name === "model_id") return values.map((at) => (at === null ? null : models.id[at]));
    return /hit1|low|high/.test(name) ? shares(values) : values;
  };
  return Object.fromEntries(names.map((name, nth) => [name, told(name, column(rows, nth))]));
}

// Each list of rows under the name that it has.
const named = (lists) => Object.entries(lists).flatMap(([name, rows]) => rows.map((row) => [name, ...row]));

const DOWNLOADS = {
  models() {
    const [x, y] = [models.id.map(() => null), models.id.map(() => null)];
    for (const trace of specs.map.data.slice(0, -1)) {
      trace.customdata.forEach((index, i) => {
        x[index] = trace.x[i];
        y[index] = trace.y[i];
      });
    }
    const layouts = Object.entries(specs.map.layouts).flatMap(([name, layout]) => [
      [`${name}_x`, layout.x],
      [`${name}_y`, layout.y],
    ]);
    const group = new Map(content.groups.map((one) => [one.cluster, one.label]));
    return {
      model_id: models.id,
      org: models.org,
      family: models.family,
      params_b: models.params,
      n_scores: models.n,
      accuracy: shares(models.accuracy),
      x,
      y,
      ...Object.fromEntries(layouts),
      group: models.cluster.map((cluster) => group.get(cluster) ?? null),
      new: models.new.map(Boolean),
    };
  },
  pairs() {
    const [a, b] = [[], []];
    heat.order.forEach((one, row) => {
      for (const other of heat.order.slice(row + 1)) {
        const [first, second] = [models.id[one], models.id[other]].sort();
        a.push(first);
        b.push(second);
      }
    });
    return {
      model_a: a,
      model_b: b,
      euclidean_distance: heat.distance,
      expected_agreement: shares(heat.expected),
      observed_agreement: shares(heat.agreement),
      agreement_low: shares(heat.low),
      agreement_high: shares(heat.high),
      n_common: heat.n,
    };
  },
  neighbours() {
    const given = content.neighbours;
    return {
      model_id: ids(given.model),
      rank: given.rank,
      neighbour_id: ids(given.neighbour),
      euclidean_distance: given.distance,
      expected_agreement: shares(given.expected),
      observed_agreement: shares(given.agreement),
      agreement_low: shares(given.low),
      agreement_high: shares(given.high),
      n_common: given.n,
    };
  },
  routing() {
    const given = content.routing;
    const of = (names) => given.in.map((at) => names[at]);
    return {
      bucket: of(given.bucket),
      kind: of(given.kind),
      words: of(given.words),
      rank: given.rank,
      model_id: ids(given.model),
      p_correct: shares(given.chance),
      lower_bound: shares(given.low),
      observed_accuracy: shares(given.observed),
      n_observed: given.n,
      best_for_the_money: given.money.map(Boolean),
    };
  },
  tasks() {
    const { names, model, cells } = content.tasks;
    const rows = model.flatMap((index, i) => names.flatMap((name, at) => (cells[i][at] ? [[models.id[index], name, ...cells[i][at]]] : [])));
    return { model_id: column(rows, 0), task: column(rows, 1), n: column(rows, 2), accuracy: shares(column(rows, 3)), low: shares(column(rows, 4)), high: shares(column(rows, 5)) };
  },
  moved() {
    const rows = content.since.moved;
    return { model_id: column(rows, 0), moved: column(rows, 1), n_scores_old: column(rows, 2), n_scores_new: column(rows, 3), doubt_old: column(rows, 4), doubt_new: column(rows, 5), unexpected: column(rows, 6) };
  },
  flips() {
    const rows = content.since.flips;
    return { bucket: column(rows, 0), old_best: column(rows, 1), new_best: column(rows, 2), p_old: shares(column(rows, 3)), p_new: shares(column(rows, 4)) };
  },
  ranks() {
    const rows = content.since.ranks;
    return { model_id: column(rows, 0), rank_old: column(rows, 1), rank_new: column(rows, 2), p_old: shares(column(rows, 3)), p_new: shares(column(rows, 4)) };
  },
  portfolio: () => curveColumns(["choice", "size", "model_id", ...CURVE_SHARE, "pool_hit1", "params_b", "price"], named(curves.portfolio)),
  budget: () => curveColumns(["unit", "budget", "cost", "size", ...CURVE_SHARE, "pool_hit1", "model_id", ...CURVE_SHARE.map((name) => `single_${name}`)], named(curves.budget)),
  cost() {
    const { routed, single, best } = curves.cost;
    const rows = [
      ...routed.map(([weight, ...rest]) => ["routed", weight, null, ...rest]),
      ...single.map(([model, ...rest], i) => [i < best ? "best single" : "single", null, model, ...rest]),
    ];
    return curveColumns(["kind", "weight", "model_id", "cost", ...CURVE_SHARE], rows);
  },
};

// What each file is called, the element that its buttons stand under, and how many rows it has.
const PLACES = {
  models: ["models with their places on the map", "#map figure", () => models.id.length],
  pairs: ["pairs of the heat map", "#agreement figure", () => heat.agreement.length],
  neighbours: ["nearest models", "#neighbours-table .pager", () => content.neighbours.model.length],
  routing: ["routing", "#routing-table .pager", () => content.routing.in.length],
  tasks: ["accuracy by task", "#tasks-table .pager", () => content.tasks.cells.flat().filter(Boolean).length],
  moved: ["moves", "#moved-table .pager", () => content.since.moved.length],
  flips: ["other first choices", "#flips-table .pager", () => content.since.flips.length],
  ranks: ["other ranks", "#ranks-table .pager", () => content.since.ranks.length],
  // Under the whole table, which another unit draws anew.
  portfolio: ["sets of models", "#portfolio-table", () => named(curves.portfolio).length],
  budget: ["budgets", "#budget-table", () => named(curves.budget).length],
  cost: ["costs", "#cost-table", () => curves.cost.routed.length + curves.cost.single.length],
};

function startDownloads() {
  const snapshot = document.querySelector(".top .eyebrow bdi").textContent.replace(/[^A-Za-z0-9._-]+/g, "-").slice(0, 60);
  for (const [name, [words, place, size]] of Object.entries(PLACES)) {
    const above = document.querySelector(place);
    const rows = above ? size() : 0;
    if (!rows) continue;
    const button = (kind, type, text) =>
      el("button", { type: "button", "aria-label": `Download ${words} as ${kind}`, onclick: () => save(`${name}-${snapshot}.${kind.toLowerCase()}`, type, text(DOWNLOADS[name]())) }, kind);
    above.after(
      el(
        "p",
        { class: "downloads" },
        el("span", {}, `Download ${words} (${count(rows)} ${rows === 1 ? "row" : "rows"})`),
        button("CSV", "text/csv;charset=utf-8", asCsv),
        button("JSON", "application/json", asJson),
      ),
    );
  }
}
