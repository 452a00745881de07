"use strict";
// Where cases are settled: the mask of one slice is painted here and saved after every stroke. Uses what page.js has.

const desk = {
  on: false, structure: 0, tool: "brush", size: 12, sitting: crypto.randomUUID?.() ?? String(Math.random()).slice(2),
  standing: null, // of the case: what the server says, structure by structure
  base: new Map(), // case and structure: the save this window goes on from
  mask: null, width: 0, height: 0, key: "", at: null, // of the slice that is painted, which may not be the one shown yet
  past: new Map(), future: new Map(), // by slice: strokes to take back, strokes taken back
  edits: 0, end: null, // strokes so far; what ends the one under way
  corners: [], stroke: null, jobs: [], saving: false, failed: null,
};
const COLOUR = [198, 255, 61];
const SAID = { none: "Not begun", open: "Open", discuss: "To discuss", agreed: "Agreed", final: "Final", conflict: "In conflict", settled: "Settled", unreadable: "Unreadable" };
const caseKey = (number = shown.number, c = desk.structure) => `${number}|${c}`;
const sliceKey = () => `${caseKey()}|${shown.plane}|${shown.slice}`;
const ready = () => desk.mask && desk.key === sliceKey();
const ofStructure = () => desk.standing?.[desk.structure] ?? null;

// ---- asking and saving -------------------------------------------------------------------------

async function send(address, body) {
  const response = await fetch(address, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }).catch(() => {
    throw new Error("The viewer does not answer any more; what you painted since is not saved yet.");
  });
  const found = await response.json();
  if (!response.ok) throw Object.assign(new Error(found.error ?? response.statusText), { refused: response.status === 422 });
  return found;
}
function enqueue(body, number = shown.number) { // strokes on one slice that wait become one
  const last = desk.jobs.at(-1);
  const mergeable = last && desk.jobs.length > (desk.saving ? 1 : 0) && last.number === number && last.body.structure === body.structure
    && last.body.slice && body.slice && !body.status && last.body.slice.plane === body.slice.plane && last.body.slice.index === body.slice.index;
  if (mergeable) last.body.slice = body.slice;
  else desk.jobs.push({ number, body });
  return work();
}
async function work() {
  if (desk.saving) return;
  desk.saving = true;
  let refused = "";
  while (desk.jobs.length) {
    const { number, body } = desk.jobs[0], key = caseKey(number, body.structure);
    tell();
    try {
      const base = body.base ?? (desk.base.has(key) ? [desk.base.get(key)] : []);
      const found = await send(`/api/cases/${number}/decisions`, { sitting: desk.sitting, ...body, base });
      desk.base.set(key, found.id);
      if (number === shown.number && desk.standing) desk.standing[body.structure] = found;
      desk.failed = null;
      desk.jobs.shift();
    } catch (error) {
      if (error.refused && !body.slice && body.note === undefined) { // asked again by a click, and strokes wait behind it
        refused = error.message;
        desk.jobs.shift();
        continue;
      }
      desk.failed = error.message;
      break; // what is painted waits for another try
    }
  }
  desk.saving = false;
  tell();
  describeDesk();
  if (refused) tellOnce(refused);
}
async function readStanding(number) {
  const found = await answer(`/api/cases/${number}/decisions`);
  if (number !== shown.number) return;
  desk.standing = found.structures;
  desk.standing.forEach((one, c) => {
    const mine = one.saves.find((save) => save.head && save.who === about.desk.who);
    const head = one.status === "conflict" ? mine?.id ?? one.held : one.held;
    if (head) desk.base.set(caseKey(number, c), head);
    else desk.base.delete(caseKey(number, c));
  });
}

// ---- the slice ---------------------------------------------------------------------------------

