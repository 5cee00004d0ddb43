// Markdown of an answer as elements. What a model writes is a stranger's text: no script, no style, no picture.
const ALLOWED = { ALLOWED_URI_REGEXP: /^https?:/i, FORBID_TAGS: ["style", "img", "form", "input", "button", "svg", "math"], FORBID_ATTR: ["style", "id", "class", "name"], RETURN_DOM_FRAGMENT: true };
const asText = ({ raw }) => raw.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
const parser = new marked.Marked({ gfm: true, breaks: true, renderer: { html: asText, image: asText } });

export function prose(markdown) {
  const fragment = DOMPurify.sanitize(parser.parse(markdown), ALLOWED);
  for (const link of fragment.querySelectorAll("a[href]")) Object.assign(link, { target: "_blank", rel: "noopener noreferrer" });
  for (const block of fragment.querySelectorAll("pre")) block.tabIndex = 0; // long lines are scrolled by keyboard, too
  return fragment;
}
