// Dialogs of the platform: they keep the focus inside and give it back themselves.
import { on } from "./dom.js";

export function openDialog(dialog) {
  if (!dialog.open) dialog.showModal();
}

on("click", ({ target }) => {
  if (target.matches?.("dialog[data-light]")) target.close(); // beside it, on its backdrop
  if (target.closest?.("[data-close]")) target.closest("dialog").close();
});