async function deskSlice() { // the page shows another slice
  if (!desk.on || !current) return;
  if (desk.end && desk.key !== sliceKey()) desk.end(); // a stroke under way ends on its own slice
  await settled();
  const number = shown.number, key = sliceKey(), edits = desk.edits;
  const at = { number, structure: desk.structure, plane: shown.plane, index: shown.slice };
  if (desk.key === key && desk.jobs.length) return paint(); // what waits is newer than what is saved
  if (desk.standingOf !== number) { desk.standingOf = number; desk.standing = null; }
  try {
    if (!desk.standing) await readStanding(number);
    const id = desk.base.get(caseKey());
    const mask = id ? await answer(place("decision.png", shown.slice, { structure: desk.structure, id })) : null;
    if (key !== sliceKey()) { if (mask) URL.revokeObjectURL(mask); return; }
    const { width, height } = view, read = mask ? await pixels(mask, width, height) : null;
    if (key !== sliceKey()) return;
    if (desk.key === key && (desk.end || desk.edits !== edits)) return; // painted meanwhile
    Object.assign(desk, { key, at, corners: [], width, height, mask: read });
  } catch (error) { desk.mask = null; say(error); }
  paint();
  describeDesk();
}
function settled() { // what waits to be saved is saved before anything else is read
  return new Promise((done) => {
    const look = () => (desk.saving ? setTimeout(look, 15) : done());
    look();
  });
}
async function pixels(address, width, height) {
  const image = new Image();
  image.src = address;
  await image.decode();
  URL.revokeObjectURL(address);
  const canvas = new OffscreenCanvas(width, height), context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const found = context.getImageData(0, 0, width, height).data;
  const mask = new Uint8Array(width * height);
  for (let i = 0; i < mask.length; i++) mask[i] = found[4 * i] > 127 ? 1 : 0;
  return mask;
}
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
  deskPlace();
}
function deskPlace() { // as the image is zoomed and moved
  $("painted").style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale}, ${view.scale * view.aspect})`;
  drawCorners();
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

function pixelAt(event) {
  const corner = $("picture").getBoundingClientRect();
  return { x: (event.clientX - corner.left - view.x) / view.scale, y: (event.clientY - corner.top - view.y) / (view.scale * view.aspect) };
}
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

// ---- panel -------------------------------------------------------------------------------------

let telling = 0;
function tellOnce(sentence) {
  $("desk-says").textContent = sentence;
  $("desk-says").className = "quiet";
  clearTimeout(telling);
  telling = setTimeout(tell, 3500);
}
function tell() {
  const says = $("desk-says");
  says.className = desk.failed ? "bad" : "quiet";
  says.textContent = desk.failed ? `Not saved: ${desk.failed}` : desk.jobs.length ? "Saving …" : desk.base.has(caseKey()) ? "Saved" : "";
  $("desk-retry").hidden = !desk.failed;
  document.body.dataset.saved = desk.jobs.length || desk.failed ? "no" : "yes";
}
function describeDesk() {
  if (!desk.on) return;
  const one = ofStructure(), status = one?.status ?? "none", begun = Boolean(desk.mask);
  choice("desk-of", about.structures.length > 1 ? about.structures.map((name, c) => [c, name]) : [], (c) => desk.structure === c, (c) => {
    desk.structure = shown.structure = c;
    deskSlice();
  });
  $("desk-status").textContent = SAID[status];
  $("desk-status").dataset.status = status;
  const held = one?.saves.find((save) => save.id === desk.base.get(caseKey()));
  $("desk-held").textContent = held
    ? `from ${held.from}${held.changed ? `, ${held.changed.toLocaleString("en")} pixels changed` : ", unchanged"}; ${held.who}${held.accepted_above === null ? "" : `, accepted unseen above Dice ${held.accepted_above}`}`
    : "Choose what to start from.";
  $("desk-begin").textContent = begun ? "Start again" : "Start";
  $("tools").hidden = $("statuses").hidden = $("desk-note-row").hidden = !begun;
  for (const button of $("tools").querySelectorAll("[data-tool]")) button.setAttribute("aria-pressed", button.dataset.tool === desk.tool);
  for (const button of $("statuses").querySelectorAll("[data-status]")) button.setAttribute("aria-pressed", button.dataset.status === held?.status);
  $("copy-before").hidden = $("copy-after").hidden = !current?.planes[shown.plane];
  $("undo").disabled = !desk.past.get(desk.key)?.length;
  $("redo").disabled = !desk.future.get(desk.key)?.length;
  if (document.activeElement !== $("desk-note")) $("desk-note").value = held?.note ?? "";
  $("picture").classList.toggle("painting", begun && desk.tool !== "move");
  conflicts(one);
  const rows = (one?.saves ?? []).map((save) => {
    const item = make("li"), look = make("button", "small", "use");
    look.title = "Go on from this one; what came after it is kept";
    look.onclick = () => take(save.id, one.saves.filter((other) => other.head).map((other) => other.id));
    const text = `${save.when.slice(0, 16).replace("T", " ")} ${save.who}: ${SAID[save.status].toLowerCase()}, ${save.from}, ${save.changed.toLocaleString("en")} px changed${save.note ? ` – ${save.note}` : ""}`;
    item.append(make("span", save.head ? "head" : "", text), look);
    return item;
  });
  $("history").replaceChildren(...rows);
  $("history-row").hidden = !rows.length;
  $("history-count").textContent = `${rows.length} kept`;
  tell();
}
function conflicts(one) {
  const heads = one?.status === "conflict" ? one.saves.filter((save) => save.head) : [];
  $("conflict").hidden = !heads.length;
  if (!heads.length) return;
  const ids = heads.map((save) => save.id);
  $("conflict").replaceChildren(
    make("p", "", "These were decided without sight of each other. Both are kept; take one to end the conflict, then correct it."),
    ...heads.map((save) => {
      const row = make("div", "row"), look = make("button", "small", "look"), use = make("button", "small", "take");
      look.onclick = () => { desk.base.set(caseKey(), save.id); deskSlice(); };
      use.onclick = () => take(save.id, ids);
      row.append(make("span", "", `${save.who}, ${SAID[save.status].toLowerCase()}, ${save.marked.toLocaleString("en")} px`), look, use);
      return row;
    }),
  );
}
async function take(id, heads) { // goes on from this one, and from all others, which ends a conflict
  await enqueue({ structure: desk.structure, base: [id, ...heads.filter((other) => other !== id)], status: "open" });
  deskSlice();
}
async function begin_(kind, of) {
  const number = shown.number, one = ofStructure();
  const base = one?.saves.filter((save) => save.head).map((save) => save.id) ?? [];
  const body = { structure: desk.structure, start: { kind, of }, base, status: "open" };
  await enqueue(body, number);
  await settled();
  const left = desk.jobs.findIndex((job) => job.body === body);
  if (left >= 0) desk.jobs.splice(left, 1); // nothing was painted: there is nothing to try again
  else deskSlice();
}
async function settle(status) {
  if (!ready()) return;
  await enqueue({ structure: desk.structure, status });
  readCases().catch(() => {});
}
function startName({ kind, of }) {
  if (kind === "rater") return about.raters[of].name;
  return of ?? { union: "all of them together", intersection: "what all marked", model: "the prediction", reference: "the reference", empty: "nothing" }[kind];
}
async function acceptAgreed() {
  const above = Number($("accept-above").value);
  $("accept-go").disabled = true;
  $("accept-says").textContent = "comparing …";
  try {
    const dry = $("accept-go").dataset.counted !== String(above);
    const found = await send("/api/accept", { above, dry });
    const many = found.accepted.length;
    $("accept-go").dataset.counted = dry ? String(above) : "";
    $("accept-go").textContent = dry && many ? `Accept these ${many}` : "Count";
    $("accept-says").textContent = dry
      ? `${many} of ${found.looked_at} not begun have every two raters above ${above}.`
      : `${many} accepted as agreed, by majority.`;
    if (!dry) { desk.standing = null; await readCases(); deskSlice(); }
  } catch (error) { $("accept-says").textContent = error.message; }
  $("accept-go").disabled = false;
}
function nextOpen() {
  const rows = found(), at = rows.findIndex((row) => row.number === shown.number);
  const next = [...rows.slice(at + 1), ...rows.slice(0, at + 1)].find((row) => row.decided !== "settled");
  next && next.number !== shown.number ? openCase(next.number) : tellOnce("Every case of this list is settled.");
}
const DESK_KEYS = {
  b: () => pick("brush"), e: () => pick("eraser"), g: () => pick("fill"), p: () => pick("polygon"), m: () => pick("move"),
  s: smooth, u: () => travel(desk.past, desk.future),
  ",": () => resize(-1), ".": () => resize(1),
  n: nextOpen,
  Enter: () => desk.tool === "polygon" && desk.corners.length ? polygon(false) : null,
  Escape: () => { desk.corners = []; drawCorners(); },
};
function deskKey(event) { // true: it was ours
  if (!desk.on) return false;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if ((event.ctrlKey || event.metaKey) && key === "z") { event.shiftKey ? travel(desk.future, desk.past) : travel(desk.past, desk.future); return true; }
  if ((event.ctrlKey || event.metaKey) && key === "y") { travel(desk.future, desk.past); return true; }
  if (event.ctrlKey || event.metaKey || event.altKey || !DESK_KEYS[key] || (key === "Escape" && !desk.corners.length)) return false;
  if (key === "Enter" && event.target.matches("button")) return false;
  DESK_KEYS[key]();
  return true;
}
function pick(tool) { desk.tool = tool; desk.corners = []; drawCorners(); describeDesk(); }
function resize(by) {
  desk.size = Math.min(200, Math.max(1, Math.round(desk.size * (by > 0 ? 1.25 : 0.8) + by * 0.5)));
  $("brush-size").value = desk.size;
  $("brush-says").textContent = `${desk.size} px`;
}
function openDesk() {
  if (!about.desk) return;
  desk.on = true;
  $("desk").hidden = false;
  $("desk-who").textContent = about.desk.who + (about.desk.blind ? ", blind" : "");
  const starts = about.desk.starts;
  $("desk-start").replaceChildren(...starts.map((start, n) => new Option(startName(start), n)));
  $("desk-begin").onclick = () => { const { kind, of } = starts[$("desk-start").value]; begin_(kind, of); };
  for (const button of $("tools").querySelectorAll("[data-tool]")) button.onclick = () => pick(button.dataset.tool);
  for (const button of $("statuses").querySelectorAll("[data-status]")) button.onclick = () => settle(button.dataset.status);
  $("smooth").onclick = smooth;
  $("undo").onclick = () => travel(desk.past, desk.future);
  $("redo").onclick = () => travel(desk.future, desk.past);
  $("copy-before").onclick = () => copyFrom(-1);
  $("copy-after").onclick = () => copyFrom(1);
  $("brush-size").oninput = () => { desk.size = Number($("brush-size").value); $("brush-says").textContent = `${desk.size} px`; };
  $("desk-note").onchange = () => enqueue({ structure: desk.structure, note: $("desk-note").value });
  $("desk-retry").onclick = work;
  $("next-open").onclick = nextOpen;
  $("accept-go").onclick = acceptAgreed;
  $("accept-above").oninput = () => { $("accept-go").textContent = "Count"; $("accept-go").dataset.counted = ""; };
  $("picture").addEventListener("pointermove", showBrush);
  $("picture").addEventListener("pointerleave", () => $("brush").setAttribute("visibility", "hidden"));
  addEventListener("beforeunload", (event) => { if (desk.jobs.length) event.preventDefault(); });
}
