// The rows of the overview: those with trouble first, filtered by what people have chosen. The URL keeps the choice.
import { all, fill, id, on, say, words } from "./dom.js";

const form = id("filter");
const FIELDS = ["q", "state", "node", "group"];
const rows = () => all(".rows > li:has(.row-state)"); // another one is about to be filled
const state = (row) => row.querySelector(".row-state").dataset;
const of = { state: (row) => state(row).word, node: (row) => row.dataset.node, group: (row) => row.dataset.group };

/** Move only what is out of place, so that focus and reading position stay. */
function sort() {
  const list = document.querySelector(".rows");
  if (!list) return;
  const focused = document.activeElement;
  const order = (a, b) => state(a).rank - state(b).rank || (state(a).name < state(b).name ? -1 : 1);
  rows().sort(order).forEach((row, place) => {
    const there = list.children[place];
    if (there !== row) list.insertBefore(row, there);
  });
  if (document.activeElement !== focused) focused.focus({ preventScroll: true });
}

/** Offer what there is to choose from; a choice of one is none. */
function offer(name) {
  const select = form.elements[name], chosen = select.value || wanted.get(name) || "";
  const values = [...new Set([...rows().map(of[name]), chosen])].filter(Boolean).sort();
  const options = [new Option(select.dataset.all, ""), ...values.map((value) => new Option(value))];
  if (options.map((each) => each.value).join() !== [...select.options].map((each) => each.value).join()) {
    select.replaceChildren(...options);
  }
  select.value = chosen;
  select.hidden = values.length < 2 && !chosen;
}

function fits(row, parts) {
  const text = row.textContent.toLowerCase();
  return parts.every((part) => text.includes(part))
    && ["state", "node", "group"].every((name) => !form.elements[name].value || of[name](row) === form.elements[name].value);
}

function filter() {
  const parts = form.elements.q.value.toLowerCase().split(/\s+/).filter(Boolean);
  const shown = rows().filter((row) => !(row.hidden = !fits(row, parts))).length, count = rows().length;
  say(id("shown"), shown === count ? `${count}` : fill(words.shown, { shown, all: count }));
  id("none-fit").hidden = shown > 0 || !count;
}

function keep() {
  const kept = new URLSearchParams();
  for (const name of FIELDS) if (form.elements[name].value) kept.set(name, form.elements[name].value);
  history.replaceState(null, "", `${kept.size ? `?${kept}` : location.pathname}`);
}

let troubled = false;

/** When the last entry has gone, the last trouble was a moment ago: no push says that. */
function noteTheEndOfTrouble() {
  const before = troubled, last = id("last-trouble");
  troubled = all("#attention li:not([hidden])").length > 0;
  if (!before || troubled || !last) return;
  last.dateTime = new Date().toISOString();
  last.parentElement.hidden = false;
}

function arrange() {
  sort();
  noteTheEndOfTrouble();
  Object.keys(of).forEach(offer);
  filter();
}

const wanted = new URLSearchParams(location.search);
form.elements.q.value = wanted.get("q") ?? "";
arrange();
wanted.delete("state"), wanted.delete("node"), wanted.delete("group");
form.addEventListener("input", () => { filter(); keep(); });
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(() => { arrange(); keep(); form.elements.q.focus(); }));
on("htmx:wsAfterMessage", arrange);
