// Short words for what every module does with the page.
export const id = (name) => document.getElementById(name);
export const all = (selector) => [...document.querySelectorAll(selector)];
export const on = (event, act) => document.addEventListener(event, act);

/** Texts in the language of the page: `pages/presenters/script_words.py` has them. */
export const wordsOf = (name) => JSON.parse(id(name)?.textContent ?? "{}");
export const words = wordsOf("words");
export const fill = (text, values) => text.replace(/{(\w+)}/g, (_, name) => values[name]);
/** The same with elements among the values, as a list of nodes. */
export const filled = (text, values) => text.split(/{(\w+)}/).map((part, n) => (n % 2 ? values[part] : part));

const { lang } = document.documentElement;
/** The reader's way to write days and times, in the language of the page. */
export const locale = lang === "en" ? "en-GB" : lang;

const plural = new Intl.PluralRules(locale);
/** Choose the form of a text for a number, and fill it in. */
export const counted = (forms, count, values = {}) => fill(forms[plural.select(count)], { ...values, count: count.toLocaleString(locale) });

/** Set a text only where it differs: a screen reader may announce each change. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
