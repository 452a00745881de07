"use strict";
// Several answers of a run: its draws one by one or all at once, how far they are spread, the main ways in which they vary,
// and the inner and the outer outline.

const drawn = { index: null, all: false, way: null, at: 0, bounds: true, lines: [], turn: 0 }; // index: the draw that is shown
const drawsOf = () => drawing.prediction?.draws ?? null;

function listDraws() { // the section of the panel, once a slice's prediction is there
  $("draws-section").hidden = !about.predicts;
  const prediction = drawing.prediction, draws = drawsOf();
  if (!prediction) return;
  $("draws-none").hidden = Boolean(draws);
  for (const id of ["draw-row", "all-row", "draws-says"]) $(id).hidden = !draws;
  $("way-row").hidden = !prediction.varies;
  $("at-row").hidden = !prediction.varies || drawn.way === null;
  if (prediction.varies && $("way").options.length < 2) ask(place("way", shown.slice, { way: 0, at: 0 })).then(listWays).catch(say);
  $("bounds-row").hidden = !prediction.inner;
  $("bounds-none").hidden = Boolean(prediction.inner);
  if (prediction.inner) $("bounds-says").textContent = `Inner and outer outline (${Math.round(100 * prediction.coverage)} % of patients)`;
  if (!draws) return;
  if (drawn.index !== null) drawn.index = Math.min(drawn.index, draws.count - 1);
  $("draw").max = draws.count;
  $("draw").value = drawn.index === null ? 0 : drawn.index + 1;
  $("all-draws").checked = drawn.all;
  describeDraw();
}
function describeDraw() {
  const draws = drawsOf(), n = drawn.index;
  const chance = n !== null && draws.weights ? `Chance of this draw: ${about.structures.map((name, c) => `${name} ${draws.weights[n][c].toFixed(2)}`).join(", ")}. ` : "";
  $("draw-says").textContent = n === null ? `none of ${draws.count}` : `${n + 1} of ${draws.count}`;
  $("draws-says").textContent = chance + about.structures.map((name, c) => {
    const pixels = draws.pixels[c], least = Math.min(...pixels), most = Math.max(...pixels);
    const apart = draws.dice[c] === null ? "" : `; mean Dice of two draws ${draws.dice[c].toFixed(2)}`;
    const raters = draws.dice[c] === null ? null : meanOfTwo(c);
    return `${name}: ${least.toLocaleString("en")} to ${most.toLocaleString("en")} pixels${apart}${raters === null ? "" : `, of two raters ${raters.toFixed(2)}`}`;
  }).join(". ") + ".";
}
function meanOfTwo(c) { // raters: of an image only, for their Dice is that of the whole case
  if (!current || shown.plane) return null;
  const values = current.dice[c].flatMap((row, r) => row.filter((value, s) => s > r && value !== null));
  return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null;
}
async function readDraws() { // what is to be shown of the draws of this slice
  const mine = ++drawn.turn, draws = drawsOf(), lines = [];
  if (draws) describeDraw();
  try {
    const wanted = !draws ? [] : drawn.all ? [...Array(draws.count).keys()] : [];
    if (draws && drawn.index !== null && !wanted.includes(drawn.index)) wanted.push(drawn.index);
    const read = new Map(await Promise.all(wanted.map(async (n) => [n, (await ask(place("draw", shown.slice, { draw: n }))).structures])));
    for (const [n, structures] of read) lines.push(...drawLines(structures, n === drawn.index ? "draw chosen" : "draw"));
    if (drawing.prediction?.varies && drawn.way !== null) {
      const at = (n) => ask(place("way", shown.slice, { way: drawn.way, at: n }));
      const [less, more, here] = await Promise.all([at(-2), at(2), at(drawn.at)]);
      lines.push(...drawLines(less.structures, "way less"), ...drawLines(more.structures, "way more"), ...drawLines(here.structures, "way here"));
    }
  } catch (error) { say(error); }
  if (mine !== drawn.turn) return;
  drawn.lines = lines;
  draw();
  document.body.dataset.several = [drawn.index, drawn.all, drawn.way, drawn.at].join(" "); // for who waits for it
}
function drawLines(structures, kind) {
  return [...shown.structures].filter((c) => structures[c]).map((c) => {
    const line = svg("path", { d: structures[c], "fill-rule": "evenodd" }, kind);
    if (kind.startsWith("draw") || kind === "way here") line.style.stroke = about.prediction_colour;
    return line;
  });
}
function severalLines() { // for `draw`
  if (shown.hidden || !drawing.prediction) return [];
  const { inner, outer } = drawing.prediction;
  const bounds = drawn.bounds && inner ? [...drawLines(inner, "bound"), ...drawLines(outer, "bound")] : [];
  return [...bounds, ...drawn.lines];
}
function listWays({ count }) {
  $("way").replaceChildren(new Option("none", ""), ...[...Array(count).keys()].map((n) => new Option(`way ${n + 1}`, n, false, n === drawn.way)));
}
function openDraws() {
  $("draw").oninput = () => { const n = Number($("draw").value); drawn.index = n ? n - 1 : null; readDraws(); };
  $("all-draws").onchange = () => { drawn.all = $("all-draws").checked; readDraws(); };
  $("bounds").onchange = () => { drawn.bounds = $("bounds").checked; draw(); };
  $("way").onchange = () => { drawn.way = $("way").value === "" ? null : Number($("way").value); listDraws(); readDraws(); };
  $("at").oninput = () => { drawn.at = Number($("at").value); $("at-says").textContent = drawn.at.toFixed(1); readDraws(); };
}
