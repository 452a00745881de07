"use strict";
// The hand: a mask of one slice is painted here, stroke by stroke. Saving is in decide.js.

// ---- onto the canvas ---------------------------------------------------------------------------

function paint(box = null) { // of the mask onto the canvas; only what changed
  const canvas = $("painted"), { width, height, mask } = desk;
  canvas.hidden = !desk.on || !mask || shown.hidden;
  if (!mask) return;
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; box = null; }
  const x0 = Math.max((box?.x0 ?? 0) - 1, 0), y0 = Math.max((box?.y0 ?? 0) - 1, 0);
  const x1 = Math.min((box?.x1 ?? width) + 1, width), y1 = Math.min((box?.y1 ?? height) + 1, height);
  if (x1 <= x0 || y1 <= y0) return;
  const context = canvas.getContext("2d"), part = context.createImageData(x1 - x0, y1 - y0), to = part.data;
  for (let y = y0, at = 0; y < y1; y++) {
    for (let x = x0; x < x1; x++, at += 4) {
      const i = y * width + x;
      if (!mask[i]) continue;
      const edge = x === 0 || y === 0 || x === width - 1 || y === height - 1 || !mask[i - 1] || !mask[i + 1] || !mask[i - width] || !mask[i + width];
      [to[at], to[at + 1], to[at + 2]] = COLOUR;
      to[at + 3] = edge ? 235 : 70;
    }
  }
  context.putImageData(part, x0, y0);
}

// ---- tools -------------------------------------------------------------------------------------

function join(box, x0, y0, x1, y1) {
  box.x0 = Math.max(0, Math.min(box.x0, x0)); box.y0 = Math.max(0, Math.min(box.y0, y0));
  box.x1 = Math.min(desk.width, Math.max(box.x1, x1)); box.y1 = Math.min(desk.height, Math.max(box.y1, y1));
}
function stamp(x, y, value, box) { // a disc; on pixels that are not square it is one on the screen
  const radius = desk.size / 2, tall = radius / view.aspect, { width, height, mask } = desk;
  const top = Math.max(0, Math.ceil(y - tall - 0.5)), bottom = Math.min(height - 1, Math.floor(y + tall - 0.5));
  for (let row = top; row <= bottom; row++) {
    const up = (row + 0.5 - y) / tall, half = radius * Math.sqrt(Math.max(0, 1 - up * up));
    const left = Math.max(0, Math.ceil(x - half - 0.5)), right = Math.min(width - 1, Math.floor(x + half - 0.5));
    if (right >= left) mask.fill(value, row * width + left, row * width + right + 1);
  }
  const column = Math.floor(x), row = Math.floor(y);
  if (column >= 0 && row >= 0 && column < width && row < height) mask[row * width + column] = value; // the smallest brush is one pixel
  join(box, Math.floor(x - radius) - 1, Math.floor(y - tall) - 1, Math.ceil(x + radius) + 2, Math.ceil(y + tall) + 2);
}
function drag(from, to, value, box) {
  const length = Math.hypot(to.x - from.x, to.y - from.y), steps = Math.max(1, Math.ceil(length / Math.max(0.5, desk.size / 6)));
  for (let i = 1; i <= steps; i++) stamp(from.x + ((to.x - from.x) * i) / steps, from.y + ((to.y - from.y) * i) / steps, value, box);
}
function fill(x, y, erase) { // the piece of mask or of ground that lies under the pointer
  const { width, height, mask } = desk, start = y * width + x;
  if (erase !== Boolean(mask[start])) return tellOnce(erase ? "Nothing is marked there." : "That is marked already.");
  const was = mask[start], found = [start], before = mask.slice();
  mask[start] = 1 - was;
  let open = false;
  for (let n = 0; n < found.length; n++) {
    const i = found[n], column = i % width;
    if (column === 0 || column === width - 1 || i < width || i >= width * (height - 1)) open = true;
    for (const near of [column > 0 ? i - 1 : -1, column < width - 1 ? i + 1 : -1, i - width, i + width]) {
      if (near >= 0 && near < mask.length && mask[near] === was) { mask[near] = 1 - was; found.push(near); }
    }
  }
  if (open && !erase) { desk.mask = before; return tellOnce("The outline is open there: filling would reach the border of the image."); }
  commit(before);
}
function polygon(erase) {
  const corners = desk.corners;
  desk.corners = [];
  drawCorners();
  if (corners.length < 3 || !ready()) return;
  const canvas = new OffscreenCanvas(desk.width, desk.height), context = canvas.getContext("2d", { willReadFrequently: true });
  context.beginPath();
  corners.forEach(({ x, y }) => context.lineTo(x, y));
  context.fill("evenodd");
  const inside = context.getImageData(0, 0, desk.width, desk.height).data, before = desk.mask.slice();
  for (let i = 0; i < desk.mask.length; i++) if (inside[4 * i + 3] > 127) desk.mask[i] = erase ? 0 : 1;
  commit(before);
}
function smooth() { // a pixel is what most of the 5 × 5 around it are
  if (!ready()) return;
  const { width, height, mask } = desk, before = mask.slice(), across = new Uint8Array(mask.length);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
    let sum = 0;
    for (let d = -2; d <= 2; d++) { const c = Math.min(Math.max(x + d, 0), width - 1); sum += before[y * width + c]; }
    across[y * width + x] = sum;
  }
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
    let sum = 0;
    for (let d = -2; d <= 2; d++) { const r = Math.min(Math.max(y + d, 0), height - 1); sum += across[r * width + x]; }
    mask[y * width + x] = sum > 12 ? 1 : 0;
  }
  commit(before);
}
async function copyFrom(by) { // through slices: what was decided on the one before or after
  const index = shown.slice + by, id = desk.base.get(caseKey()), { key, width, height } = desk;
  if (!ready() || !id || index < 0 || index >= (current.planes[shown.plane] ?? 0)) return;
  await settled();
  const found = await pixels(await answer(place("decision.png", index, { structure: desk.structure, id: desk.base.get(caseKey()) })), width, height);
  if (!ready() || desk.key !== key) return; // another slice is shown by now
  const before = desk.mask;
  desk.mask = found;
  commit(before);
}
function commit(before) { // one stroke: it can be taken back, and is saved
  if (!changedSince(before)) return paint();
  desk.edits++;
  const past = desk.past.get(desk.key) ?? [];
  past.push(before);
  desk.past.set(desk.key, past.slice(-60));
  desk.future.set(desk.key, []);
  keep();
}
async function undo() {
  if (desk.past.get(desk.key)?.length || !(await travelBetween(true))) travel(desk.past, desk.future);
}
async function redo() {
  if (desk.future.get(desk.key)?.length || !(await travelBetween(false))) travel(desk.future, desk.past);
}
const changedSince = (before) => desk.mask.some((value, i) => value !== before[i]);
function travel(from, to) { // undo and redo
  const stack = from.get(desk.key) ?? [];
  if (!ready() || !stack.length) return tellOnce(from === desk.past ? "Nothing to take back on this slice." : "Nothing was taken back.");
  const other = to.get(desk.key) ?? [];
  other.push(desk.mask);
  to.set(desk.key, other);
  desk.mask = stack.pop();
  desk.edits++;
  keep();
}
function keep() {
  paint();
  const { number, structure, plane, index } = desk.at; // what the mask is of, not what is shown by now
  notePainted(index);
  enqueue({ structure, slice: { plane, index, png: asPng() } }, number);
}
function asPng() {
  const canvas = document.createElement("canvas"), { width, height, mask } = desk;
  canvas.width = width; canvas.height = height;
  const context = canvas.getContext("2d"), whole = context.createImageData(width, height);
  const words = new Uint32Array(whole.data.buffer);
  for (let i = 0; i < mask.length; i++) words[i] = mask[i] ? 0xffffffff : 0xff000000;
  context.putImageData(whole, 0, 0);
  return canvas.toDataURL("image/png").split(",")[1];
}

