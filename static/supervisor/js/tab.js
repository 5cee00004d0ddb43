// What the tab shows of the servers while another one is in front: its title and its icon.
import { all } from "./dom.js";

/** `live`: the page hears of changes, so what it shows is so now. */
export function dressTab(live) {
  const servers = all("[data-glyph]");
  if (!servers.length) return;
  const sure = servers.filter((e) => live && !("stale" in e.dataset));
  const of = (status) => sure.filter((e) => e.dataset.status === status);
  const { glyph, word, name } = servers[0].dataset;
  const one = `${sure.length ? `${glyph} ${word.toLowerCase()}` : "? not live"} · ${name}`;
  document.title = `${servers.length > 1 ? `${of("ready").length} of ${servers.length} ready` : one} – llamaproxy`;
  const [worst] = ["error", "crashed", "starting", "ready"].flatMap(of);
  const fill = worst ? getComputedStyle(worst.querySelector(".orb")).backgroundColor : "#8b8d98";
  const dot = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><circle cx="4" cy="4" r="3" fill="${fill}"/></svg>`;
  document.querySelector("link[rel=icon]").href = `data:image/svg+xml,${encodeURIComponent(dot)}`;
}
