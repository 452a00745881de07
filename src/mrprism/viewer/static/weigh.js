"use strict";
// What if raters counted otherwise: a slider for each, and the weighted vote while it moves. The server sends once which
// pattern of votes each pixel shows; a slice has few of them, so only they are weighed anew.

const weighing = { weights: [], table: null, number: null, key: "", width: 0, height: 0, under: null, later: 0 };
const weighs = () => $("what-if").open && current && !three.on;

async function weighSlice() { // the page shows another slice, or another structure is weighed
  weighing.under = null;
  $("weighed").hidden = true;
  if (!weighs()) return;
  const address = place("patterns", shown.slice, { structure: shown.structure });
  try {
    const found = weighing.key === address ? null : await ask(address);
    if (address !== place("patterns", shown.slice, { structure: shown.structure })) return;
    if (found) readPatterns(found, address);
    weigh();
  } catch (error) { say(error); }
}
function readPatterns(buffer, key) {
  const [height, width, many, raters] = new Uint32Array(buffer, 0, 4), table = new Uint8Array(buffer, 16, many * raters);
  const rest = buffer.slice(16 + many * raters), number = many <= 65536 ? new Uint16Array(rest) : new Uint32Array(rest);
  Object.assign(weighing, { table, number, key, width, height, many, raters });
}
function insideOf() { // for each pattern whether it is inside: more than half of the weight of those who did it
  const inside = new Uint8Array(weighing.many);
  for (let p = 0; p < weighing.many; p++) {
    let marked = 0, present = 0;
    for (let r = 0; r < weighing.raters; r++) {
      const said = weighing.table[p * weighing.raters + r];
      if (said === 2) continue;
      present += weighing.weights[r];
      if (said) marked += weighing.weights[r];
    }
    inside[p] = 2 * marked > present + 1e-9 ? 1 : 0;
  }
  return inside;
}
function weigh() {
  if (!weighing.number) return;
  const began = performance.now(), { width, height, number } = weighing, inside = insideOf();
  const canvas = $("weighed");
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  const context = canvas.getContext("2d"), image = context.createImageData(width, height), to = new Uint32Array(image.data.buffer);
  const mask = new Uint8Array(number.length);
  let marked = 0;
  for (let i = 0; i < mask.length; i++) marked += mask[i] = inside[number[i]];
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      if (!mask[i]) continue;
      const edge = x === 0 || y === 0 || x === width - 1 || y === height - 1 || !mask[i - 1] || !mask[i + 1] || !mask[i - width] || !mask[i + width];
      to[i] = edge ? 0xffffffff : 0x38ffffff; // alpha, blue, green, red
    }
  }
  context.putImageData(image, 0, 0);
  canvas.hidden = false;
  $("weigh-says").textContent = `${about.structures[shown.structure]}: ${marked.toLocaleString("en")} pixels under these weights`;
  document.body.dataset.weighed = (performance.now() - began).toFixed(1); // milliseconds, for who measures
  if (about.weighs && shown.plane === (Object.keys(current.planes)[0] ?? "")) {
    clearTimeout(weighing.later);
    weighing.later = setTimeout(askUnder, 120);
  }
}
async function askUnder() { // what the run would outline
  const address = place("under", shown.slice, { weights: weighing.weights.map((weight) => weight.toFixed(2)).join(",") });
  try {
    const found = await ask(address);
    if (!weighs()) return;
    weighing.under = found.structures;
    draw();
  } catch (error) { say(error); }
}
function underLines() {
  if (!weighing.under || !weighs() || shown.hidden) return [];
  return [...shown.structures].filter((c) => weighing.under[c]).map((c) => {
    const line = svg("path", { d: weighing.under[c] }, "under");
    line.style.stroke = about.prediction_colour;
    return line;
  });
}
function listWeights() {
  $("weights").replaceChildren(...about.raters.map((rater, r) => {
    const row = make("label", "row"), mark = make("i", "dot"), slider = make("input");
    mark.style.borderColor = rater.colour;
    Object.assign(slider, { type: "range", min: 0, max: 1, step: 0.05, value: weighing.weights[r] });
    slider.setAttribute("aria-label", `weight of ${rater.name}`);
    const says = make("output", "", weighing.weights[r].toFixed(2));
    slider.oninput = () => {
      weighing.weights[r] = Number(slider.value);
      says.textContent = weighing.weights[r].toFixed(2);
      weigh();
    };
    row.append(mark, make("span", "label", rater.name), slider, says);
    return row;
  }));
}
function openWeighing() {
  weighing.weights = about.raters.map(() => 1);
  $("what-if").hidden = about.raters.length < 2;
  $("what-if").ontoggle = () => { weighing.key = ""; weighSlice(); draw(); };
  $("weights-even").onclick = () => { weighing.weights.fill(1); listWeights(); weigh(); };
  $("under-says").hidden = !about.weighs;
  listWeights();
}
