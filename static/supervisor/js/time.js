// Times that go on while nothing is pushed. The words are those of `common/words.py`.
import { all, fill, locale, say, words } from "./dom.js";

const two = (number) => String(number).padStart(2, "0");

function duration(seconds) {
  const s = Math.max(0, Math.floor(seconds)), m = Math.floor(s / 60), h = Math.floor(s / 3600);
  if (!m) return `${s} s`;
  if (!h) return `${m} m ${two(s % 60)} s`;
  return h < 24 ? `${h} h ${two(m % 60)} m` : `${Math.floor(h / 24)} d ${h % 24} h`;
}

function ago(seconds) {
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "m"], [5, "s"]]) {
    const time = `${Math.floor(unit === "s" ? seconds : seconds / size)} ${unit}`;
    if (seconds >= size) return fill(words.ago, { time });
  }
  return words.justNow;
}

/** Word every time of the page anew. `now`: the server's clock, in milliseconds. */
export function tickTimes(now) {
  for (const e of all("[data-uptime-since]")) say(e, duration((now - e.dataset.uptimeSince) / 1000));
  for (const e of all("[data-countdown-to]")) {
    const left = Math.ceil((e.dataset.countdownTo - now) / 1000);
    say(e, left > 0 ? fill(words.in, { time: duration(left) }) : words.now);
  }
  for (const e of all("[data-ago]")) say(e, ago((now - Date.parse(e.dateTime)) / 1000));
}

const CLOCK = { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" };
const FORMS = { clock: CLOCK, instant: { ...CLOCK, year: "numeric", second: "2-digit" } };

/** Show moments in this browser's time zone, which the server does not know. */
export function localiseTimes() {
  for (const e of all("time:is([data-ago], [data-clock], [data-instant])")) {
    const time = new Date(e.dateTime);
    e.title = time.toLocaleString();
    const form = FORMS[Object.keys(FORMS).find((name) => name in e.dataset)];
    if (form) say(e, time.toLocaleString(locale, form));
  }
}
