// A card for every model, under a link of its own: report.html#model=<id>. It opens over the page as
// a modal dialog; the address decides what is shown, so links, the back button and sharing just work.

const card = el("dialog", { id: "card", "aria-labelledby": "card-title" });
const pageTitle = document.title;
const STEPS_IN_FOR = 12;

// History entries since the page without a card; 0 where a card came first, null where none is shown.
let steps = null;

// Ranks in every bucket and facts about every model; null in a browser that can't unpack them.
let unpacked = null;

function cardData() {
  unpacked ??= inflated(content.cards.packed).then(
    (text) => {
      const { ranked, facts } = JSON.parse(text);
      return { ranked: ranked.map(placesOf), facts };
    },
    () => null,
  );
  return unpacked;
}

// A bucket's columns, in the order of rank, as model -> place.
function placesOf([who, rankSteps, falls, gaps]) {
  const places = new Map();
  let [rank, last] = [0, 1000];
  who.forEach((model, i) => {
    rank += rankSteps[i];
    last -= falls[i] ?? 0;
    places.set(model, { rank, chance: falls[i] === null ? null : last, low: gaps[i] === null ? null : last - gaps[i] });
  });
  return places;
}

// What a browser too old to unpack still knows: the places that the routing table shows.
function shownPlaces() {
  const { in: at, model, rank, chance, low, bucket } = content.routing;
  const places = bucket.map(() => new Map());
  at.forEach((number, i) => places[number].set(model[i], { rank: rank[i], chance: chance[i], low: low[i] }));
  return places;
}

