// Tables of what changed since the last snapshot. Rows go by name: a model that is gone is in no other table.

const positions = new Map(models.id.map((id, index) => [id, index]));
const namedModel = (id) => (positions.has(id) ? modelLink(positions.get(id)) : nameOf(id));

const arrow = (before, now, words) => el("span", { class: "change" }, words(before), el("span", { "aria-hidden": "true" }, " → "), el("span", { class: "hidden" }, " before, now "), el("b", {}, words(now)));

function movedTable() {
  dataTable("moved", {
    kind: "moved",
    stack: true,
    caption: "How far each model moved on the map, beside the doubt about its place and the scores behind it, before and now",
    searchLabel: "Search models",
    pageSize: narrow ? 5 : 8,
    empty: "No model moved.",
    rows: content.since.moved.map(([model, far, nBefore, n, doubtBefore, doubt, beyond]) => ({ model, far, nBefore, n, doubtBefore, doubt, beyond })),
    search: (row) => row.model,
    columns: [
      { label: "Model", sort: (row) => row.model, cell: (td, row) => td.append(namedModel(row.model)) },
      {
        label: "Moved",
        number: true,
        sort: (row) => row.far,
        cell: (td, row) => td.append(el("b", {}, decimal(row.far, 3))),
      },
      { label: "Doubt", number: true, sort: (row) => row.doubt, cell: (td, row) => td.append(arrow(row.doubtBefore, row.doubt, (value) => decimal(value, 3))) },
      { label: "Scores", number: true, sort: (row) => row.n - row.nBefore, cell: (td, row) => td.append(arrow(row.nBefore, row.n, count)) },
      {
        label: "Unexpected",
        sort: (row) => row.beyond,
        cell: (td, row) => td.append(row.beyond === null ? "–" : row.beyond ? el("span", {}, el("span", { class: "tag" }, "yes")) : "no"),
      },
    ],
  });
}

function flipsTable() {
  dataTable("flips", {
    kind: "flips",
    stack: true,
    caption: "Buckets whose first choice is another model, and that model's predicted chance of a right answer before and now",
    searchLabel: "Search buckets and models",
    pageSize: narrow ? 5 : 8,
    empty: "Every bucket kept its first choice.",
    rows: content.since.flips.map(([bucket, before, now, chanceBefore, chance]) => ({ bucket, before, now, chanceBefore, chance })),
    search: (row) => `${row.bucket} ${row.before} ${row.now}`,
    columns: [
      { label: "Bucket", sort: (row) => row.bucket, cell: (td, row) => td.append(el("bdi", { class: "name" }, row.bucket)) },
      { label: "First before", sort: (row) => row.before, cell: (td, row) => td.append(namedModel(row.before)) },
      { label: "First now", sort: (row) => row.now, cell: (td, row) => td.append(namedModel(row.now)) },
      { label: "Its chance", number: true, sort: (row) => row.chance, cell: (td, row) => td.append(arrow(row.chanceBefore, row.chance, (value) => percent(value, 1))) },
    ],
  });
}

function ranksTable() {
  dataTable("ranks", {
    kind: "ranks",
    stack: true,
    caption: "Other ranks over all queries; a model that comes in or leaves moves those below it",
    searchLabel: "Search models",
    pageSize: narrow ? 5 : 8,
    empty: "Every model kept its rank.",
    rows: content.since.ranks.map(([model, rankBefore, rank, chanceBefore, chance]) => ({ model, rankBefore, rank, chanceBefore, chance })),
    search: (row) => row.model,
    columns: [
      { label: "Model", sort: (row) => row.model, cell: (td, row) => td.append(namedModel(row.model)) },
      { label: "Rank", number: true, sort: (row) => row.rank, cell: (td, row) => td.append(arrow(row.rankBefore, row.rank, count)) },
      {
        label: "Places",
        number: true,
        sort: (row) => row.rankBefore - row.rank,
        cell: (td, row) => td.append(row.rank < row.rankBefore ? `up ${count(row.rankBefore - row.rank)}` : `down ${count(row.rank - row.rankBefore)}`),
      },
      { label: "Chance", number: true, sort: (row) => row.chance, cell: (td, row) => td.append(arrow(row.chanceBefore, row.chance, (value) => percent(value, 1))) },
    ],
  });
}

function sinceTables() {
  if (document.getElementById("moved-table")) movedTable();
  if (document.getElementById("flips-table")) {
    flipsTable();
    ranksTable();
  }
}
