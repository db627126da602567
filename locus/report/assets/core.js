// Shared by tables and figures: the data, small DOM helpers, number words, and the tooltip.
// Text from the data only ever goes through textContent: nothing here builds HTML from strings.
"use strict";

const read = (id) => JSON.parse(document.getElementById(id).textContent);
const content = read("content");
const models = content.models;
const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)").matches;

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "class") node.className = value;
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const whole = new Intl.NumberFormat("en");
const count = (value) => (value === null ? "–" : whole.format(value));
const decimal = (value, digits = 2) => (value === null ? "–" : value.toFixed(digits));
// Shares travel as whole thousandths.
const percent = (share, digits = 0) => (share === null ? "–" : `${(share / 10).toFixed(digits)} %`);
const range = (low, high) =>
  low === null || high === null ? "–" : `${Math.round(low / 10)}–${Math.round(high / 10)} %`;
const parameters = (billions) =>
  billions === null ? "–" : billions >= 1 ? `${Number(billions.toPrecision(3))} B` : `${Number((billions * 1000).toPrecision(3))} M`;

function nameOf(id) {
  const cut = id.lastIndexOf("/") + 1;
  const org = cut > 0 ? el("span", { class: "org" }, id.slice(0, cut)) : null;
  return el("bdi", { class: "name" }, org, el("span", { class: "own" }, id.slice(cut)));
}

function modelName(index) {
  const name = nameOf(models.id[index]);
  return models.new[index] ? el("span", {}, name, " ", el("span", { class: "tag" }, "new")) : name;
}

const cardAddress = (index) => `#model=${encodeURIComponent(models.id[index])}`;

// A model's name that opens its card; tooltips, which nobody can press, take the name alone.
function modelLink(index) {
  const link = el("a", { class: "to-card", href: cardAddress(index) }, nameOf(models.id[index]));
  return models.new[index] ? el("span", {}, link, " ", el("span", { class: "tag" }, "new")) : link;
}

// Text that travels deflated, as base64. Browsers from before 2023 can't unpack it.
async function inflated(packed) {
  const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).text();
}

// A share with its interval, drawn: the band is the interval, the mark is the value.
function meter(value, low, high) {
  const box = el("span", { class: "meter", "aria-hidden": "true" });
  if (low !== null && high !== null) {
    const band = el("span", { class: "range" });
    band.style.left = `${low / 10}%`;
    band.style.width = `${Math.max(high - low, 4) / 10}%`;
    box.append(band);
  }
  if (value !== null) {
    const dot = el("span", { class: "dot" });
    dot.style.left = `${value / 10}%`;
    box.append(dot);
  }
  return box;
}

const tip = document.getElementById("tip");

function showTip(title, rows, event) {
  const list = el("dl");
  for (const [term, value] of rows) list.append(el("dt", {}, term), el("dd", {}, value));
  tip.replaceChildren(el("p", { class: "title" }, ...[].concat(title)), list);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const { clientX: x, clientY: y } = event;
  const left = x + 16 + box.width > innerWidth ? x - box.width - 16 : x + 16;
  const top = y + 16 + box.height > innerHeight ? y - box.height - 12 : y + 16;
  tip.style.transform = `translate(${Math.max(8, Math.min(left, innerWidth - box.width - 8))}px, ${Math.max(8, top)}px)`;
}

function hideTip() {
  tip.hidden = true;
}
