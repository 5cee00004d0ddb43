// Ctrl+K: every server, page and action, found by a few of its letters.
import { id, on, say, words } from "./dom.js";
import { openDialog } from "./dialog.js";
import { key, showKeys } from "./keys.js";
import { toast } from "./toast.js";

const dialog = id("palette"), input = id("palette-input"), list = id("palette-list");
const MOST = 12;
let items = [], shown = [], at = 0;

/** How well letters fit a label; 0: not at all. Beginnings of words and letters that follow each other count. */
export function fit(letters, label) {
  const text = label.toLowerCase();
  let score = 1, from = 0, last = -2;
  for (const letter of letters.toLowerCase().replaceAll(" ", "")) {
    const starts = [...text.matchAll(/(?<![a-z0-9])[a-z0-9]/g)].map((each) => each.index).find((n) => n >= from && text[n] === letter);
    const next = text.indexOf(letter, from);
    if (next < 0) return 0;
    const place = next === last + 1 ? next : starts ?? next;
    score += place === last + 1 ? 8 : place === starts ? 6 : 1;
    [last, from] = [place, place + 1];
  }
  return score + 4 / (1 + text.length);
}

function render() {
  const letters = input.value.trim();
  shown = items.map((item) => ({ item, score: letters ? fit(letters, item.label) : 1 }))
    .filter(({ score }) => score).sort((a, b) => b.score - a.score).slice(0, MOST).map(({ item }) => item);
  list.replaceChildren(...shown.map((item, n) => {
    const option = Object.assign(document.createElement("li"), { id: `palette-${n}`, role: "option" });
    const label = document.createElement("span"), hint = document.createElement("small");
    say(label, item.label);
    say(hint, item.hint);
    option.append(label, hint);
    return option;
  }));
  id("palette-none").hidden = shown.length > 0;
  choose(0);
}

function choose(n) {
  at = shown.length ? (n + shown.length) % shown.length : 0;
  [...list.children].forEach((option, number) => option.setAttribute("aria-selected", number === at));
  if (shown.length) input.setAttribute("aria-activedescendant", `palette-${at}`);
  else input.removeAttribute("aria-activedescendant");
  list.children[at]?.scrollIntoView({ block: "nearest" });
}

function run(item) {
  dialog.close();
  if (item.href) return location.assign(item.href);
  if (item.event) return document.dispatchEvent(new CustomEvent(item.event, { detail: item.detail }));
  const button = document.createElement("button"); // as if it were pressed on the server's page: with its question
  say(button, item.verb);
  button.dataset.for = item.server;
  for (const [name, value] of [["hx-post", item.post], ["hx-swap", "none"], ["hx-confirm", item.ask]]) {
    if (value) button.setAttribute(name, value);
  }
  id("palette-pressed").replaceChildren(button);
  htmx.process(button);
  button.addEventListener("htmx:afterRequest", ({ detail }) => detail.successful && toast(item.said, "up"));
  button.click();
}

async function open() {
  openDialog(dialog);
  input.value = "";
  try {
    items = (await (await fetch(dialog.dataset.items, { headers: { Accept: "application/json" } })).json()).items;
  } catch {
    items = [];
    say(id("palette-none"), dialog.dataset.failed);
  }
  render();
}

key("Ctrl+k", words.keys.palette, open);
id("open-palette").hidden = false;
id("open-palette").addEventListener("click", open);
input.addEventListener("input", render);
input.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step) choose(at + step);
  else if (event.key === "Enter" && shown[at]) run(shown[at]);
  else return;
  event.preventDefault();
});
list.addEventListener("click", ({ target }) => {
  const option = target.closest("li");
  if (option) run(shown[[...list.children].indexOf(option)]);
});
on("show-keys", showKeys);
