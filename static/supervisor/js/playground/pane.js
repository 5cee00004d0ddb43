// A conversation with one model: its turns, the answer that comes, and what that cost.
import { say } from "../dom.js";
import { spent } from "./gateway.js";
import { prose } from "./prose.js";

const DRAWN_EVERY = 80; // milliseconds between two drawings of an answer that comes

export class Pane {
  /** `element`: made of the template of panes. `gateway`: asked. `words`: the finished sentences of the page. */
  constructor(element, gateway, words) {
    Object.assign(this, { element, gateway, words, turns: [], stop: null });
    const part = (name) => element.querySelector(`[data-part="${name}"]`);
    this.list = part("turns");
    this.figures = part("figures");
    this.model = part("model");
    this.empty = part("empty");
  }

  get isBusy() {
    return this.stop !== null;
  }

  show(turns) {
    this.turns = turns;
    this.list.replaceChildren(...turns.map((turn) => this.#drawn(turn)));
    this.empty.hidden = turns.length > 0;
    say(this.figures, "");
  }

  add(turn) {
    this.turns.push(turn);
    this.list.append(this.#drawn(turn));
    this.empty.hidden = true;
    this.#toEnd(true);
  }

  /** Take back the last answer. */
  takeBack() {
    if (this.turns.at(-1)?.role !== "assistant") return;
    this.turns.pop();
    this.list.lastElementChild.remove();
  }

  /** Ask, and draw the answer as it comes. Ends when the answer does, also by an error, which is shown. */
  async answer(settings) {
    const body = bodyOf(this.model.value, this.turns, settings);
    const turn = { role: "assistant", text: "", thought: "", trouble: "", model: body.model };
    this.add(turn);
    this.stop = new AbortController();
    this.list.lastElementChild.setAttribute("aria-busy", "true");
    const clock = { began: performance.now(), first: null, end: null, cost: null };
    try {
      for await (const event of this.gateway.ask(body, this.stop.signal)) this.#hear(event, turn, clock);
    } catch (error) {
      turn.trouble = error.name === "AbortError" ? this.words.stopped : error.message;
    }
    clock.end ??= performance.now();
    this.stop = null;
    this.#draw(turn);
    this.#tellFigures(clock);
    this.list.lastElementChild.removeAttribute("aria-busy");
  }

  #hear(event, turn, clock) {
    if (event.what === "waiting") turn.waits = event.text;
    if (event.what === "text" || event.what === "thought") {
      clock.first ??= event.at;
      turn.waits = "";
      turn[event.what] += event.text;
    }
    if (event.what === "cost") clock.cost = { ...clock.cost, ...(event.usage && { usage: event.usage }), ...(event.timings && { timings: event.timings }) };
    if (event.what === "broken") turn.trouble = event.text || this.words.broken;
    if (event.what === "end") clock.end = event.at;
    this.#drawSoon(turn);
  }

  #drawSoon(turn) {
    this.due ??= setTimeout(() => this.#draw(turn), DRAWN_EVERY);
  }

  #draw(turn) {
    clearTimeout(this.due);
    this.due = null;
    const isAtEnd = this.list.scrollHeight - this.list.scrollTop - this.list.clientHeight < 40;
    const isBusy = this.list.lastElementChild.hasAttribute("aria-busy");
    const drawn = this.#drawn(turn);
    if (isBusy && this.isBusy) drawn.setAttribute("aria-busy", "true");
    this.list.lastElementChild.replaceWith(drawn);
    this.#toEnd(isAtEnd);
  }

  #toEnd(wanted) {
    if (wanted) this.list.scrollTop = this.list.scrollHeight;
  }

  #drawn(turn) {
    const item = document.createElement("li"), text = document.createElement("div"), who = document.createElement("b");
    item.dataset.role = turn.role;
    say(who, turn.role === "user" ? this.words.you : turn.model);
    text.className = "prose";
    item.append(who);
    if (turn.image) item.append(Object.assign(new Image(), { src: turn.image, alt: this.words.image }));
    if (turn.thought) item.append(this.#thought(turn));
    if (turn.role === "user") say(text, turn.text);
    else text.append(prose(turn.text));
    item.append(text);
    const note = turn.trouble || turn.waits || "";
    if (note) item.append(Object.assign(document.createElement("p"), { className: turn.trouble ? "trouble" : "waits", textContent: note }));
    return item;
  }

  #thought(turn) {
    const thought = document.createElement("details"), title = document.createElement("summary"), text = document.createElement("p");
    thought.open = !turn.text;
    say(title, this.words.thought);
    say(text, turn.thought);
    thought.append(title, text);
    return thought;
  }

  #tellFigures({ began, first, end, cost }) {
    const count = cost?.timings?.predicted_n ?? cost?.usage?.completion_tokens;
    const speed = cost?.timings?.predicted_per_second ?? (count > 1 && first !== null && end > first ? ((count - 1) * 1000) / (end - first) : null);
    const prompt = cost?.usage?.prompt_tokens;
    const told = [
      first === null ? "" : `${this.words.first} ${spent(first - began)}`,
      speed ? `${speed.toFixed(1)} ${this.words.speed}` : "",
      count === undefined ? "" : `${count} ${this.words.tokens}`,
      prompt === undefined ? "" : `${prompt} ${this.words.prompt}`,
    ];
    say(this.figures, told.filter(Boolean).join(" · "));
  }
}

/** The request that asks for the next answer to these turns. `settings`: sampling, and a system prompt. */
export function bodyOf(model, turns, { system, ...sampling }) {
  const before = system ? [{ role: "system", content: system }] : [];
  const said = turns.filter((turn) => turn.text || turn.image);
  return { model, messages: [...before, ...said.map(message)], ...sampling };
}

const message = ({ role, text, image }) => ({
  role,
  content: image ? [...(text ? [{ type: "text", text }] : []), { type: "image_url", image_url: { url: image } }] : text,
});
