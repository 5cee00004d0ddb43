// Tell people of a crash who look at something else, if they want that and the browser may.
import { all, id, on, say } from "./dom.js";
import { toast } from "./toast.js";

const WANTED = "notify-of-crashes", DOWN = ["crashed", "error"];
const TOGETHER = 10000; // tabs hear of the same crash within this time
const button = id("notify");
const known = new Map();
const wanted = () => localStorage.getItem(WANTED) && Notification.permission === "granted";

function show() {
  button.setAttribute("aria-pressed", Boolean(wanted()));
}

async function toggle() {
  if (wanted()) {
    localStorage.removeItem(WANTED);
    toast(button.dataset.off);
  } else if ((await Notification.requestPermission()) === "granted") {
    localStorage.setItem(WANTED, "1");
    toast(button.dataset.on, "up");
  } else toast(button.dataset.refused, "warn");
  show();
}

/** Only one of several tabs notifies. Browsers have locks wherever they have notifications. */
function tell(name, word) {
  navigator.locks.request(`notify ${name}`, () => {
    const key = `notified ${name}`;
    if (Date.now() - localStorage.getItem(key) < TOGETHER) return;
    localStorage.setItem(key, Date.now());
    new Notification(`${name}: ${word}`, { tag: name, body: button.dataset.body });
  });
}

/** Compare with what was shown before: only a server that went down is news. */
function look() {
  for (const { dataset: { name, status, word, stale } } of all("[data-glyph]")) {
    const before = known.get(name);
    known.set(name, status);
    const fell = before && !DOWN.includes(before) && DOWN.includes(status) && stale === undefined;
    if (fell) dispatchEvent(new CustomEvent("server-down", { detail: name }));
    if (fell && wanted()) tell(name, word);
  }
}

if ("Notification" in window) {
  button.hidden = false;
  button.addEventListener("click", toggle);
  on("notify", toggle);
  on("htmx:wsAfterMessage", look);
  look();
  show();
}
