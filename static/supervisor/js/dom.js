// Short words for what every module does with the page.
export const id = (name) => document.getElementById(name);
export const all = (selector) => [...document.querySelectorAll(selector)];
export const on = (event, act) => document.addEventListener(event, act);

/** Texts in the language of the page: `pages/presenters/script_words.py` has them. */
export const words = JSON.parse(id("words")?.textContent ?? "{}");
export const fill = (text, values) => text.replace(/{(\w+)}/g, (_, name) => values[name]);

const { lang } = document.documentElement;
/** The reader's way to write days and times, in the language of the page. */
export const locale = lang === "en" ? "en-GB" : lang;

/** Set a text only where it differs: a screen reader may announce each change. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
