"use strict";
// Everything shown comes from /api of this address; cases, structures and raters are asked for by number.

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const PRESETS = { "soft tissue": [-160, 240], lung: [-1350, 150], bone: [-450, 1050], brain: [0, 80] };

let about; // what does not change from case to case
let order = []; // cases, those raters differ on most first
let current = null; // what is known of the case shown
const shown = {
  number: null, plane: "", slice: 0, channel: 0, window: null,
  raters: new Set(), structures: new Set(), drawn: true, predicted: false, hidden: false,
  fusion: "", reference: true, prediction: true, step: null, heat: "", structure: 0, trusted: 0,
};
const view = { x: 0, y: 0, scale: 1, aspect: 1 };
let drawing = { outlines: null, prediction: null }; // of the slice shown
let turn = 0; // answers of earlier turns are dropped

// ---- asking ------------------------------------------------------------------------------------

const kept = new Map(); // address: promise of a JSON object or of an image's local address
async function answer(address) {
  const response = await fetch(address).catch(() => {
    throw new Error("The viewer does not answer any more. Start mrprism view again and open the address it prints.");
  });
  if (!response.ok) {
    const sentence = await response.json().then((said) => said.error, () => response.statusText);
    throw new Error(sentence);
  }
  const isImage = response.headers.get("content-type").startsWith("image");
  return isImage ? URL.createObjectURL(await response.blob()) : response.json();
}
function ask(address) {
  if (!kept.has(address)) {
    const promise = answer(address);
    promise.catch(() => kept.delete(address));
    kept.set(address, promise);
    if (kept.size > 120) {
      const [oldest, found] = kept.entries().next().value;
      kept.delete(oldest);
      found.then((value) => typeof value === "string" && URL.revokeObjectURL(value), () => {});
    }
  }
  return kept.get(address);
}
function place(what, slice = shown.slice, more = {}) {
  const query = new URLSearchParams({ plane: shown.plane, slice, ...more });
  return `/api/cases/${shown.number}/${what}?${query}`;
}
const imageAt = (slice) => place("image.png", slice, { low: shown.window[0], high: shown.window[1], channel: shown.channel });
const outlinesAt = (slice) => place("outlines", slice, { fusion: shown.fusion });

// ---- cases -------------------------------------------------------------------------------------

