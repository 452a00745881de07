"use strict";
// Where cases are settled: what was painted is saved after every stroke, and who decided what is told.

const desk = {
  on: false, structure: 0, tool: "brush", size: 12, sitting: crypto.randomUUID?.() ?? String(Math.random()).slice(2),
  standing: null, // of the case: what the server says, structure by structure
  base: new Map(), // case and structure: the save this window goes on from
  mask: null, width: 0, height: 0, key: "", at: null, // of the slice that is painted, which may not be the one shown yet
  past: new Map(), future: new Map(), // by slice: strokes to take back, strokes taken back
  painted: [], // slices of the plane that were painted last, the newest first
  edits: 0, end: null, // strokes so far; what ends the one under way
  corners: [], stroke: null, jobs: [], saving: false, failed: null,
};
const COLOUR = [198, 255, 61];
const caseKey = (number = shown.number, c = desk.structure) => `${number}|${c}`;
const sliceKey = () => `${caseKey()}|${shown.plane}|${shown.slice}`;
const ready = () => desk.mask && desk.key === sliceKey();
const ofStructure = () => desk.standing?.[desk.structure] ?? null;

// ---- asking and saving -------------------------------------------------------------------------

function enqueue(body, number = shown.number) { // strokes on one slice that wait become one
  const last = desk.jobs.at(-1);
  const mergeable = last && desk.jobs.length > (desk.saving ? 1 : 0) && last.number === number && last.body.structure === body.structure
    && last.body.slice && body.slice && !body.status && last.body.slice.plane === body.slice.plane && last.body.slice.index === body.slice.index;
  if (mergeable) last.body.slice = body.slice;
  else desk.jobs.push({ number, body });
  told = "";
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
      if (body.between) rememberBetween(key, base[0], found.id);
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
// ---- between two slices ------------------------------------------------------------------------

async function fillBetween() { // as one save, and one step to take back
  const first = Number($("between-first").value) - 1, last = Number($("between-last").value) - 1;
  if (!ready() || !Number.isInteger(first) || !Number.isInteger(last)) return;
  await enqueue({ structure: desk.structure, between: { plane: shown.plane, first, last } });
  await settled();
  deskSlice();
}
function rememberBetween(key, before, after) {
  desk.filled = { key, before, after };
  for (const stack of [desk.past, desk.future]) for (const slice of [...stack.keys()]) if (slice.startsWith(key + "|")) stack.delete(slice);
}
function notePainted(index) {
  const of = `${caseKey()}|${shown.plane}`;
  if (desk.paintedOf !== of) Object.assign(desk, { paintedOf: of, painted: [] });
  if (desk.painted[0] !== index) desk.painted = [index, ...desk.painted.filter((other) => other !== index)].slice(0, 2);
  const [one, two] = desk.painted.length > 1 ? [...desk.painted].sort((a, b) => a - b) : [];
  if (two !== undefined) { $("between-first").value = one + 1; $("between-last").value = two + 1; }
}
async function travelBetween(back) { // true: what is taken back, or done again, is the filling between slices
  const filled = desk.filled, from = back ? "after" : "before";
  if (!filled || filled.key !== caseKey() || desk.base.get(filled.key) !== (filled[`now${from}`] ?? filled[from])) return false;
  const to = back ? "before" : "after";
  const heads = ofStructure()?.saves.filter((save) => save.head).map((save) => save.id) ?? [];
  await take(filled[to], heads);
  filled[`now${to}`] = desk.base.get(filled.key); // the save that took it up again
  return true;
}

// ---- panel -------------------------------------------------------------------------------------

let telling = 0, told = ""; // a sentence that stands for a while, whatever else is described meanwhile
function tellOnce(sentence) {
  told = sentence;
  clearTimeout(telling);
  telling = setTimeout(() => { told = ""; tell(); }, 3500);
  tell();
}
function tell() {
  const says = $("desk-says");
  says.className = desk.failed ? "bad" : "quiet";
  says.textContent = desk.failed ? `Not saved: ${desk.failed}` : desk.jobs.length ? "Saving …" : told || (desk.base.has(caseKey()) ? "Saved" : "");
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
  $("copy-before").hidden = $("copy-after").hidden = $("between").hidden = !current?.planes[shown.plane];
  $("undo").disabled = $("redo").disabled = !begun;
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
    make("p", "", "Neither person saw the other's decision. Both are kept. Take one to end the conflict; then you can correct it."),
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
  s: () => smooth(), u: () => undo(), i: fillBetween,
  ",": () => resize(-1), ".": () => resize(1),
  n: nextOpen,
  Enter: () => desk.tool === "polygon" && desk.corners.length ? polygon(false) : null,
  Escape: () => { desk.corners = []; drawCorners(); },
};
function deskKey(event) { // true: it was ours
  if (!desk.on) return false;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if ((event.ctrlKey || event.metaKey) && key === "z") { event.shiftKey ? redo() : undo(); return true; }
  if ((event.ctrlKey || event.metaKey) && key === "y") { redo(); return true; }
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
  $("undo").onclick = () => undo();
  $("redo").onclick = () => redo();
  $("between-go").onclick = fillBetween;
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