// ---- the hand ----------------------------------------------------------------------------------

function deskDown(event) { // true: the stroke is ours, and the page does not move the image
  if (!desk.on || event.button > 0 || event.shiftKey && desk.tool === "brush" || desk.tool === "move") return false;
  if (!desk.mask || desk.key !== sliceKey()) {
    tellOnce(desk.key === sliceKey() ? "Choose what to start from, then paint." : "The slice is still being read.");
    return desk.key !== sliceKey();
  }
  const erase = event.altKey || desk.tool === "eraser", at = pixelAt(event);
  if (desk.tool === "fill") {
    const x = Math.floor(at.x), y = Math.floor(at.y);
    if (x >= 0 && y >= 0 && x < desk.width && y < desk.height) fill(x, y, event.altKey);
    return true;
  }
  if (desk.tool === "polygon") { desk.corners.push(at); drawCorners(); return true; }
  const before = desk.mask.slice(), value = erase ? 0 : 1, box = { x0: 1e9, y0: 1e9, x1: 0, y1: 0 };
  $("picture").setPointerCapture(event.pointerId);
  stamp(at.x, at.y, value, box);
  paint(box);
  let last = at;
  $("picture").onpointermove = (move) => {
    const part = { x0: 1e9, y0: 1e9, x1: 0, y1: 0 };
    for (const each of move.getCoalescedEvents?.() ?? [move]) { const next = pixelAt(each); drag(last, next, value, part); last = next; }
    paint(part);
  };
  desk.end = $("picture").onpointerup = $("picture").onpointercancel = () => {
    desk.end = null;
    $("picture").onpointermove = $("picture").onpointerup = $("picture").onpointercancel = null;
    commit(before);
  };
  return true;
}
function drawCorners() {
  const points = desk.corners.map(({ x, y }) => `${view.x + x * view.scale},${view.y + y * view.scale * view.aspect}`).join(" ");
  $("corners").setAttribute("points", points);
}
function showBrush(event) {
  const ring = $("brush"), shows = desk.on && desk.mask && (desk.tool === "brush" || desk.tool === "eraser");
  ring.setAttribute("visibility", shows ? "visible" : "hidden");
  const corner = $("picture").getBoundingClientRect();
  ring.setAttribute("cx", event.clientX - corner.left);
  ring.setAttribute("cy", event.clientY - corner.top);
  ring.setAttribute("r", Math.max(1.5, (desk.size / 2) * view.scale));
}