async function readCases() {
  const found = await answer("/api/cases");
  order = found.cases.map((row, number) => ({ ...row, number, decided: found.decided[row.name] ?? "none" }));
  const rank = (row) => (row.fault ? -1 : row.dice ?? 2);
  order.sort((a, b) => rank(a) - rank(b) || a.number - b.number);
  const done = found.measured >= order.length, many = order.length === 1 ? "1 case" : `${order.length} cases`;
  const compared = order.some((row) => row.dice !== null);
  $("progress").textContent = !done ? `comparing raters: ${found.measured} of ${order.length}`
    : compared ? `${many}, most disputed first` : many;
  listCases();
  return done;
}
const wait = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));
async function watchCases() {
  while (!(await readCases())) await wait(1.5);
}
function found() {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  return order.filter((row) => {
    const text = `${row.name} ${row.group ?? ""} ${row.split ?? ""} ${about.desk ? SAID[row.decided] : ""}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
}
function listCases() {
  const rows = found().map((row) => {
    const item = make("li"), button = make("button");
    const label = make("span", "label");
    row.name.split(/(?<=_)/).forEach((part) => label.append(part, make("wbr"))); // long names break there
    const mark = about.desk && row.decided !== "none" ? make("span", "split decided", SAID[row.decided]) : make("span", "split", row.split ?? "");
    mark.dataset.status = row.decided;
    button.append(label, mark);
    if (row.dice !== null) {
      const meter = make("span", "meter"), bar = make("i");
      bar.style.width = `${100 * row.dice}%`;
      meter.append(bar);
      button.append(make("span", "value", row.dice.toFixed(2)), meter);
    } else if (row.fault) button.append(make("span", "value", "!"));
    button.title = row.fault ?? (row.dice === null ? row.name : `${row.name}: mean pairwise Dice ${row.dice.toFixed(3)}`);
    button.classList.toggle("fault", Boolean(row.fault));
    if (row.number === shown.number) button.setAttribute("aria-current", "true");
    button.onclick = () => openCase(row.number);
    button.dataset.number = row.number;
    item.append(button);
    return item;
  });
  refill("cases", rows, "number");
  $("no-case").hidden = rows.length > 0;
  $("no-case").textContent = order.length ? `No case is called “${$("search").value}”.` : "This data set has no cases.";
}
function refill(id, rows, key) { // whoever had the keyboard keeps it
  const held = $(id).contains(document.activeElement) ? document.activeElement.dataset[key] : null;
  $(id).replaceChildren(...rows);
  if (held !== null) $(id).querySelector(`[data-${key}="${held}"]`)?.focus({ preventScroll: true });
}
function step(by) {
  const rows = found();
  const at = rows.findIndex((row) => row.number === shown.number);
  const next = rows[Math.min(Math.max(at + by, 0), rows.length - 1)];
  if (next && next.number !== shown.number) openCase(next.number);
}

async function openCase(number, slice = null) {
  const mine = ++turn;
  shown.number = number;
  listCases();
  $("name").textContent = order.find((row) => row.number === number).name;
  $("facts").textContent = "";
  const here = document.querySelector("#cases [aria-current]")?.getBoundingClientRect();
  const list = $("cases").getBoundingClientRect(); // scrollIntoView would move the page of a narrow window, too
  if (here) $("cases").scrollTop += Math.min(here.top - list.top - 6, 0) || Math.max(here.bottom - list.bottom + 6, 0);
  busy(true);
  try {
    const found = await ask(`/api/cases/${number}`);
    if (mine !== turn) return;
    current = found;
    const planes = Object.keys(current.planes);
    if (!planes.includes(shown.plane)) shown.plane = planes[0] ?? "";
    shown.channel = Math.min(shown.channel, Math.max(current.channels.length - 1, 0));
    shown.window = current.window;
    const profile = await ask(`/api/cases/${number}/profile?plane=${shown.plane}`);
    if (mine !== turn) return;
    shown.slice = Math.min(slice ?? profile.start, Math.max((current.planes[shown.plane] ?? 1) - 1, 0));
    view.aspect = profile.aspect;
    describe(profile);
    fit();
    await show();
  } catch (error) {
    if (mine !== turn) return;
    current = null;
    $("slices").hidden = true;
    listRaters();
    tabulate();
    fail(error);
  }
}
function describe(profile) {
  $("name").textContent = current.name;
  document.title = `${current.name} · mrprism view`;
  const size = [...current.size].reverse().join(" × ");
  const mm = current.spacing_mm ? [...current.spacing_mm].reverse().map((n) => Number(n.toPrecision(3))).join(" × ") + " mm" : "";
  const { image, again, group, split, diagnosis } = current.facts;
  $("facts").textContent = [
    group && `patient ${group}`, split, diagnosis !== null && `diagnosis ${diagnosis}`, size, mm,
    !image && "masks only, no image", again.length > 0 && `first readings; read again by ${again.join(", ")}`,
  ].filter(Boolean).join(" · ");
  const planes = Object.keys(current.planes);
  $("slices").hidden = planes.length === 0;
  $("plane").replaceChildren(...planes.map((plane) => new Option(plane, plane, false, plane === shown.plane)));
  $("slice").max = (current.planes[shown.plane] ?? 1) - 1;
  drawProfile(profile.disputed);
  $("reference-row").hidden = !current.reference;
  panel();
  $("window-section").hidden = current.colour;
  $("preset").hidden = !(current.own_units && current.range[0] < -500);
  $("preset").replaceChildren(new Option("preset", ""), ...Object.keys(PRESETS).map((name) => new Option(name, name)), new Option("as at first", "first"));
  $("channel-row").hidden = current.channels.length === 0;
  $("channel").replaceChildren(...current.channels.map((name, c) => new Option(name, c, false, c === shown.channel)));
  listRaters();
  tabulate();
}
function drawProfile(disputed) {
  const most = Math.max(...disputed, 1), n = disputed.length;
  $("profile").setAttribute("viewBox", `0 0 ${Math.max(n, 1)} 1`);
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", "M0 1" + disputed.map((v, i) => `V${1 - v / most}H${i + 1}`).join("") + "V1Z");
  $("profile").replaceChildren(...(n ? [path] : []));
}

// ---- the slice ---------------------------------------------------------------------------------

async function show() {
  if (!current) return;
  const mine = ++turn;
  busy(true);
  remember();
  $("slice").value = shown.slice;
  $("slice-says").textContent = `${shown.slice + 1} of ${current.planes[shown.plane] ?? 1}`;
  $("level").value = Number(((shown.window[0] + shown.window[1]) / 2).toPrecision(4));
  $("width").value = Number((shown.window[1] - shown.window[0]).toPrecision(4));
  try {
    const [image, outlines] = await Promise.all([ask(imageAt(shown.slice)), ask(outlinesAt(shown.slice))]);
    if (mine !== turn) return;
    drawing = { outlines, prediction: null };
    const [height, width] = await sized(image);
    if (mine !== turn) return;
    for (const name of ["image", "overlay"]) {
      $(name).setAttribute("width", width);
      $(name).setAttribute("height", height);
    }
    if (view.width !== width || view.height !== height) { Object.assign(view, { width, height }); fit(); }
    $("image").setAttribute("href", image);
    $("fault").hidden = true;
    draw();
    if (about.predicts) {
      const prediction = await ask(place("prediction")).catch((error) => {
        if (mine === turn) say(error);
        return null;
      });
      if (mine !== turn) return;
      drawing.prediction = prediction;
      if (prediction) shown.step = Math.min(shown.step ?? Infinity, prediction.steps.length - 1);
      draw();
      listRaters();
    }
    const heat = heatAddress();
    const colours = heat && (drawing.prediction || shown.heat === "votes") ? await ask(heat) : null;
    if (mine !== turn) return;
    colours ? $("overlay").setAttribute("href", colours) : $("overlay").removeAttribute("href");
    explainHeat();
    busy(false);
    document.body.dataset.ready = "yes";
    deskSlice();
    if (current.planes[shown.plane]) {
      for (const near of [shown.slice + 1, shown.slice - 1]) {
        if (near >= 0 && near < current.planes[shown.plane]) {
          ask(imageAt(near)).catch(() => {});
          ask(outlinesAt(near)).catch(() => {});
        }
      }
    }
  } catch (error) {
    if (mine === turn) fail(error);
  }
}
function sized(address) {
  return new Promise((done, failed) => {
    const image = new Image();
    image.onload = () => done([image.naturalHeight, image.naturalWidth]);
    image.onerror = () => failed(new Error("the image could not be shown"));
    image.src = address;
  });
}
function draw() {
  const { outlines, prediction } = drawing, lines = [];
  const structures = [...shown.structures];
  const line = (path, kind, colour, rater) => {
    if (!path) return;
    for (const name of kind.endsWith("predicted") || !$("edges").checked ? [kind] : ["edge", kind]) {
      const element = document.createElementNS(SVG, "path");
      element.setAttribute("d", path);
      element.setAttribute("class", name);
      if (name !== "edge") {
        if (colour) element.style.stroke = colour;
        if (rater !== undefined) {
          element.dataset.rater = rater;
          if ($("dashes").checked && !kind.endsWith("predicted")) element.style.strokeDasharray = about.raters[rater].dash;
        }
      }
      lines.push(element);
    }
  };
  if (!shown.hidden && outlines) {
    for (const c of structures) {
      about.raters.forEach((rater, r) => {
        if (!shown.raters.has(r)) return;
        if (shown.drawn) line(outlines.raters[r][c], "rater", rater.colour, r);
        if (shown.predicted) line(prediction?.raters?.[r]?.[c], "rater predicted", rater.colour, r);
      });
      line(outlines.consensus[c], "consensus");
      if (shown.prediction) line(prediction?.steps[shown.step]?.[c], "prediction", about.prediction_colour);
      if (shown.reference) line(outlines.reference[c], "reference");
    }
  }
  $("lines").replaceChildren(...lines);
  $("hidden-note").hidden = !shown.hidden;
  const steps = prediction?.steps.length ?? 1;
  $("step-row").hidden = steps < 2;
  $("step").max = steps - 1;
  $("step").value = shown.step ?? steps - 1;
  $("step-says").textContent = `Recurrence ${shown.step ?? 0} of ${steps - 1}`;
  transform();
}

// ---- heat maps ---------------------------------------------------------------------------------

function heatAddress() {
  const structure = shown.structure;
  if (shown.heat === "votes") return place("votes.png", shown.slice, { structure });
  if (shown.heat === "probability") return place("probability.png", shown.slice, { structure, step: shown.step ?? 0 });
  if (shown.heat === "confidence" && drawing.prediction?.confidence?.[shown.trusted])
    return place("confidence.png", shown.slice, { structure, rater: shown.trusted });
  return null;
}
function explainHeat() {
  const trust = shown.heat === "confidence";
  $("bar").hidden = !shown.heat;
  if (!shown.heat) return;
  const structure = about.structures[shown.structure];
  const colours = trust ? about.confidence_colours : about.share_colours;
  $("bar").querySelector("i").style.background = `linear-gradient(to right, ${colours.join(", ")})`;
  $("bar-low").textContent = trust ? "0.5" : "0";
  $("bar-high").textContent = "1";
  $("bar-what").textContent = {
    votes: `share of raters who marked ${structure}`,
    probability: `probability of ${structure}, recurrence ${shown.step ?? 0}`,
    confidence: drawing.prediction?.confidence?.[shown.trusted]
      ? `confidence in ${about.raters[shown.trusted].name}, ${structure}`
      : "this run says nothing of how far to trust raters",
  }[shown.heat];
}

// ---- panel -------------------------------------------------------------------------------------

function make(tag, kind = "", text = "") {
  const element = document.createElement(tag);
  if (kind) element.className = kind;
  element.textContent = text;
  return element;
}
function choice(box, options, isOn, pick) {
  $(box).replaceChildren(...options.map(([value, text]) => {
    const button = make("button", "", text);
    button.setAttribute("aria-pressed", isOn(value));
    button.onclick = () => { pick(value); panel(); };
    return button;
  }));
}
function panel() {
  const structures = about.structures.map((name, c) => [c, name]);
  choice("structures", structures, (c) => shown.structures.has(c), (c) => { toggle(shown.structures, c); draw(); });
  const maps = [["", "none"]];
  if (about.raters.length > 1) maps.push(["votes", "votes"]);
  if (about.predicts) maps.push(["probability", "probability"], ["confidence", "confidence"]);
  choice("heat", maps, (name) => shown.heat === name, (name) => { shown.heat = name; show(); });
  $("heat-section").hidden = maps.length < 2;
  const several = structures.length > 1 ? structures : [];
  const measure = (c) => { shown.structure = c; tabulate(); shown.heat ? show() : remember(); };
  choice("heat-of", shown.heat ? several : [], (c) => shown.structure === c, measure);
  choice("dice-of", several, (c) => shown.structure === c, measure);
  const kinds = [["drawn", "drawn"], ["predicted", "predicted"]];
  choice("drawn-or-predicted", kinds, (kind) => shown[kind], (kind) => { shown[kind] = !shown[kind]; draw(); remember(); });
  $("drawn-or-predicted").hidden = !about.predicts;
  $("fusion-row").hidden = about.raters.length < 2;
  $("others").hidden = about.raters.length < 2 && !about.predicts && !current?.reference;
  $("prediction-row").hidden = !about.predicts;
  $("prediction").checked = shown.prediction;
  $("reference").checked = shown.reference;
  $("fusion").value = shown.fusion;
}
function listRaters() {
  const trust = drawing.prediction?.confidence;
  $("trust-head").hidden = !trust;
  $("trust-head").textContent = `${drawing.prediction?.trusted_by ?? "mean confidence"}: ${about.structures.join(", ")}`;
  const rows = about.raters.map((rater, r) => {
    const states = current?.states[r] ?? [];
    const item = make("li"), button = make("button"), swatch = make("span", "swatch");
    swatch.style.background = swatch.style.borderColor = rater.colour;
    const gone = states.length > 0 && states.every((state) => state === "absent");
    item.classList.toggle("off", !shown.raters.has(r));
    item.classList.toggle("gone", gone);
    button.append(make("span", "key", r < 9 ? r + 1 : ""), swatch, make("span", "label", rater.name));
    let says = "";
    if (gone) says = "not done";
    else if (states.length && states.every((state) => state === "empty")) says = "empty";
    else says = states.map((state, c) => ({ absent: `${about.structures[c]} not done`, empty: `${about.structures[c]} empty` })[state])
      .filter(Boolean).join(", ");
    const note = make("span", gone || says.includes("not done") ? "says absent" : "says", says);
    if (!says && trust?.[r]) {
      note.className = "trust";
      note.textContent = trust[r].map((value) => value.toFixed(2)).join("  ");
    }
    button.append(note);
    button.dataset.rater = r;
    button.title = `${rater.name}: click hides or shows, double click shows alone`;
    button.setAttribute("aria-pressed", shown.raters.has(r));
    button.onclick = () => pickRater(r, false);
    button.ondblclick = () => pickRater(r, true);
    button.onmouseenter = button.onfocus = () => emphasise(r);
    button.onmouseleave = button.onblur = () => emphasise(null);
    item.append(button);
    return item;
  });
  refill("raters", rows, "rater");
}
function pickRater(r, alone) {
  if (!about.raters[r]) return;
  alone ? (shown.raters = new Set([r])) : toggle(shown.raters, r);
  shown.trusted = r;
  listRaters();
  shown.heat === "confidence" ? show() : draw();
}
function emphasise(rater) {
  for (const line of $("lines").querySelectorAll(".rater")) {
    line.classList.toggle("bright", rater !== null && line.dataset.rater === String(rater));
    line.classList.toggle("dim", rater !== null && line.dataset.rater !== String(rater));
  }
}
function tabulate() {
  $("dice-section").hidden = about.raters.length < 2 || !current;
  if ($("dice-section").hidden) return;
  const table = current.dice[shown.structure];
  const present = about.raters.map((_, r) => r).filter((r) => current.states[r][shown.structure] !== "absent");
  if (present.length < 2) {
    $("dice").replaceChildren(make("p", "quiet", "Fewer than two raters did this."));
    return;
  }
  const grid = make("table"), head = make("tr");
  const swatch = (r) => {
    const cell = make("th"), mark = make("i");
    mark.style.background = about.raters[r].colour;
    cell.title = about.raters[r].name;
    cell.append(mark);
    return cell;
  };
  head.append(make("th"), ...present.map(swatch));
  grid.append(head);
  const values = [];
  for (const r of present) {
    const row = make("tr");
    row.append(swatch(r));
    for (const s of present) {
      const value = r === s ? null : table[r][s];
      const cell = make("td", value === null ? "none" : "", value === null ? "" : present.length > 9 ? "" : value.toFixed(2).replace(/^0/, ""));
      if (value !== null) {
        if (r < s) values.push(value);
        cell.style.background = `color-mix(in srgb, #24425c ${100 * Math.max(0, (value - 0.2) / 0.8)}%, #b3541e)`;
        cell.title = `${about.raters[r].name} and ${about.raters[s].name}: ${value.toFixed(3)}`;
        cell.onmouseenter = () => { for (const l of $("lines").querySelectorAll(".rater")) l.classList.toggle("dim", ![r, s].includes(Number(l.dataset.rater))); };
        cell.onmouseleave = () => emphasise(null);
      }
      row.append(cell);
    }
    grid.append(row);
  }
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  $("dice").replaceChildren(grid, make("p", "quiet", `Mean ${mean.toFixed(3)}, lowest ${Math.min(...values).toFixed(3)}; whole case`));
}
function toggle(set, value) { set.has(value) ? set.delete(value) : set.add(value); }
function busy(is) { $("busy").hidden = !is; }
function say(error) {
  $("fault").textContent = error.message;
  $("fault").hidden = false;
}
function fail(error) {
  busy(false);
  say(error);
  $("image").removeAttribute("href");
  $("overlay").removeAttribute("href");
  $("bar").hidden = true;
  drawing = { outlines: null, prediction: null };
  draw();
}

