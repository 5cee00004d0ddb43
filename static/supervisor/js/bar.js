// Bars: arrow keys move along their slices, and times are in the reader's zone.
import { all, locale, on } from "./dom.js";

const KEYS = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };

on("keydown", (event) => {
  const slice = event.target.closest?.("[data-bar] > .slice");
  if (!slice || !(event.key in KEYS) || event.ctrlKey || event.metaKey || event.altKey) return;
  const slices = [...slice.parentElement.children];
  const to = slices.indexOf(slice) + KEYS[event.key];
  const next = slices[Math.max(0, Math.min(slices.length - 1, to))];
  for (const other of slices) other.tabIndex = other === next ? 0 : -1;
  next.focus();
  event.preventDefault();
});

const clock = (time) => time.toLocaleTimeString(locale, { hour: "2-digit", minute: "2-digit" });
const day = (time) => time.toLocaleDateString(locale, { day: "numeric", month: "short" });

function localise() {
  for (const e of all("[data-bar] > .slice")) {
    const said = e.getAttribute("aria-label");
    if (!said.includes(" UTC")) continue;
    const [from, to] = [e.dataset.from, e.dataset.to].map((seconds) => new Date(1000 * seconds));
    const same = day(from) === day(to);
    const range = same ? `${clock(from)}–${clock(to)}` : `${day(from)} ${clock(from)} – ${day(to)} ${clock(to)}`;
    e.setAttribute("aria-label", said.replace(/\d[^,;]* UTC/, range));
  }
}

localise();
on("htmx:afterSwap", localise);
on("htmx:wsAfterMessage", localise);
