// Short news at the edge of the page. It goes away by itself, so nothing is said here that must be read.
import { id } from "./dom.js";

const SHOWN = 7000;

export function toast(text, tone = "calm") {
  const note = Object.assign(document.createElement("p"), { className: "toast", textContent: text });
  note.dataset.tone = tone;
  id("toasts").append(note);
  setTimeout(() => note.remove(), SHOWN);
}