// As the page writes ids: what is invisible or turns the direction of text stands written out.
const writtenOut = (text) =>
  text.replace(/[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, (char) => `⟨U+${char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);

// The id that the address asks for; null where it asks for no card.
function askedModel() {
  if (!location.hash.startsWith("#model=")) return null;
  const coded = location.hash.slice("#model=".length);
  try {
    return writtenOut(decodeURIComponent(coded));
  } catch {
    return writtenOut(coded);
  }
}

function openCard(index) {
  location.hash = cardAddress(index);
}

function leaveCard() {
  if (steps) {
    history.go(-steps);
  } else {
    history.replaceState(null, "", location.href.split("#")[0]);
    followAddress();
  }
}

async function followAddress() {
  const asked = askedModel();
  if (asked === null) {
    steps = null;
    document.title = pageTitle;
    if (card.open) card.close();
    return;
  }
  if (history.state?.steps === undefined) {
    // A link was followed: one step further from the page, unless there is no page to go back to.
    const next = steps === null ? Number(document.documentElement.dataset.started === "true") : steps && steps + 1;
    history.replaceState({ steps: next }, "");
  }
  steps = history.state.steps;
  const data = await cardData();
  if (askedModel() !== asked) return;
  const index = positions.get(asked);
  hideTip();
  card.replaceChildren(cardBar(index), ...(index === undefined ? unknownCard(asked) : modelCard(index, data)));
  document.title = `${index === undefined ? "Model not found" : asked} · ${pageTitle}`;
  if (!card.open) card.showModal();
  card.scrollTop = 0;
  document.getElementById("card-title").focus({ preventScroll: true });
}

function cardBar(index) {
  const close = el("a", { class: "close", href: "#main" }, "Close");
  close.addEventListener("click", (event) => {
    event.preventDefault();
    card.close();
  });
  const show = el("a", { href: "#map" }, "Show on the map");
  show.addEventListener("click", () => {
    const field = document.getElementById("map-find");
    field.value = models.id[index];
    field.dispatchEvent(new Event("input"));
    // Where there is a keyboard the next key belongs to the map; a phone would open one over it.
    if (!coarse) card.addEventListener("close", () => field.focus({ preventScroll: true }), { once: true });
  });
  const drawn = map.plot.dataset.ready && specs.map.data.slice(0, -1).some((trace) => trace.customdata.includes(index));
  return el("div", { class: "card-bar" }, el("p", { class: "eyebrow" }, "Model card"), drawn ? show : null, close);
}

const cardTitle = (...children) => el("h2", { id: "card-title", tabindex: "-1" }, ...children);

function unknownCard(asked) {
  const own = asked.slice(asked.lastIndexOf("/") + 1).toLowerCase();
  const alike = own ? models.id.flatMap((id, index) => (id.toLowerCase().includes(own) ? [index] : [])).slice(0, 5) : [];
  return [
    cardTitle("No such model on this page"),
    el("p", {}, "The link asks for ", asked ? el("bdi", { class: "name" }, el("b", {}, asked)) : "a model without a name", ". It is not in this snapshot: it may be newer than this page, have another name, or be gone."),
    alike.length ? el("p", {}, "Called alike: ", ...listed(alike.map((other) => modelLink(other)))) : null,
    el("p", {}, "Close this card and search for the model at the top of the page."),
  ].filter(Boolean);
}

// Nodes with commas between them.
const listed = (nodes) => nodes.flatMap((node, at) => (at ? [", ", node] : [node]));

function modelCard(index, data) {
  const ranked = data?.ranked ?? shownPlaces();
  const places = ranked.map((bucket) => bucket.get(index));
  const all = content.routing.kind.indexOf("all");
  const of = (bucket) => (data ? ` of ${count(ranked[bucket].size)}` : "");
  const group = content.groups.find((one) => one.cluster === models.cluster[index]);
  const about = [models.family[index], models.params[index] === null ? null : `${parameters(models.params[index])} parameters`, group?.label];
  return [
    cardTitle(el("bdi", { class: "name" }, models.id[index]), models.new[index] ? el("span", { class: "tag" }, "new") : null),
    el("p", { class: "about" }, ...about.filter(Boolean).flatMap((word, at) => [at ? " · " : "", el("bdi", {}, word)])),
    headline(index, places[all] ?? null, all < 0 ? "" : of(all)),
    firstPlaces(index, places),
    data ? null : el("p", { class: "cap" }, "This browser is too old to unpack every rank: only first places are shown here."),
    content.caps.cards && data ? el("p", { class: "cap" }, content.caps.cards) : null,
    ...taskProfile(index, places, of),
    ...topicProfile(places, of),
    ...standIns(index, ranked[all]),
    ...sinceThen(index),
    ...pricesOf(index, data),
    ...originOf(index, data),
  ].filter(Boolean);
}

// Terms and what is known of each, as a list of definitions.
function facts(kind, rows) {
  return el("dl", { class: kind }, ...rows.flatMap(([term, ...value]) => [el("dt", {}, term), el("dd", {}, ...value)]));
}

function headline(index, place, of) {
  const tiles = [
    ["Overall rank", place ? `${count(place.rank)}` : "–", place ? of.trim() : "not ranked on this page"],
    ["Predicted", percent(place?.chance ?? null, 1), place ? `at least ${percent(place.low)}` : ""],
    ["Observed", percent(models.accuracy[index], 1), `of ${count(models.n[index])} scores`],
  ];
  return el("dl", { class: "tiles" }, ...tiles.map(([term, value, more]) => el("div", {}, el("dt", {}, term), el("dd", {}, el("b", {}, value), " ", el("span", {}, more)))));
}

function firstPlaces(index, places) {
  const { bucket, in: at, model, money } = content.routing;
  const named = (numbers) => listed(numbers.map((number) => el("bdi", {}, bucket[number])));
  const first = places.flatMap((place, number) => (place?.rank === 1 ? [number] : []));
  const cheap = at.filter((_, i) => model[i] === index && money[i]);
  if (!first.length && !cheap.length) return null;
  return el(
    "p",
    {},
    ...(first.length ? [el("b", {}, "First choice"), " for ", ...named(first), ". "] : []),
    ...(cheap.length ? [el("b", {}, "Best for the money"), " for ", ...named(cheap), "."] : []),
  );
}

// columns: [label, number]; rows: lists of cells, each a node or text.
function cardTable(kind, caption, columns, rows) {
  return el(
    "div",
    { class: "scroll", role: "region", tabindex: "0", "aria-label": caption },
    el(
      "table",
      { class: `${kind} stack`, role: "table" },
      el("caption", {}, el("span", {}, caption)),
      el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...columns.map(([label, number]) => el("th", { scope: "col", role: "columnheader", class: number ? "number" : null }, label)))),
      el(
        "tbody",
        { role: "rowgroup" },
        ...rows.map((cells) =>
          el(
            "tr",
            { role: "row" },
            ...cells.map((cell, at) => {
              const [label, number] = columns[at];
              return at ? el("td", { role: "cell", "data-label": label, class: number ? "number" : null }, cell) : el("th", { scope: "row", role: "rowheader" }, cell);
            }),
          ),
        ),
      ),
    ),
  );
}

// The cells that say how a model does in a bucket: rank, chance with its bound drawn, and the bound.
const placeCells = (place, of) => [
  place ? el("span", {}, el("b", {}, count(place.rank)), el("span", { class: "soft" }, of)) : "–",
  place ? el("span", {}, el("b", {}, percent(place.chance)), meter(place.chance, place.low, place.chance)) : "–",
  percent(place?.low ?? null),
];

function taskProfile(index, places, of) {
  const { bucket, kind } = content.routing;
  const { names, model, cells } = content.tasks;
  const at = model.indexOf(index);
  const measured = (name) => (at < 0 ? null : cells[at][names.indexOf(name)]) ?? [null, null, null, null];
  const row = (name, place, of_, [n, share, low, high]) => [el("bdi", { class: "name" }, name), ...placeCells(place, of_), percent(share), range(low, high), count(n)];
  const rows = places.flatMap((place, number) => {
    if (kind[number] === "topic") return [];
    const shares = kind[number] === "all" ? [models.n[index], models.accuracy[index], null, null] : measured(bucket[number]);
    return [row(kind[number] === "all" ? "All queries" : bucket[number], place, of(number), shares)];
  });
  // Tasks that nothing is predicted for here are still measured.
  for (const name of names) if (!bucket.slice(0, places.length).includes(name) && measured(name)[1] !== null) rows.push(row(name, null, "", measured(name)));
  if (!rows.length) return [];
  const columns = [["Task"], ["Rank", true], ["Predicted"], ["At least", true], ["Observed", true], ["95 % interval", true], ["n", true]];
  return [
    el("h3", {}, "Task by task"),
    at < 0 && content.caps.tasks ? el("p", { class: "cap" }, `Its observed shares are left out here. ${content.caps.tasks}`) : null,
    cardTable("profile", "Predicted chance of a right answer and its lower bound, beside what was observed on all n scores", columns, rows),
  ];
}

function topicProfile(places, of) {
  const { bucket, kind, words } = content.routing;
  const rows = places.flatMap((place, number) => {
    if (kind[number] !== "topic") return [];
    return [[el("span", {}, el("bdi", { class: "name" }, bucket[number]), words[number] === null ? null : el("bdi", { class: "words" }, words[number])), ...placeCells(place, of(number))]];
  });
  if (!rows.length) return [];
  return [el("h3", {}, "Topic by topic"), cardTable("profile topics", "Rank and predicted chance in topics that were learned from the queries' texts", [["Topic"], ["Rank", true], ["Predicted"], ["At least", true]], rows)];
}

function standIns(index, overall) {
  const { model, rank, neighbour, distance, expected, agreement, low, high, n } = content.neighbours;
  const columns = [["Model"], ["Distance", true], ["Expected", true], ["Agreement", true], ["Its chance over all", true]];
  const rows = [];
  const others = [];
  model.forEach((one, i) => {
    if (one === index) {
      const observed = el("span", {}, el("b", {}, percent(agreement[i])), el("br"), el("span", { class: "soft" }, `${range(low[i], high[i])}, n ${count(n[i])}`));
      rows.push([modelLink(neighbour[i]), decimal(distance[i]), percent(expected[i]), observed, percent(overall?.get(neighbour[i])?.chance ?? null)]);
    }
    if (neighbour[i] === index && rank[i] <= content.cards.stand_ins) others.push([one, rank[i]]);
  });
  const heading = el("h3", {}, "Who steps in");
  if (!rows.length) return [heading, el("p", { class: "soft" }, "Nobody is near it yet: no neighbour was published.")];
  others.sort((a, b) => a[1] - b[1]);
  const rest = others.length - STEPS_IN_FOR;
  return [
    heading,
    el("p", { class: "intro" }, `If this model is down, too dear or gone, ask the nearest; the first ${content.cards.stand_ins} are the stand-ins that routers use, in this order.`),
    cardTable("nearest", "Its nearest models, by distance of embeddings, and how often both are right or both wrong on n queries", columns, rows),
    content.caps.neighbours ? el("p", { class: "cap" }, content.caps.neighbours) : null,
    el("p", {}, el("b", {}, "It steps in for"), " ", ...(others.length ? listed(others.slice(0, STEPS_IN_FOR).map(([other]) => modelLink(other))) : ["nobody"]), rest > 0 ? ` and ${count(rest)} more.` : "."),
  ];
}

function sinceThen(index) {
  const id = models.id[index];
  const heading = el("h3", {}, "Since the last snapshot");
  if (!document.querySelector("#changes .lists")) return [heading, el("p", {}, document.querySelector("#changes .intro").textContent)];
  if (models.new[index]) return [heading, el("p", {}, "It is new: the last snapshot did not have it.")];
  const { moved, flips, ranks } = content.since;
  const unlisted = (name) => (content.caps[name] ? "not among the largest changes, which this page lists" : "no");
  const move = moved.find((row) => row[0] === id);
  const ranking = ranks.find((row) => row[0] === id);
  const rows = [];
  if (!document.getElementById("moved-table")) rows.push(["Moved", "can't be said: another map was learned since"]);
  else if (!move) rows.push(["Moved", unlisted("moved")]);
  else {
    rows.push(["Moved", el("b", {}, decimal(move[1], 3)), move[6] === null ? null : move[6] ? " – further than new answers explain" : " – no further than new answers explain"]);
    rows.push(["Doubt", arrow(move[4], move[5], (value) => decimal(value, 3))], ["Scores", arrow(move[2], move[3], count)]);
  }
  rows.push(["Another rank", ranking ? arrow(ranking[1], ranking[2], count) : unlisted("ranks")]);
  if (ranking) rows.push(["Chance over all", arrow(ranking[3], ranking[4], (value) => percent(value, 1))]);
  const buckets = (nth) => listed(flips.filter((row) => row[nth] === id).map((row) => el("bdi", {}, row[0])));
  if (buckets(2).length) rows.push(["Now first for", ...buckets(2)]);
  if (buckets(1).length) rows.push(["No longer first for", ...buckets(1)]);
  return [heading, facts("lineage", rows)];
}

const dollars = new Intl.NumberFormat("en", { style: "currency", currency: "USD", maximumSignificantDigits: 3 });

function pricesOf(index, data) {
  if (!data) return [];
  const of = (name, words) => (data.facts[name][index] === null ? "–" : words(data.facts[name][index]));
  const rows = [
    ["Price of input", of("price_in_usd_per_mtok", (value) => `${dollars.format(value)} per million tokens`)],
    ["Price of output", of("price_out_usd_per_mtok", (value) => `${dollars.format(value)} per million tokens`)],
    ["Measured cost", of("cost_usd", (value) => `${dollars.format(value)} a query`)],
    ["Latency", of("latency_ms", (value) => (value >= 1000 ? `${decimal(value / 1000, 1)} s a query` : `${count(Math.round(value))} ms a query`))],
  ];
  const unknown = rows.every(([, value]) => value === "–");
  return [el("h3", {}, "Price, cost and time"), unknown ? el("p", {}, "Not known for this model.") : facts("lineage", rows)];
}

function originOf(index, data) {
  const page = [...document.querySelectorAll("#reading .lineage > *")].map((node) => node.cloneNode(true));
  const own = [
    ["Revision", el("bdi", {}, data?.facts.revision[index] ?? "–")],
    ["Scores behind its place", count(models.n[index])],
    ["Doubt about its place", decimal(data?.facts.uncertainty[index] ?? null, 3)],
  ];
  const list = facts("lineage", own);
  list.append(...page);
  return [el("h3", {}, "Where it comes from"), list];
}

// ---- finding a model ----

function startFinder() {
  const field = el("input", { type: "search", id: "card-find", autocomplete: "off", spellcheck: "false", "aria-controls": "card-found" });
  const said = el("span", { class: "count", role: "status" });
  const list = el("ul", { id: "card-found" });
  const folded = models.id.map((id) => id.toLowerCase());
  const most = narrow ? 5 : 8;
  function found() {
    const words = field.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    if (!words.length) return [];
    const hits = models.id.flatMap((_, index) => (words.every((word) => folded[index].includes(word)) ? [index] : []));
    // What was typed whole comes first: the shortest name that holds it.
    return hits.sort((a, b) => folded[a].length - folded[b].length || a - b);
  }
  field.addEventListener("input", () => {
    const hits = found();
    list.replaceChildren(...hits.slice(0, most).map((index) => el("li", {}, modelLink(index))));
    const more = hits.length > most ? `, ${most} are shown` : "";
    said.textContent = field.value.trim() ? `${count(hits.length)} ${hits.length === 1 ? "model" : "models"}${more}` : "";
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && found().length) openCard(found()[0]);
  });
  document.querySelector(".top .wrap").append(el("div", { class: "finder", role: "search" }, el("div", { class: "controls" }, el("label", { for: field.id }, "Open a model's card", field), said), list));
}

function startCards() {
  document.body.append(card);
  startFinder();
  // Escape closes a dialog by itself; the address has to follow.
  card.addEventListener("close", () => {
    if (askedModel() !== null) leaveCard();
  });
  card.addEventListener("click", (event) => {
    if (event.target === card) card.close();
  });
  // A row opens the card of the model it is about; its names are links for keyboards and new tabs.
  document.addEventListener("click", (event) => {
    const row = event.target.closest?.(".data-table tbody tr");
    if (!row || event.target.closest("a, button") || !getSelection().isCollapsed) return;
    row.querySelector("a.to-card")?.click();
  });
  document.getElementById("map-find")?.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !map.query) return;
    const hits = models.id.flatMap((_, index) => (matches(index) ? [index] : []));
    if (hits.length === 1) openCard(hits[0]);
  });
  addEventListener("hashchange", followAddress);
  followAddress();
  document.documentElement.dataset.started = "true";
}
