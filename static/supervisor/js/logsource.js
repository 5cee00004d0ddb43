// Where the lines of a log come from: pages of it on request, and what follows on a socket.
import { fill, id, wordsOf } from "./dom.js";

const { lines, socket } = id("log").dataset;
const words = wordsOf("log-words");
const LOG_IN = 4003, BAD = 4000, FULL = 4008, SILENCE = 40000;

/** Fetch lines. Rejects with a sentence; an abort is passed on. */
export async function fetchLines(parameters, signal) {
  let answer;
  try {
    answer = await fetch(`${lines}?${new URLSearchParams(parameters)}`, { signal, headers: { Accept: "application/json" } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error(words.unreached);
  }
  const said = await answer.json().catch(() => null);
  if (answer.ok && said) return said;
  throw Object.assign(new Error(said?.error?.message ?? fill(words.failed, { status: answer.status })), { code: said?.error?.code });
}

/** Follows a log while the tab is seen; after each loss from where the page has got to. */
export class Tail {
  constructor({ heard, said, query }) {
    Object.assign(this, { heard, said, query, socket: null, tries: 0, wanted: false, at: 0 });
    document.addEventListener("visibilitychange", () => this.look());
    setInterval(() => this.socket && Date.now() - this.at > SILENCE && this.renew(), 5000);
  }

  /** Follow, or follow no more. */
  want(wanted) {
    this.wanted = wanted;
    this.renew();
  }

  renew() {
    this.drop();
    this.look();
  }

  look() {
    const may = this.wanted && !document.hidden;
    if (may && !this.socket) this.open();
    if (!may) this.drop();
    if (this.wanted && document.hidden) this.said("paused");
  }

  drop() {
    clearTimeout(this.timer);
    if (!this.socket) return;
    const left = this.socket;
    this.socket = left.onclose = left.onmessage = null;
    if (left.readyState === WebSocket.CONNECTING) left.onopen = () => left.close(); // else the console calls it an error
    else left.close();
  }

  open() {
    const query = new URLSearchParams(this.query()), url = new URL(`${socket}&${query}`, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    this.socket = new WebSocket(url);
    this.at = Date.now();
    this.socket.onopen = () => {
      this.tries = 0;
      this.said("live");
    };
    this.socket.onmessage = ({ data }) => {
      this.at = Date.now();
      const message = JSON.parse(data), from = this.socket;
      // Taken once it is drawn: a page that is slow gets less, and is told how much was left out.
      const drawn = this.heard(message);
      if (message.items) drawn.then(() => requestAnimationFrame(() => from.readyState === WebSocket.OPEN && from.send("ok")));
    };
    this.socket.onclose = ({ code }) => {
      this.socket = null;
      this.said({ [LOG_IN]: "login", [FULL]: "full" }[code] ?? "lost");
      if (code === LOG_IN || code === BAD) return;
      const pause = Math.min(5000, 250 * 2 ** this.tries++) * (0.75 + Math.random() / 2);
      this.timer = setTimeout(() => this.look(), pause);
    };
  }
}
