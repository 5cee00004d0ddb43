// Short words for what every module does with the page.
export const id = (name) => document.getElementById(name);
export const all = (selector) => [...document.querySelectorAll(selector)];
export const on = (event, act) => document.addEventListener(event, act);

/** Set a text only where it differs: a screen reader may announce each change. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
