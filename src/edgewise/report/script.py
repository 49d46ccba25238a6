"""The one script of the page: what a chart shows under the pointer. Nothing is said there alone."""

SCRIPT = """
"use strict";
const tip = document.createElement("div");
tip.className = "tip";
document.body.append(tip);
function show(event, text) {
  tip.textContent = text;
  tip.style.display = "block";
  const box = tip.getBoundingClientRect();
  const fits = event.clientX + 16 + box.width <= innerWidth;
  const left = fits ? event.clientX + 16 : event.clientX - 16 - box.width;
  tip.style.left = Math.max(4, left) + "px";
  tip.style.top = Math.max(4, Math.min(event.clientY + 14, innerHeight - box.height - 4)) + "px";
}
function last(edges, x) {
  let low = 0, high = edges.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (edges[middle] <= x) low = middle; else high = middle - 1;
  }
  return low;
}
for (const chart of document.querySelectorAll(".chart")) {
  const data = chart.querySelector("script.tips");
  if (!data) continue;
  const tips = JSON.parse(data.textContent);
  const stage = chart.querySelector(".stage"), cursor = chart.querySelector(".cursor");
  const hide = () => { tip.style.display = cursor.style.display = "none"; };
  stage.addEventListener("pointerleave", hide);
  stage.addEventListener("pointermove", (event) => {
    const box = stage.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * 1000, y = event.clientY - box.top;
    if (tips.edges) {
      cursor.style.left = x / 10 + "%";
      cursor.style.display = "block";
      show(event, tips.text[last(tips.edges, x)]);
      return;
    }
    const found = tips.boxes.find(([l, t, r, b]) => l <= x && x < r && t <= y && y < b);
    if (found) show(event, found[4]); else hide();
  });
}
"""
