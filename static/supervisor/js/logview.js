// The window into a log: a bounded part of its lines, in the order of the log.
import { counted, fill, filled, id, locale, wordsOf } from "./dom.js";

const MOST = 1200; // lines: of 3000 a flood made a task of 100 ms each quarter of a second, and pages of it come as one scrolls
const SLICE = 100; // lines that are drawn in one frame
const words = wordsOf("log-words");
const box = id("lines");
const runs = id("log").dataset.runs;
const clock = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 });
const moment = new Intl.DateTimeFormat(locale, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" });

const today = new Date().toDateString();
const clockOf = (ms) => (new Date(ms).toDateString() === today ? clock.format(ms) : moment.format(ms));

export const when = (ms) => moment.format(ms);
const element = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};
const link = (run, text) => element("a", { href: `${runs}${run}/`, textContent: text });

function line({ c, l, s, t }) {
  const pieces = typeof s === "string" ? [s] : s.map(([text, style]) => element("span", { className: style, textContent: text }));
  const made = element("div", { className: "line" });
  if (t !== undefined) {
    made.append(element("time", { textContent: clockOf(t), dateTime: new Date(t).toISOString(), title: new Date(t).toLocaleString() }));
  }
  made.append(element("span", {}, ...pieces));
  Object.assign(made.dataset, { c, l });
  return made;
}

function end({ run, title, failed, at }) {
  const said = element("span", { textContent: title });
  said.dataset.tone = failed ? "bad" : "idle";
  return element("span", {}, ...filled(words.ended, { title: said, run: link(run, fill(words.run, { number: run })), at: when(at) }));
}

function begin({ run, at, build }) {
  const values = { run: link(run, fill(words.newRun, { number: run })), at: when(at), build };
  return element("span", {}, ...filled(build ? words.startedBuild : words.started, values));
}

function mark({ c, ended, started }) {
  const made = element("div", { className: "mark" });
  if (ended) made.append(end(ended));
  if (started) made.append(begin(started));
  if (started?.command) made.append(element("code", { textContent: started.command }));
  if (c) made.dataset.c = c;
  return made;
}

const shown = (item) => (item.s === undefined ? mark(item) : line(item));
const all = () => [...box.children].filter((e) => e.dataset.c);
const first = () => box.querySelector(":scope > [data-c]")?.dataset.c;
const frame = () => new Promise(requestAnimationFrame);

function last() {
  let found = box.lastElementChild;
  while (found && !found.dataset.c) found = found.previousElementSibling;
  return found;
}

const isEmpty = () => !box.firstElementChild;
const isAtEnd = () => box.scrollHeight - box.scrollTop - box.clientHeight < 40;
const toEnd = () => (box.scrollTop = box.scrollHeight);
const find = (place) => all().find((e) => e.dataset.c === place);

function clear() {
  box.replaceChildren();
}

/** Draw slices one after the other, a frame for each, unless the signal says that something else is to be shown. */
async function inFrames(slices, signal, draw) {
  for (const slice of slices) {
    if (slice !== slices[0]) await frame();
    signal.throwIfAborted();
    draw(slice);
  }
}

function slicesOf(items) {
  const count = Math.ceil(items.length / SLICE);
  return Array.from({ length: count }, (_, n) => items.slice(n * SLICE, (n + 1) * SLICE));
}

/** Put items after those that are shown; `follows()`: stay at the end. Returns the place of the first line that is left, if some had to go. */
async function append(items, signal, follows = () => false) {
  let left = null;
  tail(null);
  if (items.length && last()?.dataset.c === items[0].c) last().remove(); // it was still being written
  await inFrames(slicesOf(items), signal, (slice) => {
    box.append(...slice.map(shown));
    left = shorten(follows()) ?? left;
    if (follows()) toEnd();
  });
  return left;
}

function shorten(follows) {
  const surplus = box.childElementCount - MOST;
  if (surplus <= 0) return null;
  const top = follows || box.scrollHeight;
  for (let n = 0; n < surplus; n++) box.firstElementChild.remove();
  if (!follows) box.scrollTop -= top - box.scrollHeight;
  return first();
}

/** Put items before those that are shown. Returns the place of the first line that had to go at the end. */
async function prepend(items, signal) {
  let gone = null;
  await inFrames(slicesOf(items).reverse(), signal, (slice) => {
    const top = box.scrollHeight;
    box.prepend(...slice.map(shown));
    box.scrollTop += box.scrollHeight - top;
    while (box.childElementCount > MOST) {
      gone = box.lastElementChild.dataset.c ?? gone;
      box.lastElementChild.remove();
    }
  });
  return gone;
}

/** Say that lines were left out, for they came too fast. */
function gap(lines, bytes) {
  const size = bytes > 1e6 ? `${(bytes / 1e6).toFixed(1)} MB` : `${Math.ceil(bytes / 1e3)} kB`;
  const said = lines === null ? fill(words.skippedBytes, { size }) : counted(words.skipped, lines, { size });
  box.append(element("div", { className: "gap", textContent: said }));
}

/** Say below the last line how the last life ended; nothing while it goes on. */
function tail(ended) {
  id("tail")?.remove();
  if (ended) box.append(Object.assign(mark({ ended }), { id: "tail" }));
}

/** Make a line the current one, with its buttons. */
function select(chosen, { scroll = true } = {}) {
  for (const e of box.querySelectorAll(".current")) e.classList.remove("current");
  box.querySelector(".actions")?.remove();
  if (!chosen) return;
  chosen.classList.add("current");
  if (chosen.matches(".line")) chosen.append(id("actions").content.cloneNode(true));
  if (scroll) chosen.scrollIntoView({ block: "nearest" });
}

const current = () => box.querySelector(".current");
const textOf = (chosen) => chosen.querySelector(":scope > span")?.textContent ?? chosen.textContent;

function step(by) {
  const rows = all(), at = rows.indexOf(current());
  const next = at < 0 ? rows.at(-1) : rows[Math.min(rows.length - 1, Math.max(0, at + by))];
  select(next);
  return next;
}

export const view = { element, isEmpty, isAtEnd, toEnd, find, clear, append, prepend, gap, tail, select, current, textOf, step };
