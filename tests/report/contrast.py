"""What a browser says of the contrast of text."""

from __future__ import annotations

from typing import Final

#: An expression: texts whose contrast with what is behind them is below 4.5, as WCAG 2 computes it; at most ten.
CONTRAST: Final = """
(() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode() && found.length < 10) {
    const element = texts.currentNode.parentElement, style = getComputedStyle(element);
    const unseen = !element.getClientRects().length || element.closest("script, style, title, option");
    if (unseen || !texts.currentNode.data.trim()) continue;
    const ink = parse(element.closest("svg") ? style.fill : style.color), ground = behind(element);
    const [a, b] = [light(ink), light(ground)].sort((x, y) => y - x);
    if ((a + .05) / (b + .05) < 4.5) found.push([texts.currentNode.data.trim().slice(0, 40), ink, ground]);
  }
  return found;
})()
"""
