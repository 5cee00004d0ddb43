// Buttons that copy the text of another element.
import { copyText } from "./clipboard.js";
import { id, on } from "./dom.js";
import { toast } from "./toast.js";

on("click", async ({ target }) => {
  const button = target.closest?.("[data-copy]");
  if (!button) return;
  await copyText(id(button.dataset.copy).textContent);
  toast(button.dataset.copied, "success");
});
