// The log of a server: the address says what is shown, the end of the log is followed.
import { copyText } from "./clipboard.js";
import { counted, fill, id, say, wordsOf } from "./dom.js";
import { key } from "./keys.js";
import { fetchLines, Tail } from "./logsource.js";
import { view, when } from "./logview.js";
import { watchLine } from "./watch.js";

const box = id("lines"), tools = id("tools"), levels = [...tools.querySelectorAll("[data-level]")];
const words = wordsOf("log-words");
const ENOUGH = 100; // lines that are found before a search waits for somebody to want more
let older = null, newer = null, end = null, news = 0, asking = null, follows = true, found = 0, remote = "";
let screen = new AbortController(), drawing = Promise.resolve(); // what is drawn belongs to the screen for which it came

// What is asked for: the address has all of it, so a link shows the same.

const pressed = (button) => button.getAttribute("aria-pressed") === "true";
const press = (button, is) => button.setAttribute("aria-pressed", is);
const asked = () => Object.fromEntries(new URLSearchParams(location.search));

function filter() {
  const wanted = levels.filter(pressed).map((e) => e.dataset.level), given = {};
  if (id("q").value) given.q = id("q").value;
  if (given.q && pressed(id("pattern"))) given.pattern = 1;
  if (given.q && pressed(id("inverse"))) given.inverse = 1;
  if (wanted.length < levels.length) given.levels = wanted.join("");
  return given;
}
const isFiltered = () => Object.keys(filter()).length > 0;

function readAddress() {
  const { q = "", pattern, inverse, levels: some } = asked();
  id("q").value = q;
  press(id("pattern"), pattern === "1");
  press(id("inverse"), inverse === "1");
  for (const e of levels) press(e, !some || some.includes(e.dataset.level));
}

function go(parameters, { remember = false } = {}) {
  const query = new URLSearchParams(parameters).toString();
  history[remember ? "pushState" : "replaceState"](null, "", query ? `?${query}` : location.pathname);
  readAddress();
  load();
}

// Loading

function state(name, text) {
  for (const e of id("blank").children) e.hidden = e.dataset.for !== name;
  id("blank").hidden = !name;
  const said = id("blank").querySelector(`[data-for="${name}"] span`);
  if (text && said) say(said, text);
  box.setAttribute("aria-busy", name === "loading");
}

/** Ask for a page and draw it. Resolves to the page; to nothing if that failed, or something else was asked for. */
async function ask(parameters, draw) {
  asking?.abort();
  const mine = (asking = new AbortController());
  try {
    const page = await fetchLines(parameters, mine.signal);
    await draw(page, mine.signal);
    asking = null;
    return page;
  } catch (error) {
    if (error.name === "AbortError") return;
    asking = null;
    if (error.code === "no_log") state("none", error.message), tail.want(true);
    else if (error.code === "bad_query") state(""), searched(null, error.message);
    else if (view.isEmpty()) state("failed", error.message);
    else say(id("told"), error.message);
  }
}

/** Show what the address asks for, from scratch. */
async function load() {
  const given = asked(), isFilter = isFiltered();
  screen.abort();
  screen = new AbortController();
  view.clear();
  state("loading");
  tail.want(false);
  [older, newer, end, found] = [null, null, null, 0];
  setNews(0);
  follows = isFilter || !(given.at || given.run || given.around);
  press(id("follow"), follows);
  id("download").href = `${id("log").dataset.download}?${new URLSearchParams(filter())}`;
  searched(null);
  const page = await ask(isFilter ? filter() : given, async (page, signal) => {
    await view.append(page.items, signal, () => follows);
    ({ older, newer, end } = page);
    view.tail(page.tail);
    state(page.items.length || (isFilter && !page.searched.done) ? "" : isFilter ? "nothing" : "none");
    if (follows) view.toEnd();
    else if (page.focus) view.select(view.find(page.focus) ?? null), view.current()?.scrollIntoView({ block: "center" });
    if ("keptFrom" in page) searched(null, id("log").dataset.gone.replace("%", page.keptFrom ? when(page.keptFrom) : "…"));
    remote = page.node ?? "";
    tail.want(!remote);
    if (remote) connection("live", fill(words.onNode, { node: remote }));
  });
  if (page && isFilter) goOn(page);
}

/** Tell how far a search has come, and let it go on while it has found little. */
function goOn(page) {
  found += page.items.length;
  searched(page.searched);
  if (older && found < ENOUGH) loadOlder();
}

