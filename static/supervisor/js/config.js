// The configuration of a server: what becomes of a change is asked for after each push that is about it.
import { id, on } from "./dom.js";

const { name } = document.querySelector("#config-form").dataset;
let heard;

on("htmx:wsOpen", () => (heard = undefined)); // what was said meanwhile, nobody here has heard
on("htmx:wsAfterMessage", () => {
  const news = [id(`pill-${name}`)?.dataset.version, id("config-sign").dataset.at].join(" ");
  if (news === heard) return;
  heard = news;
  htmx.trigger(id("course"), "news");
});
