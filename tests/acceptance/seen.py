"""Scripts that tell what a page shows in a browser: statuses, words that tick, colours, what does not fit."""

from __future__ import annotations

REMEMBER_STATUSES = """() => {
    const seen = window.seen = [];
    const look = () => {
        const now = document.querySelector("article.server")?.dataset.status;
        if (now && now !== seen.at(-1)) seen.push(now);
    };
    new MutationObserver(look).observe(document.body, {subtree: true, childList: true, attributes: true});
    look();
}"""
TICKED = """async seconds => {
    const born = seconds.map(each => Date.now() - 1000 * each - 250);  // no tick of the next second comes between
    const made = born.map(at => {
        const [lasting, past] = [document.createElement("span"), document.createElement("time")];
        lasting.dataset.uptimeSince = at;
        past.dateTime = new Date(at).toISOString();
        past.dataset.ago = "";
        document.body.append(lasting, past);
        return [lasting, past];
    });
    await new Promise(resolve => setTimeout(resolve, 550));
    return made.map(pair => pair.map(element => element.textContent));
}"""


def brightness(page, selector, kind):
    """0 to 255: of the colour as it is painted, whatever notation CSS has for it."""
    return page.evaluate(
        """([selector, kind]) => {
            const paint = document.createElement("canvas").getContext("2d");
            paint.fillStyle = getComputedStyle(document.querySelector(selector))[kind];
            paint.fillRect(0, 0, 1, 1);
            const [red, green, blue] = paint.getImageData(0, 0, 1, 1).data;
            return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
        }""",
        [selector, kind],
    )


WIDER_THAN_THEIR_PLACE = """selector => [...document.querySelectorAll(selector)]
    .filter(place => place.scrollWidth > place.clientWidth)
    .map(place => place.textContent.trim().slice(0, 80))"""
