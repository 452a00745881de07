"use strict";
// What every other file here uses: the state of the page, and questions to the server. Everything shown comes from /api of
// this address; cases, structures and raters are asked for by number.

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

let about; // what does not change from case to case
let current = null; // what is known of the case shown
const shown = {
  number: null, plane: "", slice: 0, channel: 0, window: null,
  raters: new Set(), structures: new Set(), drawn: true, predicted: false, again: true, hidden: false,
  fusion: "", reference: true, prediction: true, step: null, heat: "", structure: 0, trusted: 0,
};
const view = { x: 0, y: 0, scale: 1, aspect: 1 };
let drawing = { outlines: null, prediction: null }; // of the slice shown
let turn = 0; // answers of earlier turns are dropped

const kept = new Map(); // address: promise of a JSON object or of an image's local address
async function answer(address, options) {
  const response = await fetch(address, options).catch(() => {
    throw new Error("The viewer does not answer any more. Start mrprism view again and open the address it prints.");
  });
  if (!response.ok) {
    const sentence = await response.json().then((said) => said.error, () => response.statusText);
    throw Object.assign(new Error(sentence), { refused: response.status === 422 });
  }
  const kind = response.headers.get("content-type");
  if (kind.startsWith("image")) return URL.createObjectURL(await response.blob());
  return kind.startsWith("application/json") ? response.json() : response.arrayBuffer();
}
function ask(address) {
  if (!kept.has(address)) {
    const promise = answer(address);
    promise.catch(() => kept.delete(address));
    kept.set(address, promise);
    if (kept.size > 240) {
      const [oldest, found] = kept.entries().next().value;
      kept.delete(oldest);
      found.then((value) => typeof value === "string" && URL.revokeObjectURL(value), () => {});
    }
  }
  return kept.get(address);
}
function send(address, body) {
  return answer(address, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
}
function place(what, slice = shown.slice, more = {}, plane = shown.plane) {
  const query = new URLSearchParams({ plane, slice, ...more });
  return `/api/cases/${shown.number}/${what}?${query}`;
}
const windowed = () => ({ low: shown.window[0], high: shown.window[1], channel: shown.channel });
const imageAt = (slice) => place("image.png", slice, windowed());
const outlinesAt = (slice) => place("outlines", slice, { fusion: shown.fusion });
const wait = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

// ---- small parts -------------------------------------------------------------------------------

function make(tag, kind = "", text = "") {
  const element = document.createElement(tag);
  if (kind) element.className = kind;
  element.textContent = text;
  return element;
}
function svg(tag, attributes = {}, kind = "") {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (kind) element.setAttribute("class", kind);
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
function toggle(set, value) { set.has(value) ? set.delete(value) : set.add(value); }
function busy(is) { $("busy").hidden = !is; }
function announce(sentence) { $("announced").textContent = sentence; } // read aloud by a screen reader
function say(error) {
  $("fault").textContent = error.message;
  $("fault").hidden = false;
}
