// Focus that is not lost when what has it goes away: a row that was deleted, a button that has done its work.
import { on } from "./dom.js";

const FOCUSABLE = "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex]:not([tabindex='-1'])";
const canTake = (element) => !element.disabled && element.checkVisibility();
const within = (region) => [...region.querySelectorAll(FOCUSABLE)].filter(canTake);

let left; // what has had the focus, and where that was

/** Remember where the focus is: afterwards nobody can tell. */
function remember(target) {
  const active = document.activeElement;
  if (!target?.contains(active) || active === document.body) return;
  const regions = [];
  for (let each = active.parentElement; each && each.id !== "main"; each = each.parentElement) {
    if (each.matches("section, [role=region]")) regions.push({ region: each, id: each.id, place: within(each).indexOf(active) });
  }
  left = { active, regions };
}

/** Give the focus to what has come into its place: the next of its kind, else the heading of its region. */
function restore() {
  const { active, regions } = left ?? {};
  left = undefined;
  if (!active || (active.isConnected && canTake(active)) || document.activeElement !== document.body) return;
  for (const { region, id, place } of regions) {
    const now = region.isConnected ? region : id && document.getElementById(id);
    if (!now?.checkVisibility()) continue;
    const others = within(now);
    return take(others[Math.min(place, others.length - 1)] ?? now.querySelector("h1, h2, h3") ?? now);
  }
  take(document.querySelector("#main h1") ?? document.getElementById("main"));
}

function take(element) {
  if (!element.matches(FOCUSABLE)) element.tabIndex = -1;
  element.focus();
}

on("htmx:beforeSwap", ({ detail }) => remember(detail.target));
on("htmx:oobBeforeSwap", ({ detail }) => remember(detail.target));
for (const swapped of ["htmx:afterSettle", "htmx:wsAfterMessage"]) on(swapped, restore);
