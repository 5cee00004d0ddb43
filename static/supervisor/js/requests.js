// The pages of requests: times that go on, a question before a cancel, and quiet while the tab is hidden.
import { id, on, say } from "./dom.js";
import { localiseTimes, tickTimes } from "./time.js";

let skew = 0;
const problem = (kind, code) => {
  const place = id("problem");
  if (place) say(place, kind && place.dataset[kind].replace("%", code));
};

function dress() {
  const told = id("in-flight");
  if (told) skew = told.dataset.serverNow - Date.now();
  localiseTimes();
  tick();
}

function tick() {
  tickTimes(Date.now() + skew);
}

on("htmx:confirm", (event) => {
  const { question, issueRequest } = event.detail;
  if (!question) return;
  event.preventDefault();
  const dialog = id("confirm");
  dialog.returnValue = "";
  dialog.onclose = () => dialog.returnValue && issueRequest(true);
  dialog.showModal();
});
on("htmx:beforeRequest", (event) => {
  // Nobody looks at a hidden tab; what people ask for is always tried.
  if (document.hidden && !event.detail.requestConfig.triggeringEvent) event.preventDefault();
});
on("htmx:sendError", () => problem("unsent"));
on("htmx:responseError", ({ detail: { xhr: { status } } }) => problem(status === 403 ? "forbidden" : "failed", status));
on("htmx:afterRequest", ({ detail: { successful } }) => successful && problem(""));
on("htmx:afterSwap", dress);

dress();
setInterval(tick, 500);
