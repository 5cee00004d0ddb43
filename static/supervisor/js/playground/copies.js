// A request as a command for a shell, and as a program. The key is never in it.
const BASE = (url) => `${url}/v1`;
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

export function curl(url, body, hasKey) {
  const key = hasKey ? ' \\\n  -H "Authorization: Bearer $LLAMAPROXY_API_KEY"' : "";
  return `curl -N ${quoted(`${BASE(url)}/chat/completions`)} \\\n  -H 'Content-Type: application/json'${key} \\\n  -d ${quoted(JSON.stringify({ ...body, stream: true }, null, 2))}\n`;
}

/** JSON is Python but for three words, which strings may hold: so each value is written on its own. */
function python(value, indent = "    ") {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const deeper = `${indent}    `;
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  const parts = Array.isArray(value) ? value.map((each) => python(each, deeper)) : Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${python(each, deeper)}`);
  return parts.length ? `${open}\n${parts.map((part) => `${deeper}${part},\n`).join("")}${indent}${close}` : open + close;
}

export function openai(url, body, hasKey) {
  const { model, messages, max_tokens, temperature, top_p, ...rest } = body;
  const known = Object.entries({ model, messages, max_tokens, temperature, top_p }).filter(([, value]) => value !== undefined);
  const extra = Object.keys(rest).length ? [["extra_body", rest]] : [];
  const given = [...known, ...extra].map(([name, value]) => `    ${name}=${python(value)},\n`).join("");
  const key = hasKey ? 'os.environ["LLAMAPROXY_API_KEY"]' : '"none"';
  return `${hasKey ? "import os\n\n" : ""}from openai import OpenAI\n\nclient = OpenAI(base_url="${BASE(url)}", api_key=${key})\nstream = client.chat.completions.create(\n${given}    stream=True,\n)\nfor chunk in stream:\n    if chunk.choices:\n        print(chunk.choices[0].delta.content or "", end="", flush=True)\n`;
}