function searched(how, text = "") {
  const size = (bytes) => `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
  const form = how?.done ? words.searchedAll : how?.back ? words.searchedBack : words.searched;
  const said = how ? fill(form, { lines: counted(words.found, found), back: how.back && when(how.back), bytes: size(how.bytes), total: size(how.total) }) : text;
  id("searched").hidden = !said;
  say(id("searched").firstElementChild, said);
  id("go-on").hidden = !how || how.done || found < ENOUGH;
}

async function loadOlder() {
  if (!older || asking) return;
  const page = await ask({ ...filter(), before: older }, async (page, signal) => {
    const gone = await view.prepend(page.items, signal);
    older = page.older;
    if (gone) [newer, end] = [gone, gone], setFollows(false);
  });
  if (!page?.searched) return;
  goOn(page);
  if (page.searched.done && !found) state("nothing");
  else if (page.items.length) state("");
  if (follows) view.toEnd();
}

async function loadNewer() {
  if (!newer || asking || isFiltered()) return;
  await ask({ after: newer }, async (page, signal) => {
    older = (await view.append(page.items, signal)) ?? older;
    ({ newer } = page);
    end = page.end ?? end;
    view.tail(page.tail);
    if (!newer) setNews(0), tail.want(true);
  });
}

// Following

function setNews(count) {
  news = count;
  id("news").hidden = !news;
  if (news) say(id("news"), counted(words.news, news));
}

function setFollows(is) {
  follows = is;
  press(id("follow"), is);
}

/** Go to the end and stay there. */
function toEnd() {
  if (!isFiltered() && (newer || news)) return go({});
  setFollows(true);
  setNews(0);
  view.toEnd();
}

/** Draw what was pushed, in the order in which it came. Resolves once it is drawn. */
function heard(message) {
  const { signal } = screen;
  drawing = drawing.then(() => signal.aborted || show(message, signal)).catch((error) => error.name === "AbortError" || reportError(error));
  return drawing;
}

async function show(message, signal) {
  if ("tail" in message && !newer) view.tail(message.tail);
  if (!message.items) return;
  const lines = message.items.length + (message.skipped ?? 0);
  if (follows || (isFiltered() && !view.isEmpty())) {
    if (message.skippedBytes) view.gap(message.skipped, message.skippedBytes);
    if (isFiltered()) found += message.items.length;
    end = message.end;
    if (message.items.length) state("");
    const first = await view.append(message.items, signal, () => follows);
    if (first && !isFiltered()) older = first;
    view.tail(message.tail);
    if (follows) return view.toEnd();
  } else {
    newer ??= end;
  }
  setNews(news + lines);
}

/** The log lies on another host: its supervisor is asked for what has come since. */
async function askRemote() {
  if (!remote || document.hidden || asking || newer || isFiltered()) return;
  try {
    const page = await fetchLines({ after: end });
    if (page.items.length) heard({ ...page, skipped: 0, skippedBytes: 0 });
    connection("live", fill(words.onNode, { node: remote }));
  } catch {
    connection("lost");
  }
}
setInterval(askRemote, 2000);

function connection(now, said = id("log-connection").dataset[now]) {
  id("log-connection").dataset.state = now === "paused" || now === "full" ? "lost" : now;
  say(id("log-connection").lastElementChild, said);
}

const tail = new Tail({
  heard,
  said: (now) => connection(now),
  query: () => ({ ...filter(), ...(end ? { after: end } : {}) }),
});

// What people do

box.addEventListener("scroll", () => {
  if (box.scrollTop < 300 && !isFiltered()) loadOlder();
  const atEnd = view.isAtEnd();
  if (atEnd && newer) loadNewer();
  else if (atEnd && !news) setFollows(true);
  else if (!atEnd && follows && box.scrollTop < lastTop) setFollows(false);
  lastTop = box.scrollTop;
});
let lastTop = 0, typing;

tools.addEventListener("submit", (event) => {
  event.preventDefault();
  go(filter());
});
id("q").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => go(filter()), 350);
});
for (const button of [id("pattern"), id("inverse"), ...levels]) {
  button.addEventListener("click", () => {
    press(button, !pressed(button));
    if (button.dataset.level || id("q").value) go(filter());
  });
}
id("follow").addEventListener("click", () => (follows ? setFollows(false) : toEnd()));
id("news").addEventListener("click", toEnd);
id("go-on").addEventListener("click", () => {
  found = 0;
  loadOlder();
});
id("again").addEventListener("click", load);
id("at").addEventListener("change", ({ target: { value } }) => value && go({ at: new Date(value).toISOString() }, { remember: true }));
addEventListener("popstate", () => {
  readAddress();
  load();
});

async function copy(text, told) {
  await copyText(text);
  say(id("told"), told);
}

const DO = {
  copy: (line) => copy(view.textOf(line), words.lineCopied),
  link(line) {
    const at = line.querySelector("time")?.dateTime;
    const url = new URL(location.pathname, location.href);
    url.search = new URLSearchParams(at ? { at } : { around: line.dataset.c });
    copy(url.href, words.linkCopied);
  },
  context: (line) => go({ around: line.dataset.c }, { remember: true }),
  watch: (line) => watchLine(view.textOf(line)),
};

box.addEventListener("click", ({ target }) => {
  const act = target.closest("[data-do]")?.dataset.do;
  if (act) return DO[act](view.current());
  const line = target.closest(".line");
  if (line && !String(getSelection())) view.select(line, { scroll: false });
});
const MOVES = {
  ArrowUp: () => view.step(-1),
  ArrowDown: () => view.step(1),
  Escape: () => view.select(null),
};
box.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target !== box || !(event.key in MOVES)) return;
  event.preventDefault();
  if (event.key === "ArrowUp") setFollows(false);
  MOVES[event.key]();
});
for (const [name, act] of [["c", "copy"], ["l", "link"], ["x", "context"], ["a", "watch"]]) {
  const help = id("log").dataset[act]; // a page says nothing of what its reader may not do
  if (help) key(name, help, () => view.current() && DO[act](view.current()));
}
key("End", id("log").dataset.end, toEnd);

readAddress();
load();
