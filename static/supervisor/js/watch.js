// The dialog that watches for a line of a log, and its button.
import { openDialog } from "./dialog.js";
import { id } from "./dom.js";

const TIME = /^\s*(?:\d+\.\d\d\.\d{3}\.\d{3} )?(?:[DIWEF] )?/; // llama-server's own time and level differ each time

/** Ask what to do when a line like this one comes again. */
export function watchLine(text = "") {
  const parts = text.replace(TIME, "").split("[redacted]"); // nothing is found across what is hidden
  const said = parts.sort((one, other) => other.length - one.length)[0].trim().slice(0, 1000);
  id("watch-text").value = said;
  id("watch-name").value = said.slice(0, 60);
  openDialog(id("watch"));
  id(said ? "watch-name" : "watch-text").focus();
}

id("new-watch")?.addEventListener("click", () => watchLine());