// ---- zoom, pan, window -------------------------------------------------------------------------

function transform() {
  $("turned").setAttribute("transform", `translate(${view.x} ${view.y}) scale(${view.scale} ${view.scale * view.aspect})`);
  $("image").classList.toggle("sharp", view.scale > 3);
  deskPlace();
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
  if (deskDown(event)) return;
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

// ---- controls ----------------------------------------------------------------------------------

$("search").oninput = listCases;
$("before").onclick = () => step(-1);
$("after").onclick = () => step(1);
$("fit").onclick = fit;
$("help").onclick = () => { $("keys").hidden = !$("keys").hidden; $("help").setAttribute("aria-expanded", !$("keys").hidden); };
$("all").onclick = () => { shown.raters = new Set(about.raters.keys()); listRaters(); draw(); };
$("none").onclick = () => { shown.raters.clear(); listRaters(); draw(); };
$("slice").oninput = () => toSlice(Number($("slice").value));
$("slice").onpointerup = () => $("slice").blur(); // ← → mean cases again
$("plane").onchange = () => { shown.plane = $("plane").value; openCase(shown.number); };
$("channel").onchange = () => { shown.channel = Number($("channel").value); show(); };
$("fusion").onchange = () => { shown.fusion = $("fusion").value; show(); };
$("reference").onchange = () => { shown.reference = $("reference").checked; draw(); };
$("prediction").onchange = () => { shown.prediction = $("prediction").checked; draw(); };
$("dashes").onchange = $("edges").onchange = draw;
$("line-width").oninput = () => $("lines").style.setProperty("--width", $("line-width").value);
$("line-opacity").oninput = () => { $("lines").style.opacity = $("line-opacity").value; };
$("step").oninput = () => toStep(Number($("step").value));
$("preset").onchange = () => {
  const name = $("preset").value;
  if (name) windowTo(...(PRESETS[name] ?? current.window));
};
for (const name of ["level", "width"]) {
  $(name).onchange = () => {
    const level = Number($("level").value), width = Number($("width").value);
    windowTo(level - width / 2, level + width / 2);
  };
}
function toStep(index) {
  const last = (drawing.prediction?.steps.length ?? 1) - 1;
  shown.step = Math.min(Math.max(index, 0), last);
  shown.heat === "probability" ? show() : draw();
}
const KEYS = {
  ArrowLeft: () => step(-1),
  ArrowRight: () => step(1),
  ArrowUp: () => (current?.planes[shown.plane] ? toSlice(shown.slice - 1) : step(-1)),
  ArrowDown: () => (current?.planes[shown.plane] ? toSlice(shown.slice + 1) : step(1)),
  " ": () => { shown.hidden = !shown.hidden; draw(); paint(); },
  0: () => $("all").click(),
  "[": () => toStep((shown.step ?? 0) - 1),
  "]": () => toStep((shown.step ?? 0) + 1),
  "/": () => $("search").focus(),
  "?": () => $("help").click(),
  Escape: () => { if (!$("keys").hidden) $("help").click(); },
  f: fit,
  v: () => { shown.heat = shown.heat === "votes" ? "" : "votes"; panel(); show(); },
  d: () => { $("dashes").checked = !$("dashes").checked; draw(); },
  r: () => { shown.reference = !shown.reference; panel(); draw(); },
};
addEventListener("keydown", (event) => {
  const writing = event.target.matches("input:not([type=range]):not([type=checkbox]), select, textarea");
  if (!writing && deskKey(event)) { event.preventDefault(); return; }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input[type=search], input[type=number], select, textarea");
  if (typing) {
    if (event.key === "Escape" && event.target === $("search")) { $("search").value = ""; listCases(); }
    if (event.key === "Escape" || (event.key === "Enter" && !event.target.matches("textarea"))) { event.target.blur(); }
    return;
  }
  if (event.key === " " && event.target.matches("button, input")) return; // presses it
  if (event.key.startsWith("Arrow") && event.target.matches("input[type=range]")) return; // moves it
  const digit = /^Digit([1-9])$/.exec(event.code)?.[1] ?? /^[1-9]$/.exec(event.key)?.[0]; // Shift turns 1 into !
  const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key]
    ?? (digit && (() => pickRater(digit - 1, event.shiftKey)));
  if (!act) return;
  event.preventDefault();
  act();
});

