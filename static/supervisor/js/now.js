// Charts of the last hour, which grow while somebody looks at them.
import { all, fill, id, locale, on } from "./dom.js";

const HOUR = 3600, GAP = 75, STEP = 10000;
const home = id("live-charts"), { says } = home.dataset;
const SHORTEST = 300; // seconds that a chart shows at least
const short = (value) => value.toFixed(value && value < 9.95 ? 1 : 0);
const UNITS = {
  rate: (value) => `${short(value)}/s`,
  count: (value) => `${Math.round(value)}`,
  tokens: (value) => `${Math.round(value)}`,
  cores: short,
  ms: (value) => (value < 999.5 ? `${short(value)} ms` : `${(value / 1000).toFixed(1)} s`),
  bytes: (value) => (value < 2 ** 30 ? `${Math.round(value / 2 ** 20)} MiB` : `${(value / 2 ** 30).toFixed(1)} GiB`),
};
const WHOLE = Array.from({ length: 12 }, (_, power) => [1, 2, 5].map((number) => number * 10 ** power)).flat();
const STEPS = { count: WHOLE, tokens: WHOLE, bytes: WHOLE.map((step) => step * 2 ** 20) }; // of axes whose labels are rounded
let times = [], columns = {}, skew = 0, now = Date.now() / 1000, since = 0, plots = [];

function push(time, value) {
  times.push(time);
  for (const name of Object.keys(columns)) columns[name].push(value(name));
}

/** Add what has come, and forget what is older than an hour. */
function take({ at, figures: { t = [], ...found } }) {
  for (const name of Object.keys(found)) columns[name] ??= times.map(() => null);
  t.forEach((after, row) => {
    // A time in which nobody looked at the server is a gap in its lines.
    if (times.length && at + after - times.at(-1) > GAP) push(times.at(-1) + 1, () => null);
    push(at + after, (name) => found[name]?.[row] ?? null);
  });
  since = times.at(-1) ?? since;
  const first = times.findIndex((time) => time >= now - HOUR), old = first < 0 ? times.length : first;
  for (const list of [times, ...Object.values(columns)]) list.splice(0, old);
}

const colour = (element) => getComputedStyle(element, "::before").color;
const soft = (element) => () => getComputedStyle(element).color;
const line = (element) => () => getComputedStyle(element).borderTopColor;

/** Make the plot of a figure for which something is known. */
function plotOf(figure) {
  const place = figure.querySelector(".plot"), said = UNITS[figure.dataset.unit];
  const lines = [...figure.querySelectorAll("[data-figure]")];
  const axis = { stroke: soft(place), font: "12px system-ui", grid: { stroke: line(place), width: 1 }, ticks: { show: false } };
  const dots = figure.dataset.unit === "ms";
  const series = lines.map((item) => ({
    stroke: () => colour(item), width: 1.5, points: { show: dots, size: 4 }, ...(dots && { paths: () => null }),
  }));
  const plot = new uPlot({
    width: place.clientWidth, height: 130, legend: { show: false }, series: [{}, ...series],
    cursor: { drag: { x: false, y: false }, y: false, points: { show: false } },
    scales: { x: { time: true, range: () => [Math.max(now - HOUR, Math.min(times[0] ?? now, now - SHORTEST)), now] }, y: { range: (_, __, most) => [0, most > 0 ? most * 1.05 : 1] } },
    axes: [
      { ...axis, space: 70, size: 24, values: (_, ticks) => ticks.map((t) => new Date(t * 1000).toLocaleTimeString(locale, { hour: "2-digit", minute: "2-digit" })) },
      { ...axis, space: 34, size: 62, ...(figure.dataset.unit in STEPS && { incrs: STEPS[figure.dataset.unit] }), values: (_, ticks) => ticks.map(said) },
    ],
    hooks: { setCursor: [(made) => tell(figure, lines, said, made.cursor.idx)] },
  }, [[], ...lines.map(() => [])], place);
  return { figure, place, lines, said, plot };
}

const known = (name) => (columns[name] ?? []).filter((value) => value != null);
const newest = (name, index) => (index == null ? known(name).at(-1) : columns[name]?.[index]);

/** Write the value under the pointer, else the newest, beside each name. */
function tell(figure, lines, said, index = null) {
  for (const item of lines) {
    const value = newest(item.dataset.figure, index);
    item.hidden = !known(item.dataset.figure).length;
    item.lastElementChild.textContent = value == null ? "" : said(value);
  }
}

function draw() {
  home.hidden = false;
  home.querySelector("[data-for=none]").hidden = times.length > 0;
  home.querySelector(".charts").hidden = !times.length;
  if (!times.length) return;
  if (!plots.length) plots = all("#live-charts .chart").map(plotOf);
  for (const { figure, place, lines, said, plot } of plots) {
    figure.hidden = !lines.some((item) => known(item.dataset.figure).length);
    if (figure.hidden) continue;
    if (place.clientWidth !== plot.width) plot.setSize({ width: place.clientWidth, height: 130 });
    plot.setData([times, ...lines.map((item) => columns[item.dataset.figure] ?? times.map(() => null))]);
    tell(figure, lines, said, plot.cursor.idx);
    place.setAttribute("aria-label", lines.map((item) => sentence(item, said)).filter(Boolean).join("; "));
  }
  home.dataset.points = times.length;
}

function sentence(item, said) {
  const values = known(item.dataset.figure), name = item.firstChild.textContent.trim();
  if (!values.length) return "";
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length, most = values.reduce((a, b) => Math.max(a, b));
  return fill(says, { name, now: said(values.at(-1)), mean: said(mean), most: said(most) });
}

// Figures come on the socket of the page; each one that opens is told how far the last one has led.
on("htmx:wsOpen", ({ detail }) => detail.socketWrapper.sendImmediately(JSON.stringify({ type: "samples", since })));
on("htmx:wsBeforeMessage", (event) => {
  const { message } = event.detail;
  if (!message.startsWith("{")) return;
  event.preventDefault(); // no fragment
  const told = JSON.parse(message);
  if (told.type !== "samples") return;
  skew = told.now - Date.now() / 1000;
  now = told.now;
  take(told);
  draw();
});

/** Move on with the time, also while nothing is pushed. */
function tick() {
  if (document.hidden || !times.length) return;
  now = Date.now() / 1000 + skew;
  draw();
}

setInterval(tick, STEP);
on("visibilitychange", tick);
addEventListener("resize", () => times.length && draw());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plots.forEach(({ plot }) => plot.redraw()));
new MutationObserver(() => plots.forEach(({ plot }) => plot.redraw())).observe(document.documentElement, { attributeFilter: ["data-theme"] });
