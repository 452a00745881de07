"use strict";
// The picture under the hand: zoom, move, window; names at the outlines, scale bar, letters of the patient.


function transform() {
  $("turned").setAttribute("transform", `translate(${view.x} ${view.y}) scale(${view.scale} ${view.scale * view.aspect})`);
  $("image").classList.toggle("sharp", view.scale > 3);
  for (const canvas of [$("painted"), $("weighed")]) canvas.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale}, ${view.scale * view.aspect})`;
  drawCorners();
  placeNames();
  drawScale();
  drawRulers();
}
function fit() {
  const { clientWidth: width, clientHeight: height } = $("picture");
  if (!view.width) return;
  view.scale = 0.96 * Math.min(width / view.width, height / (view.height * view.aspect));
  view.x = (width - view.scale * view.width) / 2;
  view.y = (height - view.scale * view.aspect * view.height) / 2;
  transform();
}
function zoom(factor, x, y) {
  const scale = Math.min(Math.max(view.scale * factor, 0.05), 80);
  view.x = x - ((x - view.x) * scale) / view.scale;
  view.y = y - ((y - view.y) * scale) / view.scale;
  view.scale = scale;
  transform();
}
function toSlice(index) {
  const last = (current?.planes[shown.plane] ?? 1) - 1;
  const next = Math.min(Math.max(index, 0), last);
  if (next !== shown.slice) { shown.slice = next; show(); }
}
function windowTo(low, high) {
  if (!(low < high)) return;
  shown.window = [low, high];
  show();
}
let scrolled = 0;
$("picture").addEventListener("wheel", (event) => {
  event.preventDefault();
  const volume = Boolean(current?.planes[shown.plane]);
  const corner = $("picture").getBoundingClientRect();
  if (event.ctrlKey || event.metaKey || !volume)
    zoom(Math.exp(-event.deltaY * 0.0018), event.clientX - corner.left, event.clientY - corner.top);
  else {
    scrolled += event.deltaMode ? event.deltaY * 40 : event.deltaY;
    const steps = Math.trunc(scrolled / 40);
    if (steps) { scrolled -= 40 * steps; toSlice(shown.slice + steps); }
  }
}, { passive: false });
$("picture").addEventListener("pointerdown", (event) => {
  if (measureDown(event) || deskDown(event)) return;
  const start = { x: event.clientX, y: event.clientY, view: { ...view }, window: shown.window };
  const windowing = (event.button === 2 || event.shiftKey) && current && !current.colour;
  $("picture").setPointerCapture(event.pointerId);
  $("picture").classList.add(windowing ? "windowing" : "moving");
  $("picture").onpointermove = (move) => {
    const across = move.clientX - start.x, down = move.clientY - start.y;
    if (windowing) {
      const unit = (current.range[1] - current.range[0]) / 1000;
      const level = (start.window[0] + start.window[1]) / 2 + down * unit;
      const width = Math.max(start.window[1] - start.window[0] + across * unit, unit);
      windowTo(level - width / 2, level + width / 2);
    } else {
      view.x = start.view.x + across;
      view.y = start.view.y + down;
      transform();
    }
  };
  $("picture").onpointerup = $("picture").onpointercancel = () => {
    $("picture").onpointermove = null;
    $("picture").classList.remove("windowing", "moving");
  };
});
$("picture").addEventListener("contextmenu", (event) => event.preventDefault());
$("picture").addEventListener("dblclick", (event) => {
  if (desk.on && desk.mask && desk.tool !== "move") { if (desk.tool === "polygon") polygon(event.altKey); }
  else fit();
});
addEventListener("resize", fit);

// ---- names at the outlines, scale, letters -----------------------------------------------------

function placeNames() { // each at the point of its outline that lies farthest in a direction of its own
  const texts = [];
  if ($("names").checked && !shown.hidden && drawing.outlines) {
    const many = about.raters.length;
    about.raters.forEach((rater, r) => {
      const c = shown.raters.has(r) && shown.drawn ? [...shown.structures].find((one) => drawing.outlines.raters[r][one]) : undefined;
      if (c === undefined) return;
      const angle = 2 * Math.PI * (r / many) - Math.PI / 2, across = Math.cos(angle), down = Math.sin(angle);
      const best = tipOf(r, c, across, down);
      const x = view.x + best[0] * view.scale + 9 * across, y = view.y + best[1] * view.scale * view.aspect + 9 * down;
      const text = svg("text", { x, y, "text-anchor": across > 0.3 ? "start" : across < -0.3 ? "end" : "middle", "dominant-baseline": "middle" }, "name");
      text.style.fill = rater.colour;
      text.textContent = rater.name;
      texts.push(text);
    });
  }
  $("labels").replaceChildren(...texts);
}
const tips = new WeakMap(); // of the outlines of a slice, which are looked through once and not while the image moves
function tipOf(r, c, across, down) { // the point of an outline that lies farthest in a direction
  if (!tips.has(drawing.outlines)) tips.set(drawing.outlines, new Map());
  const known = tips.get(drawing.outlines), key = `${r}|${c}`;
  if (!known.has(key)) {
    let best = null, far = -Infinity;
    for (const [, x, y] of drawing.outlines.raters[r][c].matchAll(/(-?[\d.]+),(-?[\d.]+)/g)) {
      const reach = x * across + y * down * view.aspect;
      if (reach > far) { far = reach; best = [Number(x), Number(y)]; }
    }
    known.set(key, best);
  }
  return known.get(key);
}
const LETTERS = { // left, right, top, bottom; see images/slicing.py
  axial: "RLAP", coronal: "RLSI", sagittal: "APSI",
};
function drawScale() { // a round number of millimetres, and where the patient's right, head, ... are
  const mm = current?.mm?.[shown.plane]?.[1], parts = [];
  const { clientWidth: width, clientHeight: height } = $("picture");
  if (mm) {
    const { length, says } = roundLength(mm, view.scale);
    const x = width - 20 - length, y = height - 18;
    parts.push(svg("path", { d: `M${x},${y - 5}v5h${length}v-5` }), Object.assign(svg("text", { x: x + length / 2, y: y - 9, "text-anchor": "middle" }), { textContent: says }));
  }
  for (const [n, letter] of [...(LETTERS[shown.plane] ?? "")].entries()) {
    const [x, y] = [[14, height / 2], [width - 14, height / 2], [width / 2, 18], [width / 2, height - 12]][n];
    parts.push(Object.assign(svg("text", { x, y, "text-anchor": "middle", "dominant-baseline": "middle" }, "letter"), { textContent: letter }));
  }
  $("scale").replaceChildren(...parts);
}
function roundLength(mm, scale) { // of 60 to 150 pixels of the screen, where a pixel of `mm` is `scale` of them wide
  const most = (150 / scale) * mm, power = 10 ** Math.floor(Math.log10(most));
  const round = [5, 2, 1].find((n) => n * power <= most) * power;
  return { length: (round / mm) * scale, says: round >= 1 ? `${round} mm` : `${Number((round * 1000).toPrecision(3))} µm` };
}

// ---- paper -------------------------------------------------------------------------------------

addEventListener("beforeprint", () => { // the whole image, whatever part is seen on the screen
  const { x, y, scale, aspect, width, height } = view;
  if (!width) return;
  $("picture").setAttribute("viewBox", `${x} ${y} ${width * scale} ${height * scale * aspect}`);
  const mask = $("painted").hidden ? null : $("painted").toDataURL();
  if (mask) for (const [name, value] of Object.entries({ href: mask, width, height })) $("printed").setAttribute(name, value);
});
addEventListener("afterprint", () => {
  $("picture").removeAttribute("viewBox");
  $("printed").removeAttribute("href");
});

