// Buttons that act: ask before an interruption, tell what has not been done.
import { all, fill, id, on, say, words } from "./dom.js";

const problem = (kind, code) => say(id("problem"), kind && id("problem").dataset[kind].replace("%", code));

/** Listen to what people have pressed, not to refreshes. */
const pressed = (event, act) => on(event, ({ detail }) => detail.requestConfig.verb !== "get" && act(detail));

on("htmx:confirm", (event) => {
  const { question, elt, issueRequest } = event.detail;
  if (!question) return;
  event.preventDefault();
  const { title, yes, no, for: name, always } = elt.dataset;
  const shown = all("[data-glyph]").find((each) => each.dataset.name === name);
  const verb = elt.textContent.trim(), dialog = id("confirm");
  if (shown && shown.dataset.status !== "ready" && always === undefined) return issueRequest(true);
  say(id("confirm-title"), title || fill(words.ask, { verb, name }));
  say(id("confirm-text"), question);
  say(id("confirm-yes"), yes || verb);
  say(id("confirm-no"), no || words.cancel);
  dialog.returnValue = "";
  dialog.onclose = () => dialog.returnValue && issueRequest(true);
  dialog.showModal();
});
pressed("htmx:beforeRequest", () => problem(""));
pressed("htmx:sendError", () => problem("unsent"));
pressed("htmx:responseError", ({ xhr: { status } }) => {
  problem({ 403: "forbidden", 404: "missing" }[status] || "failed", status);
});
pressed("htmx:afterRequest", ({ successful, xhr, pathInfo }) => {
  if (successful && !xhr.responseURL.endsWith(pathInfo.requestPath)) problem("forbidden"); // sent on to a login page
});
