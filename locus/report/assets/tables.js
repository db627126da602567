// Tables over the embedded data: searched, sorted and paged, so that the page never holds more rows
// than a reader can see.

const narrow = matchMedia("(max-width: 40rem)").matches;

// columns: { label, number, class, sort(row) -> number|string|null, cell(td, row) }
// repeats(row, previous): the row goes on about the same thing, so its heading is drawn quietly.
function dataTable(id, { kind, caption, columns, rows, search, pageSize, searchLabel, order, stack, repeats, empty }) {
  const mount = document.getElementById(`${id}-table`);
  if (!rows.length) {
    mount.append(el("p", { class: "soft" }, empty ?? "Nothing has been published here yet."));
    return;
  }
  // Folded once: 10,000 rows are searched on every key press.
  const folded = rows.map((row) => search(row).toLowerCase());
  const state = { query: "", page: 0, column: order?.column ?? -1, down: order?.down ?? false };

  const field = el("input", { type: "search", id: `${id}-search`, autocomplete: "off", spellcheck: "false", "aria-controls": `${id}-rows` });
  const shown = el("span", { class: "count", role: "status" });
  const body = el("tbody", { id: `${id}-rows` });
  const heads = columns.map((column, at) =>
    el(
      "th",
      { scope: "col", class: column.number ? "number" : null, role: "columnheader" },
      el("button", { type: "button", onclick: () => sortBy(at) }, el("bdi", {}, column.label)),
    ),
  );
  const table = el(
    "table",
    { class: `${kind}${stack ? " stack" : ""}`, role: "table" },
    el("caption", {}, el("span", {}, caption)),
    el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...heads)),
    body,
  );
  body.setAttribute("role", "rowgroup");
  const back = el("button", { type: "button", onclick: () => turn(-1) }, "Previous");
  const next = el("button", { type: "button", onclick: () => turn(1) }, "Next");
  const place = el("span", { class: "soft" });
  const pager = el("div", { class: "pager" }, place, back, next);
  mount.append(
    el("div", { class: "controls" }, el("label", { for: field.id }, searchLabel, field), shown),
    el("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": caption }, table),
    pager,
  );
  field.addEventListener("input", () => {
    state.query = field.value.trim().toLowerCase();
    state.page = 0;
    draw();
  });

  function sortBy(at) {
    state.down = state.column === at ? !state.down : Boolean(columns[at].number);
    state.column = at;
    state.page = 0;
    draw();
  }

  function turn(step) {
    state.page += step;
    draw();
    mount.scrollIntoView({ block: "start", behavior: reducedMotion ? "auto" : "smooth" });
  }

  function found() {
    const words = state.query.split(/\s+/).filter(Boolean);
    const hits = [];
    for (let i = 0; i < rows.length; i += 1) {
      if (words.every((word) => folded[i].includes(word))) hits.push(i);
    }
    const column = columns[state.column];
    if (!column) return hits;
    const keys = new Map(hits.map((i) => [i, column.sort(rows[i])]));
    const sign = state.down ? -1 : 1;
    return hits.sort((a, b) => {
      const [one, other] = [keys.get(a), keys.get(b)];
      if (one === other) return a - b;
      // What is not known goes last, whichever way the column is sorted.
      if (one === null) return 1;
      if (other === null) return -1;
      const way = typeof one === "string" ? one.localeCompare(other, "en") : one - other;
      return sign * way || a - b;
    });
  }

  function draw() {
    const hits = found();
    const pages = Math.max(1, Math.ceil(hits.length / pageSize));
    const from = state.page * pageSize;
    const page = hits.slice(from, from + pageSize);
    body.replaceChildren(
      ...page.map((i, nth) => {
        const cells = columns.map((column, at) => {
          const cell = el(at === 0 ? "th" : "td", {
            scope: at === 0 ? "row" : null,
            role: at === 0 ? "rowheader" : "cell",
            class: [column.class, column.number && "number"].filter(Boolean).join(" ") || null,
            "data-label": at === 0 ? null : column.label,
          });
          column.cell(cell, rows[i]);
          return cell;
        });
        const repeat = nth > 0 && repeats?.(rows[i], rows[page[nth - 1]]);
        return el("tr", { role: "row", class: repeat ? "repeat" : null }, ...cells);
      }),
    );
    if (!page.length) {
      body.append(el("tr", { role: "row" }, el("td", { role: "cell", colspan: columns.length, class: "soft" }, "Nothing matches. Try fewer letters.")));
    }
    heads.forEach((head, at) => {
      const active = at === state.column;
      head.setAttribute("aria-sort", active ? (state.down ? "descending" : "ascending") : "none");
    });
    shown.textContent = hits.length === rows.length ? `${count(rows.length)} rows` : `${count(hits.length)} of ${count(rows.length)} rows`;
    place.textContent = `Page ${state.page + 1} of ${pages}`;
    back.disabled = state.page === 0;
    next.disabled = state.page >= pages - 1;
    pager.hidden = pages === 1;
    mount.dataset.ready = "true";
  }

  draw();
}

