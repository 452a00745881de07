"use strict";
// A case is opened, and one slice of it is shown.

const PRESETS = { "soft tissue": [-160, 240], lung: [-1350, 150], bone: [-450, 1050], brain: [0, 80] }; // Hounsfield units

async function openCase(number, slice = null) {
  const mine = ++turn;
  shown.number = number;
  inSight();
  listCases();
  describeFlag();
  $("name").textContent = order.find((row) => row.number === number).name;
  $("facts").textContent = "";
  busy(true);
  try {
    const found = await ask(`/api/cases/${number}`);
    if (mine !== turn) return;
    current = found;
    const planes = Object.keys(current.planes);
    if (!planes.includes(shown.plane)) shown.plane = planes[0] ?? "";
    shown.channel = Math.min(shown.channel, Math.max(current.channels.length - 1, 0));
    shown.window = current.window;
    const image = { disputed: [], start: 0, aspect: current.aspect };
    const profile = shown.plane ? await ask(`/api/cases/${number}/profile?plane=${shown.plane}`) : image;
    if (mine !== turn) return;
    shown.slice = Math.min(slice ?? profile.start, Math.max((current.planes[shown.plane] ?? 1) - 1, 0));
    view.aspect = profile.aspect;
    describe(profile);
    fit();
    if (three.on) await openPlanes();
    await show();
    announce(`${current.name}. ${$("facts").textContent}. ${$("dice-says").textContent}`);
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
  $("three").hidden = Object.keys(current.cuts).length < 2;
  if ($("three").hidden && three.on) toggleThree();
  $("again-row").hidden = !current.readings.length;
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
    drawn.lines = [];
    clearRulers();
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
      listDraws();
      listRaters();
      await readDraws();
      if (mine !== turn) return;
    }
    const heat = heatAddress();
    const colours = heat && (drawing.prediction || shown.heat === "votes") ? await ask(heat) : null;
    if (mine !== turn) return;
    colours ? $("overlay").setAttribute("href", colours) : $("overlay").removeAttribute("href");
    explainHeat();
    busy(false);
    document.body.dataset.ready = "yes";
    deskSlice();
    weighSlice();
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
function linesOf(outlines, prediction) { // of one slice, as elements in its pixels
  const lines = [], tell = $("dashes").value;
  const line = (path, kind, colour, { rater, structure, dash = "" } = {}) => {
    if (!path) return;
    for (const name of kind.includes(" ") || !$("edges").checked ? [kind] : ["edge", kind]) {
      const element = svg("path", { d: path, "fill-rule": "evenodd" }, name);
      if (name !== "edge") {
        if (colour) element.style.stroke = element.style.fill = colour;
        if (dash) element.style.strokeDasharray = dash;
        if (rater !== undefined) { element.dataset.rater = rater; element.dataset.structure = structure; }
      } else if (rater !== undefined) element.dataset.edgeOf = rater;
      lines.push(element);
    }
  };
  if (shown.hidden || !outlines) return lines;
  for (const c of shown.structures) {
    about.raters.forEach((rater, r) => {
      if (!shown.raters.has(r)) return;
      const own = { rater: r, structure: c, dash: tell === "raters" ? rater.dash : tell === "structures" ? about.structure_dashes[c] : "" };
      if (shown.drawn) line(outlines.raters[r][c], "rater", rater.colour, own);
      if (shown.drawn && shown.again) {
        for (const one of outlines.again) if (one.rater === r && one.structure === c) line(one.path, "rater again", rater.colour, { rater: r, structure: c });
      }
      if (shown.predicted) line(prediction?.raters?.[r]?.[c], "rater predicted", rater.colour, { rater: r, structure: c });
    });
    line(outlines.consensus[c], "consensus");
    if (shown.prediction) line(prediction?.steps[shown.step]?.[c], "prediction", about.prediction_colour);
    if (shown.reference) line(outlines.reference[c], "reference");
  }
  return lines;
}
function draw() {
  const { outlines, prediction } = drawing;
  $("lines").replaceChildren(...linesOf(outlines, prediction), ...severalLines(), ...underLines());
  $("hidden-note").hidden = !shown.hidden;
  const steps = prediction?.steps.length ?? 1;
  $("step-row").hidden = steps < 2;
  $("step").max = steps - 1;
  $("step").value = shown.step ?? steps - 1;
  $("step-says").textContent = `Recurrence ${shown.step ?? 0} of ${steps - 1}`;
  describePicture();
  transform();
  if (three.on) drawPlanes();
}
function hideRater(r) { // their lines stay in the page, so that showing them again is quick; false: they are not there
  const lines = $("lines").querySelectorAll(`[data-rater="${r}"], [data-edge-of="${r}"]`);
  for (const line of lines) line.style.display = shown.raters.has(r) ? "" : "none";
  describePicture();
  placeNames();
  return lines.length > 0;
}
function describePicture() { // for who does not see it
  if (!current) return;
  const seen = about.raters.filter((_, r) => shown.raters.has(r)).map((rater) => rater.name);
  const slice = shown.plane ? `, ${shown.plane} slice ${shown.slice + 1} of ${current.planes[shown.plane]}` : "";
  const who = shown.hidden ? "outlines hidden" : seen.length ? `outlines of ${seen.join(", ")}` : "no rater's outlines";
  $("picture").setAttribute("aria-label", `${current.name}${slice}; ${who}${shown.fusion ? `; consensus ${shown.fusion}` : ""}`);
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
  $("bar-stops").replaceChildren(...colours.map((colour, n) => svg("stop", { offset: n / (colours.length - 1), "stop-color": colour })));
  $("bar-low").textContent = trust ? "0.5" : "0";
  $("bar-high").textContent = "1";
  $("bar-what").textContent = {
    votes: `share of raters who marked ${structure}`,
    probability: `probability of ${structure}, recurrence ${shown.step ?? 0}`,
    confidence: drawing.prediction?.confidence?.[shown.trusted]
      ? `confidence in ${about.raters[shown.trusted].name}, ${structure}`
      : "this run does not say how far to trust raters",
  }[shown.heat];
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
