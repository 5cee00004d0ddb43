// What the tab shows of the servers while another one is in front: its title and its icon.
import { all, fill, words } from "./dom.js";

const own = document.title;
const signs = { error: "✕", crashed: "▲", starting: "◐", ready: "●" };

function title(servers, sure, worst) {
  const { glyph, word, name } = servers[0].dataset;
  if (servers[0].matches(".pill")) return `${worst ? signs[worst.dataset.status] : sure.length ? "○" : "?"} ${own}`;
  const now = sure.length ? `${glyph} ${word.toLowerCase()}` : words.notLive;
  if (servers.length === 1) return `${now} · ${name} – llamaproxy`;
  const up = sure.filter((e) => e.dataset.status === "ready").length;
  const ready = fill(words.readyOf, { ready: up, all: servers.length });
  return worst && worst.dataset.status !== "ready" ? `${signs[worst.dataset.status]} ${ready}` : ready;
}

/** `live`: the page hears of changes, so what it shows is so now. */
export function dressTab(live) {
  const servers = all("[data-glyph]");
  if (!servers.length) return;
  const sure = servers.filter((e) => live && !("stale" in e.dataset));
  const [worst] = Object.keys(signs).flatMap((status) => sure.filter((e) => e.dataset.status === status));
  document.title = title(servers, sure, worst);
  const fill = worst ? getComputedStyle(worst.querySelector(".orb")).backgroundColor : "#8b8d98";
  const dot = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><circle cx="4" cy="4" r="3" fill="${fill}"/></svg>`;
  document.querySelector("link[rel=icon]").href = `data:image/svg+xml,${encodeURIComponent(dot)}`;
}
