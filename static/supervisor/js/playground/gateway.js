// The gateway, as any client of it: which models there are, and one answer as the events of its life.

/** Milliseconds in words. */
export const spent = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 10000 ? 2 : 1)} s`);

/** `text`: what to tell people. `status`: of the answer; 0: there was none. */
export class Refused extends Error {
  constructor(text, status = 0) {
    super(text);
    this.status = status;
  }
}

export class Gateway {
  /** `key`: returns the API key; empty: none. `unreachable`: what to say when nothing can be reached. */
  constructor(url, key, unreachable) {
    Object.assign(this, { url, key, unreachable });
  }

  async #fetch(path, options = {}) {
    const key = this.key();
    const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
    let response;
    try {
      response = await fetch(`${this.url}${path}`, { ...options, headers, credentials: "omit" });
    } catch (error) {
      throw error.name === "AbortError" ? error : new Refused(this.unreachable);
    }
    if (response.ok) return response;
    const said = await response.json().catch(() => null);
    throw new Refused(said?.error?.message ?? `${response.status} ${response.statusText}`, response.status);
  }

  /** The models as `/v1/models` lists them. */
  async models() {
    return (await (await this.#fetch("/v1/models")).json()).data;
  }

  /** Ask for a chat completion. Yields `{what, at, …}`: `head` (id), `waiting` (text), `text`, `thought`, `cost`
   * (usage, timings), `broken` (text), and `end`, which comes last. `at`: milliseconds of `performance.now()`. */
  async *ask(body, signal) {
    const response = await this.#fetch("/v1/chat/completions", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
      signal,
    });
    const at = () => performance.now();
    yield { what: "head", at: at(), id: response.headers.get("X-Request-Id") ?? "" };
    let finished = false;
    try {
      for await (const line of lines(response.body)) {
        for (const event of eventsOf(line)) {
          finished ||= event.what === "finished" || event.what === "broken";
          if (event.what !== "finished") yield { ...event, at: at() };
        }
      }
    } catch (error) {
      if (error.name === "AbortError") throw error;
    }
    if (!finished) yield { what: "broken", at: at(), text: "" };
    yield { what: "end", at: at() };
  }
}

async function* lines(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const pieces = (rest + value).split(/\r?\n/);
    rest = pieces.pop();
    yield* pieces;
  }
}

/** What a line of a stream of events says. A comment is the gateway's word to those who wait. */
export function eventsOf(line) {
  if (line.startsWith(": ")) return [{ what: "waiting", text: line.slice(2) }];
  if (!line.startsWith("data:")) return [];
  const data = line.slice(5).trim();
  if (data === "[DONE]") return [{ what: "finished" }];
  const said = JSON.parse(data);
  if (said.error) return [{ what: "broken", text: said.error.message ?? "" }];
  const { delta = {} } = said.choices?.[0] ?? {};
  const events = [];
  if (delta.reasoning_content) events.push({ what: "thought", text: delta.reasoning_content });
  if (delta.content) events.push({ what: "text", text: delta.content });
  if (said.usage || said.timings) events.push({ what: "cost", usage: said.usage, timings: said.timings });
  return events;
}
