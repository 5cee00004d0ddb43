// Keys of the page, and the dialog that lists them. Single letters can be switched off: some people dictate.
import { all, id, on, say, words } from "./dom.js";
import { openDialog } from "./dialog.js";

const OFF = "single-keys-off";
const known = [];

/** Let a key do something. `name` as `KeyboardEvent.key` has it, with "Ctrl+" before it if it needs that. */
export function key(name, does, act) {
  known.push({ name, does, act });
}

const isField = (target) => target.matches?.("input, textarea, select, [contenteditable]");

on("keydown", (event) => {
  const held = event.ctrlKey || event.metaKey;
  const found = known.find(({ name }) => name === (held ? `Ctrl+${event.key.toLowerCase()}` : event.key));
  if (!found || event.altKey) return;
  if (!held && (isField(event.target) || localStorage.getItem(OFF) || document.querySelector("dialog[open]"))) return;
  event.preventDefault();
  found.act(event);
});

function list() {
  const rows = known.map(({ name, does }) => {
    const row = document.createElement("div"), term = document.createElement("dt"), text = document.createElement("dd");
    term.append(...name.split("+").map((part) => Object.assign(document.createElement("kbd"), { textContent: part.length === 1 && name.includes("+") ? part.toUpperCase() : part })));
    say(text, does);
    row.append(term, text);
    return row;
  });
  id("keys-list").replaceChildren(...rows);
  id("keys-single").checked = !localStorage.getItem(OFF);
}

key("?", words.keys["show-keys"], showKeys);
key("/", words.keys.search, () => (all("[data-search]").find((e) => e.checkVisibility()) ?? null)?.focus());

export function showKeys() {
  list();
  openDialog(id("keys"));
}

id("keys-single").addEventListener("change", ({ target }) => {
  if (target.checked) localStorage.removeItem(OFF);
  else localStorage.setItem(OFF, "1");
});
