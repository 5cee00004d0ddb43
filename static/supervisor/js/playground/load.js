// A load test: many requests at once, each as a bar of its phases. The gateway's own record says how long each phase was.
import { id, say } from "../dom.js";
import { spent } from "./gateway.js";

const LEARNED_AFTER = 700, TRIES = 8; // milliseconds between two questions for the records; they are written soon after the end
const PHASES = ["held", "loading", "prefill", "content"];

/** The parts of a request's time in milliseconds, from its record. */
export function phasesOf({ held_ms, room_ms, load_ms, ttft_ms, duration_ms }) {
  const loading = Math.min(held_ms, room_ms + load_ms);
  const first = ttft_ms ?? duration_ms;
  return { held: held_ms - loading, loading, prefill: Math.max(0, first - held_ms), content: Math.max(0, duration_ms - first) };
}

/** Nearest rank of `share` among values. */
export function ranked(values, share) {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
}

export class LoadTest {
  constructor(gateway, words, phasesUrl) {
    Object.assign(this, { gateway, words, phasesUrl, stop: null });
  }

  async run(count, body) {
    this.stop = new AbortController();
    const began = performance.now();
    const bars = Array.from({ length: count }, (_, number) => new Bar(number + 1, began, this.words));
    id("load-bars").replaceChildren(...bars.map((bar) => bar.element));
    say(id("load-sum"), this.words.running);
    const clock = setInterval(() => bars.forEach((bar) => bar.draw(longest(bars))), 100);
    await Promise.all(bars.map((bar) => this.#one(bar, body)));
    clearInterval(clock);
    bars.forEach((bar) => bar.draw(longest(bars)));
    this.#sum(bars, performance.now() - began);
    this.stop = null;
    await this.#learn(bars);
  }

  async #one(bar, body) {
    try {
      for await (const event of this.gateway.ask(body, this.stop.signal)) bar.hear(event);
    } catch (error) {
      bar.fail(error.name === "AbortError" ? this.words.stopped : error.message);
    }
  }

  #sum(bars, took) {
    const good = bars.filter((bar) => !bar.trouble), firsts = good.filter((bar) => bar.first !== null).map((bar) => bar.first - bar.began);
    const tokens = bars.reduce((sum, bar) => sum + bar.tokens, 0);
    const told = [`${good.length} / ${bars.length} ${this.words.answered}`];
    if (firsts.length) told.push(`${this.words.first} ${spent(ranked(firsts, 0.5))}, p95 ${spent(ranked(firsts, 0.95))}`);
    told.push(`${(tokens / (took / 1000)).toFixed(1)} ${this.words.speed}`, spent(took));
    say(id("load-sum"), told.join(" · "));
  }

  async #learn(bars) {
    let unknown = bars.filter((bar) => bar.id);
    for (let tries = 0; unknown.length && tries < TRIES; tries++) {
      await new Promise((done) => setTimeout(done, LEARNED_AFTER));
      const query = new URLSearchParams(unknown.map((bar) => ["id", bar.id]));
      const response = await fetch(`${this.phasesUrl}?${query}`).catch(() => null);
      if (!response?.ok) continue;
      const known = await response.json();
      for (const bar of unknown) if (known[bar.id]) bar.learn(known[bar.id]);
      unknown = unknown.filter((bar) => !bar.record);
      bars.forEach((bar) => bar.draw(longest(bars)));
    }
  }
}

const longest = (bars) => Math.max(1, ...bars.map((bar) => bar.total));

class Bar {
  constructor(number, began, words) {
    Object.assign(this, { began, words, id: "", first: null, end: null, tokens: 0, trouble: "", record: null });
    this.element = id("load-bar").content.firstElementChild.cloneNode(true);
    say(this.element.querySelector("b"), String(number));
    this.parts = Object.fromEntries(PHASES.map((phase) => [phase, this.element.querySelector(`[data-phase="${phase}"]`)]));
    this.note = this.element.querySelector("small");
  }

  get total() {
    return this.record ? this.record.duration_ms : (this.end ?? performance.now()) - this.began;
  }

  hear(event) {
    if (event.what === "head") this.id = event.id;
    if (event.what === "text" || event.what === "thought") this.first ??= event.at;
    if (event.what === "cost") this.tokens = event.timings?.predicted_n ?? event.usage?.completion_tokens ?? this.tokens;
    if (event.what === "broken") this.trouble = event.text || this.words.broken;
    if (event.what === "end") this.end = event.at;
  }

  fail(text) {
    this.trouble = text;
    this.end = performance.now();
  }

  learn(record) {
    this.record = record;
  }

  /** Until the record is known, all before the first token is one phase: a client cannot tell them apart. */
  get phases() {
    if (this.record) return phasesOf(this.record);
    const now = this.end ?? performance.now(), first = this.first ?? now;
    return { held: 0, loading: 0, prefill: first - this.began, content: now - first };
  }

  draw(scale) {
    const { phases } = this;
    for (const phase of PHASES) this.parts[phase].style.width = `${(100 * phases[phase]) / scale}%`;
    this.element.dataset.tone = this.trouble ? "bad" : this.end === null ? "busy" : "up";
    const told = PHASES.filter((phase) => phases[phase] >= 0.5).map((phase) => `${this.words[phase]} ${spent(phases[phase])}`);
    if (this.record?.replays) told.push(`${this.record.replays} ${this.words.replays}`);
    if (this.trouble) told.push(this.trouble);
    if (this.end !== null) say(this.note, told.join(" · "));
  }
}
