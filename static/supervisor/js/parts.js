// The parts of a page that its socket pushes: which they are, and how they stay true where there is no socket.
import { all, id, on } from "./dom.js";

const PAUSE = 15000; // between two looks without a socket
let told = "[]", socket, hasOpened = false;

/** Say which parts the page shows. */
function tell() {
  const shown = all("[data-pushed]").map((part) => part.getAttribute("hx-get")), said = JSON.stringify(shown);
  if (socket?.readyState !== WebSocket.OPEN || said === told) return;
  told = said;
  socket.send(JSON.stringify({ type: "parts", shown }));
}

function refresh() {
  for (const part of all("[data-pushed]")) htmx.trigger(part, "refresh");
}

on("htmx:wsOpen", ({ detail }) => {
  [socket, told, hasOpened] = [detail.event.target, "[]", true];
  tell();
});
on("htmx:afterSwap", tell);
on("htmx:wsBeforeMessage", (event) => {
  if (!event.detail.message.startsWith('{"type": "login-ended"')) return;
  event.preventDefault(); // no fragment
  document.dispatchEvent(new Event("login-ended"));
  refresh(); // what needs a login goes
});

on("htmx:oobBeforeSwap", ({ detail }) => {
  const { target, fragment } = detail, fresh = fragment.firstElementChild;
  if (!fresh || !("pushed" in fresh.dataset)) return;
  // A push that was under way while people chose something else.
  if (fresh.getAttribute("hx-get") !== target.getAttribute("hx-get")) detail.shouldSwap = false;
});

htmx.defineExtension("rows", {
  /** Figures of the overview come also of servers whose rows are still on their way: they have no place yet. */
  transformResponse(text) {
    if (!text.includes("data-of-row")) return text;
    const said = document.createElement("template");
    said.innerHTML = text;
    for (const each of [...said.content.children]) if ("ofRow" in each.dataset && !id(each.id)) each.remove();
    return said.innerHTML;
  },
});

// Some proxies let no WebSocket through. A socket that was there comes back by itself.
setInterval(() => {
  if (!hasOpened && !document.hidden) refresh();
}, PAUSE);

// What is rendered for all readers has nobody's token.
on("submit", ({ target }) => {
  const { "X-CSRFToken": token } = JSON.parse(document.body.getAttribute("hx-headers") ?? "{}");
  if (!token || target.method !== "post" || target.elements.csrfmiddlewaretoken) return;
  const field = Object.assign(document.createElement("input"), { type: "hidden", name: "csrfmiddlewaretoken", value: token });
  target.append(field);
});
