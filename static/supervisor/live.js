// What a push cannot do: tick, tell whether the page is live, ask before an interruption.
(() => {
  "use strict";
  const SILENCE = 40000; // the server says something every 15 s
  const LOG_IN = 4003;
  const id = (name) => document.getElementById(name);
  const all = (selector) => [...document.querySelectorAll(selector)];
  const on = (event, act) => document.addEventListener(event, act);
  const say = (element, text) => element.textContent === text || (element.textContent = text);
  let state = "connecting", skew = 0, heard = Date.now(), socket, wrapper;

  // Time, worded as supervisor_tags does.
  const two = (number) => String(number).padStart(2, "0");
  function duration(seconds) {
    const s = Math.max(0, Math.floor(seconds)), m = Math.floor(s / 60), h = Math.floor(s / 3600);
    if (!m) return `${s} s`;
    if (!h) return `${m} m ${two(s % 60)} s`;
    return h < 24 ? `${h} h ${two(m % 60)} m` : `${Math.floor(h / 24)} d ${h % 24} h`;
  }
  function ago(seconds) {
    for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"], [5, "s"]]) {
      if (seconds >= size) return `${Math.floor(unit === "s" ? seconds : seconds / size)} ${unit} ago`;
    }
    return "just now";
  }
  function tick() {
    const now = Date.now() + skew;
    for (const e of all("[data-uptime-since]")) say(e, duration((now - e.dataset.uptimeSince) / 1000));
    for (const e of all("[data-countdown-to]")) {
      const left = Math.ceil((e.dataset.countdownTo - now) / 1000);
      say(e, left > 0 ? `in ${duration(left)}` : "now");
    }
    for (const e of all("[data-ago]")) say(e, ago((now - Date.parse(e.dateTime)) / 1000));
    if (state !== "login" && Date.now() - heard > SILENCE) renew();
  }

  // What a swap cannot know: this browser's time zone, its tab.
  function dress() {
    for (const e of all("time")) {
      const time = new Date(e.dateTime);
      e.title = time.toLocaleString();
      if ("clock" in e.dataset) {
        say(e, time.toLocaleString("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" }));
      }
    }
    const servers = all("article.server"), live = state === "live" || state === "connecting";
    if (!servers.length) return;
    const sure = servers.filter((e) => live && !("stale" in e.dataset));
    const of = (status) => sure.filter((e) => e.dataset.status === status);
    const { glyph, word, name } = servers[0].dataset;
    const one = `${sure.length ? `${glyph} ${word.toLowerCase()}` : "? not live"} · ${name}`;
    document.title = `${servers.length > 1 ? `${of("ready").length} of ${servers.length} ready` : one} – llamaproxy`;
    const [worst] = ["error", "crashed", "starting", "ready"].flatMap(of);
    const fill = worst ? getComputedStyle(worst).getPropertyValue("--tone") : "#8b8d98";
    const dot = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><circle cx="4" cy="4" r="3" fill="${fill}"/></svg>`;
    document.querySelector("link[rel=icon]").href = `data:image/svg+xml,${encodeURIComponent(dot)}`;
    tick();
  }

  // The connection.
  function connection(now) {
    if (state === now) return;
    state = document.body.dataset.connection = id("connection").dataset.state = now;
    say(id("connection-says"), id("connection").dataset[now]);
    dress();
  }
  function renew() {
    heard = Date.now();
    connection("lost");
    if (socket.readyState === WebSocket.CONNECTING) socket.close();
    if (socket.readyState !== WebSocket.OPEN) return;
    socket.onclose = null; // a goodbye would wait for an answer that does not come
    wrapper.reconnect();
  }
  htmx.config.wsReconnectDelay = (tries) => Math.min(5000, 250 * 2 ** tries) * (0.75 + Math.random() / 2);
  htmx.createWebSocket = (url) => (socket = new WebSocket(url));
  on("htmx:wsOpen", (event) => {
    wrapper = event.detail.socketWrapper;
    heard = Date.now();
    for (const e of all("[data-version]")) e.dataset.version = 0; // whoever answers may count anew
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
  });

  // The buttons.
  on("htmx:confirm", (event) => {
    const { question, elt, issueRequest } = event.detail;
    if (!question) return;
    event.preventDefault();
    const server = id(`server-${elt.dataset.for}`), verb = elt.textContent.trim(), dialog = id("confirm");
    if (server?.dataset.status !== "ready") return issueRequest(true);
    say(id("confirm-title"), `${verb} ${elt.dataset.for}?`);
    say(id("confirm-text"), question);
    say(id("confirm-yes"), verb);
    dialog.returnValue = "";
    dialog.onclose = () => dialog.returnValue && issueRequest(true);
    dialog.showModal();
  });
  const problem = (kind, code) => say(id("problem"), kind && id("problem").dataset[kind].replace("%", code));
  const pressed = (event, act) => on(event, ({ detail }) => detail.requestConfig.verb !== "get" && act(detail)); // no refresh
  pressed("htmx:beforeRequest", () => problem(""));
  pressed("htmx:sendError", () => problem("unsent"));
  pressed("htmx:responseError", ({ xhr: { status } }) => {
    problem({ 403: "forbidden", 404: "missing" }[status] || "failed", status);
  });
  pressed("htmx:afterRequest", ({ successful, xhr, pathInfo }) => {
    if (successful && !xhr.responseURL.endsWith(pathInfo.requestPath)) problem("forbidden"); // sent on to a login page
  });
  on("htmx:afterSwap", dress);

  dress();
  setInterval(tick, 500);
  on("visibilitychange", tick);
})();
