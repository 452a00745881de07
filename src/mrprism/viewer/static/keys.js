"use strict";
// Buttons, sliders and keys.

$("search").oninput = () => { rows_ = null; $("cases").scrollTop = 0; listCases(); };
$("sort").onchange = () => { looking = { column: $("sort").value, down: Boolean(COLUMNS[$("sort").value].down) }; $("cases").scrollTop = 0; sortCases(); };
$("direction").onclick = () => { looking.down = !looking.down; $("cases").scrollTop = 0; sortCases(); };
$("cases").addEventListener("scroll", listCases, { passive: true });
$("rows").addEventListener("keydown", (event) => {
  const by = { ArrowUp: -1, ArrowDown: 1, PageUp: -10, PageDown: 10, Home: -1e9, End: 1e9 }[event.key];
  if (!by) return;
  event.preventDefault();
  event.stopPropagation();
  step(by);
});
$("flag").onclick = () => flagCase({ flag: !rowShown()?.flag.flag });
$("case-note").onchange = () => flagCase({ note: $("case-note").value });
$("theme").onchange = () => {
  $("theme").value ? (document.documentElement.dataset.theme = $("theme").value) : delete document.documentElement.dataset.theme;
};
$("before").onclick = () => step(-1);
$("after").onclick = () => step(1);
$("fit").onclick = fit;
$("help").onclick = () => { $("keys").hidden = !$("keys").hidden; $("help").setAttribute("aria-expanded", !$("keys").hidden); };
$("all").onclick = () => { shown.raters = new Set(about.raters.keys()); markRaters(); draw(); };
$("none").onclick = () => { shown.raters.clear(); markRaters(); draw(); };
$("slice").oninput = () => toSlice(Number($("slice").value));
$("slice").onpointerup = () => $("slice").blur(); // ← → mean cases again
$("plane").onchange = () => { shown.plane = $("plane").value; openCase(shown.number); };
$("channel").onchange = () => { shown.channel = Number($("channel").value); show(); };
$("fusion").onchange = () => { shown.fusion = $("fusion").value; show(); };
$("reference").onchange = () => { shown.reference = $("reference").checked; draw(); };
$("prediction").onchange = () => { shown.prediction = $("prediction").checked; draw(); };
$("again").onchange = () => { shown.again = $("again").checked; draw(); };
$("dashes").onchange = $("edges").onchange = draw;
$("names").onchange = () => placeNames();
for (const [id, name] of [["line-width", "--width"], ["line-opacity", "--opacity"], ["line-fill", "--fill"]]) {
  $(id).oninput = () => $("stage").style.setProperty(name, $(id).value);
}
$("three").onclick = toggleThree;
$("solid-begin").onclick = openSolid;
for (const button of document.querySelectorAll("[data-ruler]")) button.onclick = () => pickRuler(button.dataset.ruler);
$("rulers-clear").onclick = clearRulers;
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
  d: () => { $("dashes").value = { "": "raters", raters: "structures", structures: "" }[$("dashes").value]; draw(); },
  l: () => { $("names").checked = !$("names").checked; placeNames(); },
  t: () => { if (!$("three").hidden) toggleThree(); },
  x: () => $("flag").click(),
  q: () => pickRuler("distance"),
  a: () => pickRuler("area"),
  r: () => { shown.reference = !shown.reference; panel(); draw(); },
};
addEventListener("keydown", (event) => {
  const writing = event.target.matches("input:not([type=range]):not([type=checkbox]), select, textarea");
  if (!writing && deskKey(event)) { event.preventDefault(); return; }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input[type=search], input[type=number], select, textarea");
  if (typing) {
    if (event.key === "Escape" && event.target === $("search")) { $("search").value = ""; $("search").oninput(); }
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
