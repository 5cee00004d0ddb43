// The playground: one or two conversations beside each other, and a load test. Nothing of it is kept by llamaproxy.
import { copyText } from "../clipboard.js";
import { all, id, on, say } from "../dom.js";
import { toast } from "../toast.js";
import { curl, openai } from "./copies.js";
import { Gateway } from "./gateway.js";
import { LoadTest } from "./load.js";
import { bodyOf, Pane } from "./pane.js";

const page = id("playground"), words = { ...page.dataset };
const KEY = "playground-key", TALK = "playground-talk";
const MODELS_EVERY = 5000, MODELS_SOON = 500;
const gateway = new Gateway(page.dataset.gateway, () => sessionStorage.getItem(KEY) ?? "", words.unreachable);
const panes = all("[data-pane]").map((element) => new Pane(element, gateway, words));
const load = new LoadTest(gateway, words, page.dataset.phases);
let image = "", models = [];

const shown = () => panes.filter((pane) => !pane.element.hidden);
const isBusy = () => panes.some((pane) => pane.isBusy);

// Models: asked again and again, because one that is loaded or added appears without a reload.

async function learnModels() {
  try {
    models = await gateway.models();
    tellTrouble("");
    for (const select of all("[data-part=model]")) offer(select);
  } catch (error) {
    tellTrouble(error.message);
    id("key-box").open ||= error.status === 401;
  }
  dress();
}

function offer(select) {
  const names = models.map((model) => model.id), before = select.value || remembered().models?.[select.dataset.place];
  if (names.join("\n") !== [...select.options].map((option) => option.value).join("\n")) {
    select.replaceChildren(...names.map((name) => new Option(name, name)));
    if (names.includes(before)) select.value = before;
    else if (select.dataset.place === "1" && names.length > 1) [, select.value] = names;
  }
}

function tellTrouble(text) {
  say(id("playground-trouble"), text);
  id("playground-trouble").hidden = !text;
}

const takesImages = () => shown().every((pane) => models.find((model) => model.id === pane.model.value)?.architecture?.input_modalities?.includes("image"));

function dress() {
  const busy = isBusy(), has = models.length > 0, [first] = panes;
  id("send").hidden = busy;
  id("stop").hidden = !busy;
  id("send").disabled = !has;
  id("again").disabled = busy || !first.turns.length;
  id("new").disabled = busy || !first.turns.length;
  for (const copy of all("[data-copy]")) copy.disabled = !first.turns.length;
  id("image-field").hidden = !has || !takesImages();
  id("load-go").disabled = !has || load.stop !== null;
  id("load-stop").hidden = load.stop === null;
}

// The conversation, which this tab keeps until it is closed.

const remembered = () => JSON.parse(sessionStorage.getItem(TALK) ?? "{}");

function remember() {
  const kept = { turns: panes.map((pane) => pane.turns.map(({ waits, ...turn }) => turn)), two: id("two").checked, models: panes.map((pane) => pane.model.value) };
  try {
    sessionStorage.setItem(TALK, JSON.stringify(kept));
  } catch {
    sessionStorage.removeItem(TALK); // images larger than the browser keeps
  }
}

const isSet = (field) => field.value !== "" && field.checkValidity();
const settings = () => Object.fromEntries(all("[data-setting]").filter(isSet).map((e) => [e.dataset.setting, e.type === "number" ? Number(e.value) : e.value]));

async function answer(targets) {
  const asked = targets.map((pane) => pane.answer(settings()));
  dress();
  await Promise.all(asked);
  remember();
  dress();
  say(id("told"), words.answeredAll);
}

function send() {
  const text = id("prompt").value.trim();
  if (isBusy() || !models.length || (!text && !image)) return;
  for (const pane of shown()) pane.add({ role: "user", text, ...(image && { image }) });
  id("prompt").value = "";
  takeImage("");
  answer(shown());
}

function takeImage(data) {
  image = data;
  id("image").value = data ? id("image").value : "";
  id("image-clear").hidden = !data;
}

id("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
id("prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
id("stop").addEventListener("click", () => panes.forEach((pane) => pane.stop?.abort()));
id("again").addEventListener("click", () => {
  shown().forEach((pane) => pane.takeBack());
  answer(shown().filter((pane) => pane.turns.length));
});
id("new").addEventListener("click", () => {
  panes.forEach((pane) => pane.show([]));
  remember();
  dress();
  id("prompt").focus();
});
id("two").addEventListener("change", ({ target }) => {
  panes[1].element.hidden = !target.checked;
  if (target.checked && !panes[1].turns.length) panes[1].show(panes[0].turns.filter((turn) => turn.role === "user").slice(-1));
  remember();
  dress();
});
id("image").addEventListener("change", ({ target }) => {
  const [file] = target.files;
  if (!file) return takeImage("");
  const reader = new FileReader();
  reader.addEventListener("load", () => takeImage(reader.result));
  reader.readAsDataURL(file);
});
id("image-clear").addEventListener("click", () => takeImage(""));
on("change", ({ target }) => target.matches("[data-part=model]") && (remember(), dress()));

// Copies

for (const button of all("[data-copy]")) {
  button.addEventListener("click", async () => {
    const [pane] = panes, turns = [...pane.turns];
    if (turns.at(-1)?.role === "assistant") turns.pop();
    const body = bodyOf(pane.model.value, turns, settings());
    const make = button.dataset.copy === "curl" ? curl : openai;
    await copyText(make(gateway.url, body, gateway.key() !== ""));
    toast(words.copied);
  });
}

// The key, in this tab alone

function takeKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
  say(id("key-state"), key ? words.keySet : words.keyNone);
  learnModels();
}
id("key-use").addEventListener("click", () => {
  takeKey(id("key").value.trim());
  id("key").value = "";
});
id("key-forget").addEventListener("click", () => takeKey(""));
id("key-make")?.addEventListener("click", async ({ target }) => {
  const token = JSON.parse(document.body.getAttribute("hx-headers"))["X-CSRFToken"];
  const response = await fetch(target.dataset.url, { method: "POST", headers: { "X-CSRFToken": token } }).catch(() => null);
  if (!response?.ok) return tellTrouble(words.keyFailed);
  takeKey((await response.json()).key);
  setTimeout(learnModels, MODELS_SOON); // gateways learn of a new key within a second
  setTimeout(learnModels, 3 * MODELS_SOON);
});

// Load test

id("load").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { count, prompt, tokens } = Object.fromEntries(new FormData(event.target));
  const running = load.run(Number(count), { model: id("load-model").value, messages: [{ role: "user", content: prompt }], max_tokens: Number(tokens) });
  dress();
  await running;
  dress();
});
id("load-stop").addEventListener("click", () => load.stop?.abort());

const before = remembered();
id("two").checked = Boolean(before.two);
panes[1].element.hidden = !before.two;
panes.forEach((pane, place) => pane.show(before.turns?.[place] ?? []));
say(id("key-state"), gateway.key() ? words.keySet : words.keyNone);
learnModels();
setInterval(() => document.hidden || isBusy() || learnModels(), MODELS_EVERY);