function neighbourTable() {
  const given = content.neighbours;
  const rows = given.model.map((model, i) => ({
    model,
    rank: given.rank[i],
    neighbour: given.neighbour[i],
    distance: given.distance[i],
    expected: given.expected[i],
    agreement: given.agreement[i],
    low: given.low[i],
    high: given.high[i],
    n: given.n[i],
  }));
  dataTable("neighbours", {
    kind: "neighbours",
    stack: true,
    caption: "Every model with its nearest neighbours by distance of embeddings, and the queries both answered",
    searchLabel: "Search models",
    pageSize: narrow ? 6 : 15,
    repeats: (row, previous) => row.model === previous.model,
    rows,
    search: (row) => `${models.id[row.model]} ${models.id[row.neighbour]}`,
    columns: [
      { label: "Model", sort: (row) => models.id[row.model], cell: (td, row) => td.append(modelLink(row.model)) },
      { label: "Rank", number: true, sort: (row) => row.rank, cell: (td, row) => td.append(count(row.rank)) },
      { label: "Neighbour", sort: (row) => models.id[row.neighbour], cell: (td, row) => td.append(modelLink(row.neighbour)) },
      { label: "Distance", number: true, sort: (row) => row.distance, cell: (td, row) => td.append(decimal(row.distance)) },
      { label: "Expected", number: true, sort: (row) => row.expected, cell: (td, row) => td.append(percent(row.expected)) },
      {
        label: "Agreement",
        class: "agreement",
        sort: (row) => row.agreement,
        cell: (td, row) =>
          td.append(
            el("span", {}, el("b", {}, percent(row.agreement)), " ", el("span", { class: "soft" }, range(row.low, row.high)), meter(row.agreement, row.low, row.high)),
          ),
      },
      { label: "Queries", number: true, sort: (row) => row.n, cell: (td, row) => td.append(count(row.n)) },
    ],
  });
}

function routingTable() {
  const { bucket, kind, words, ...given } = content.routing;
  const rows = given.in.map((at, i) => ({
    at,
    rank: given.rank[i],
    model: given.model[i],
    chance: given.chance[i],
    low: given.low[i],
    observed: given.observed[i],
    n: given.n[i],
    money: given.money[i],
  }));
  dataTable("routing", {
    kind: "routing",
    stack: true,
    caption: "First choices of every bucket: predicted chance of a right answer, the least to count on, and what was observed on how many scores",
    searchLabel: "Search buckets, words and models",
    pageSize: narrow ? 6 : 16,
    repeats: (row, previous) => row.at === previous.at,
    rows,
    search: (row) => `${bucket[row.at]} ${kind[row.at] ?? ""} ${words[row.at] ?? ""} ${models.id[row.model]}`,
    columns: [
      {
        label: "Bucket",
        sort: (row) => bucket[row.at],
        cell: (th, row) => {
          th.append(el("bdi", { class: "name" }, bucket[row.at]));
          if (kind[row.at] !== null && kind[row.at] !== bucket[row.at]) th.append(" ", el("span", { class: "kind" }, kind[row.at]));
          if (words[row.at] !== null) th.append(el("bdi", { class: "words" }, words[row.at]));
        },
      },
      { label: "Rank", number: true, sort: (row) => row.rank, cell: (td, row) => td.append(count(row.rank)) },
      {
        label: "Model",
        sort: (row) => models.id[row.model],
        cell: (td, row) => td.append(el("span", {}, modelLink(row.model), row.money ? el("span", {}, " ", el("span", { class: "tag money" }, "best for the money")) : null)),
      },
      {
        label: "Predicted",
        class: "agreement",
        sort: (row) => row.chance,
        cell: (td, row) => td.append(el("span", {}, el("b", {}, percent(row.chance)), meter(row.chance, row.low, row.chance))),
      },
      { label: "At least", number: true, sort: (row) => row.low, cell: (td, row) => td.append(percent(row.low)) },
      { label: "Observed", number: true, sort: (row) => row.observed, cell: (td, row) => td.append(percent(row.observed)) },
      { label: "n", number: true, sort: (row) => row.n, cell: (td, row) => td.append(count(row.n)) },
    ],
  });
}

function taskTable() {
  const { names, model, cells } = content.tasks;
  const rows = model.map((index, i) => ({ index, cells: cells[i] }));
  dataTable("tasks", {
    kind: "tasks",
    caption: "Share of the queries of each task answered right, with its interval and number of queries",
    searchLabel: "Search models",
    pageSize: narrow ? 8 : 16,
    order: { column: 0 },
    rows,
    search: (row) => models.id[row.index],
    columns: [
      {
        label: "Model",
        sort: (row) => models.id[row.index],
        cell: (td, row) => {
          const size = models.params[row.index];
          td.append(modelLink(row.index));
          if (size !== null) td.append(" ", el("span", { class: "soft" }, parameters(size)));
        },
      },
      {
        label: "All",
        class: "all",
        sort: (row) => models.accuracy[row.index],
        cell: (td, row) => td.append(el("b", {}, percent(models.accuracy[row.index])), el("br"), el("span", { class: "soft" }, `n ${count(models.n[row.index])}`)),
      },
      ...names.map((name, at) => ({
        label: name,
        class: "cell",
        sort: (row) => row.cells[at]?.[1] ?? null,
        cell: (td, row) => {
          const cell = row.cells[at];
          if (!cell || cell[1] === null) return td.append("–");
          const [n, share, low, high] = cell;
          td.style.setProperty("--share", share / 1000);
          return td.append(
            el("b", {}, percent(share)),
            el("span", { class: "soft" }, range(low, high)),
            el("br"),
            el("span", { class: "soft" }, `n ${count(n)}`),
          );
        },
      })),
    ],
  });
}
