"use strict";
// What lies under the pointer, and distances and areas, in millimetres where the size of a pixel is known.

const measuring = { tool: null, rulers: [], open: null };
const pixelMm = () => current?.mm?.[shown.plane] ?? null; // height and width of a pixel
function pixelAt(event) {
  const corner = $("picture").getBoundingClientRect();
  return { x: (event.clientX - corner.left - view.x) / view.scale, y: (event.clientY - corner.top - view.y) / (view.scale * view.aspect) };
}

// ---- under the pointer -------------------------------------------------------------------------

function pixelSays(found) { // its values, how many marked it, where it is
  const values = current.colour ? found.values.map((value) => Math.round(255 * value)) : found.values;
  const marked = about.structures.map((name, c) => `${name} ${found.marked[c]} of ${found.of[c]}`);
  const mm = found.mm ? ` · R ${found.mm[0]} A ${found.mm[1]} S ${found.mm[2]} mm` : "";
  return `${values.join(", ")} · marked: ${marked.join(", ")}${mm}`;
}

let pointed = 0, asking = false, next = null;
async function readOut(event) {
  next = pixelAt(event);
  if (asking || !current) return;
  asking = true;
  while (next) {
    const { x, y } = next, column = Math.floor(x), row = Math.floor(y);
    next = null;
    if (column < 0 || row < 0 || column >= view.width || row >= view.height) { $("readout").hidden = true; continue; }
    const mine = ++pointed;
    const found = await answer(place("value", shown.slice, { row, column })).catch(() => null);
    if (!found || mine !== pointed) continue;
    $("readout").textContent = `column ${column}, row ${row} · ${pixelSays(found)}`;
    $("readout").hidden = false;
  }
  asking = false;
}
$("picture").addEventListener("pointermove", (event) => { if (!event.buttons && event.pointerType === "mouse") readOut(event); });
$("picture").addEventListener("pointerleave", () => { next = null; pointed++; $("readout").hidden = true; });

// ---- distance and area -------------------------------------------------------------------------

function pickRuler(tool) {
  measuring.tool = measuring.tool === tool ? null : tool;
  for (const button of document.querySelectorAll("[data-ruler]")) button.setAttribute("aria-pressed", button.dataset.ruler === measuring.tool);
  $("picture").classList.toggle("measuring", Boolean(measuring.tool));
}
function clearRulers() { measuring.rulers = []; measuring.open = null; drawRulers(); }
function measureDown(event) { // true: the pointer is ours
  if (!measuring.tool || event.button > 0 || !current) return false;
  const points = [pixelAt(event)], ruler = { tool: measuring.tool, points };
  measuring.rulers.push(ruler);
  $("picture").setPointerCapture(event.pointerId);
  $("picture").onpointermove = (move) => {
    if (ruler.tool === "distance") points[1] = pixelAt(move);
    else points.push(pixelAt(move));
    drawRulers();
  };
  $("picture").onpointerup = $("picture").onpointercancel = () => {
    $("picture").onpointermove = null;
    if (points.length < (ruler.tool === "area" ? 3 : 2)) measuring.rulers.pop();
    else announce(lengthSays(ruler));
    drawRulers();
  };
  return true;
}
function lengthSays({ tool, points }) {
  const [tall, wide] = pixelMm() ?? [1, 1], unit = pixelMm() ? "mm" : "px";
  if (tool === "distance") {
    const [from, to] = points;
    return `${Math.hypot((to.x - from.x) * wide, (to.y - from.y) * tall).toFixed(1)} ${unit}`;
  }
  let twice = 0;
  points.forEach((point, n) => { const after = points[(n + 1) % points.length]; twice += point.x * after.y - after.x * point.y; });
  return `${((Math.abs(twice) / 2) * wide * tall).toFixed(1)} ${unit}²`;
}
function drawRulers() {
  const parts = [];
  for (const ruler of measuring.rulers) {
    if (ruler.points.length < 2) continue;
    const at = ruler.points.map(({ x, y }) => [view.x + x * view.scale, view.y + y * view.scale * view.aspect]);
    const d = `M${at.map((point) => point.join(",")).join("L")}${ruler.tool === "area" ? "Z" : ""}`;
    const [x, y] = at.reduce(([a, b], [c, e]) => [a + c / at.length, b + e / at.length], [0, 0]);
    parts.push(svg("path", { d }), Object.assign(svg("text", { x, y: y - 8, "text-anchor": "middle" }), { textContent: lengthSays(ruler) }));
  }
  $("rulers").replaceChildren(...parts);
}