// ---- begin; the address remembers what is shown --------------------------------------------------

function remember() {
  const now = { case: current.name, plane: shown.plane, slice: shown.slice, heat: shown.heat, structure: shown.structure, fusion: shown.fusion };
  history.replaceState(null, "", `/#${new URLSearchParams(Object.entries(now).filter(([, value]) => value !== ""))}`);
}
async function begin() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  history.replaceState(null, "", "/"); // the key stays in a cookie
  about = await answer("/api/about");
  $("title").textContent = about.title;
  openDesk();
  $("prediction-sample").style.borderColor = about.prediction_colour;
  shown.raters = new Set(about.raters.keys());
  shown.structures = new Set(about.structures.keys());
  $("fusion").replaceChildren(new Option("none", ""), ...about.fusions.map((name) => new Option(name, name)));
  if (about.fusions.includes(wanted.get("fusion"))) shown.fusion = wanted.get("fusion");
  if (["votes", "probability", "confidence"].includes(wanted.get("heat"))) shown.heat = wanted.get("heat");
  shown.structure = Math.min(Number(wanted.get("structure")) || 0, about.structures.length - 1);
  shown.predicted = wanted.get("predicted") === "yes";
  shown.plane = wanted.get("plane") ?? "";
  $("step-row").hidden = true;
  const watched = watchCases();
  await Promise.race([watched, wait(1.5)]); // where it does not take long, begin with the case most disputed
  watched.catch(fail);
  panel();
  listRaters();
  const named = order.find((row) => row.name === wanted.get("case"));
  const slice = wanted.get("slice") === null ? null : Number(wanted.get("slice"));
  if (order.length) await openCase((named ?? order[0]).number, named ? slice : null);
}
addEventListener("DOMContentLoaded", () => begin().catch(fail)); // decide.js is read after this file
