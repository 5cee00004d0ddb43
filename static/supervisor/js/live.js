// The pages of servers: hear of changes over the WebSocket, tell whether the page is live.
import "./buttons.js";
import "./parts.js";
import { all, id, on, say } from "./dom.js";
import "./focus.js";
import { dressTab } from "./tab.js";
import { localiseTimes, tickTimes } from "./time.js";

const SILENCE = 40000, BEAT = 17000; // the server says something every 15 s
const BETWEEN_RELOADS = 60000;
const LOG_IN = 4003;
let state = "connecting", skew = 0, heard = Date.now(), socket, wrapper;

function tick() {
  tickTimes(Date.now() + skew);
  if (state !== "login" && Date.now() - heard > SILENCE) renew();
}

/** Add what no swap can know: this browser's time zone, its clock, its tab. */
function dress() {
  localiseTimes();
  dressTab(state === "live" || state === "connecting");
  tick();
}

function connection(now) {
  if (state === now) return;
  if (now === "login") ended();
  state = document.body.dataset.connection = id("connection").dataset.state = now;
  say(id("connection-says"), id("connection").dataset[now]);
  dress();
}

/** After a sleep: a page that has missed a sign of life is not live, however the socket looks. */
function wake() {
  if (state !== "login" && Date.now() - heard > BEAT) renew();
  tick();
}

function see() {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type: "visibility", hidden: document.hidden }));
  if (document.hidden) reloadOutdated();
  else wake();
}

/** Nobody looks, so nobody is disturbed. Two versions at a time, behind one address, must not make it a loop. */
function reloadOutdated() {
  if (id("outdated").hidden || Date.now() - (sessionStorage.getItem("reloaded") ?? 0) < BETWEEN_RELOADS) return;
  sessionStorage.setItem("reloaded", Date.now());
  location.reload();
}

const ended = () => (id("ended").hidden = false);

function renew() {
  heard = Date.now();
  connection("lost");
  if (socket.readyState === WebSocket.CONNECTING) socket.close();
  if (socket.readyState !== WebSocket.OPEN) return;
  socket.onclose = null; // a goodbye would wait for an answer that does not come
  wrapper.reconnect();
}

htmx.config.wsReconnectDelay = (tries) => Math.min(5000, 250 * 2 ** tries) * (0.75 + Math.random() / 2);
// A list that is pushed says which entries there are: their content stays until it comes itself.
Idiomorph.defaults.callbacks.beforeNodeMorphed = (_, fresh) => !fresh.hasAttribute?.("data-keep");
htmx.createWebSocket = (url) => (socket = new WebSocket(url));
on("htmx:wsOpen", (event) => {
  wrapper = event.detail.socketWrapper;
  heard = Date.now();
  for (const e of all("[data-version]")) e.dataset.version = 0; // whoever answers may count anew
  if (document.hidden) see();
});
on("htmx:wsClose", ({ detail: { event: { code }, socketWrapper } }) => {
  connection(code === LOG_IN ? "login" : "lost");
  // htmx itself comes back after these four only.
  if (![LOG_IN, 1006, 1011, 1012, 1013].includes(code)) setTimeout(socketWrapper.reconnect, 1000);
});
on("htmx:wsBeforeMessage", ({ detail: { message } }) => {
  heard = Date.now();
  const sent = /data-server-now="(\d+)/.exec(message);
  if (sent) skew = sent[1] - heard;
});
on("htmx:oobBeforeSwap", ({ detail }) => {
  const { target, fragment } = detail, fresh = fragment.firstElementChild;
  const late = fresh && +fresh.dataset.version < +target.dataset.version;
  const said = target.matches("[role=status]") && target.textContent === fragment.textContent;
  if (late || said) detail.shouldSwap = false;
});
on("htmx:wsAfterMessage", () => {
  connection("live");
  dress();
  if (document.hidden) reloadOutdated();
});
on("htmx:beforeRequest", (event) => {
  // While nobody answers or looks, a page does not ask by itself; what people ask for is tried.
  if (!event.detail.requestConfig.triggeringEvent && (state !== "live" || document.hidden)) event.preventDefault();
});
on("htmx:afterSwap", dress);

dress();
setInterval(tick, 500);
on("visibilitychange", see);
on("resume", wake); // a frozen page: its timers stood still
addEventListener("pageshow", wake);
addEventListener("offline", () => state === "live" && connection("lost"));
addEventListener("online", () => state === "lost" && renew());
on("login-ended", ended);
