"use strict";
// Beside the picture: who did what, what is shown, and the Dice of every two raters.

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
  $("again").checked = shown.again;
  $("fusion").value = shown.fusion;
}
function listRaters() {
  const trust = drawing.prediction?.confidence;
  $("trust-head").hidden = !trust;
  $("trust-head").textContent = `${drawing.prediction?.trusted_by ?? "mean confidence"}: ${about.structures.join(", ")}`;
  const rows = about.raters.map((rater, r) => {
    const states = current?.states[r] ?? [];
    const item = make("li"), button = make("button"), swatch = make("span", "swatch");
    swatch.style.borderColor = rater.colour; // a border is printed, a background need not be
    const gone = states.length > 0 && states.every((state) => state === "absent");
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
    const again = (current?.readings ?? []).filter((one) => one.rater === r && one.dice !== null);
    if (again.length) button.append(make("span", "readings", again.map((one) => `${one.reading === 2 ? "second" : `${one.reading}th`} reading, ${about.structures[one.structure]}: Dice ${one.dice.toFixed(2)} with the first`).join("; ")));
    button.dataset.rater = r;
    button.title = `${rater.name}: click hides or shows, double click shows alone`;
    button.onclick = () => pickRater(r, false);
    button.ondblclick = () => pickRater(r, true);
    button.onmouseenter = button.onfocus = () => emphasise(r);
    button.onmouseleave = button.onblur = () => emphasise(null);
    item.append(button);
    return item;
  });
  refill("raters", rows, "rater");
  markRaters();
}
function markRaters() { // who is hidden; the rows stay
  for (const button of $("raters").querySelectorAll("[data-rater]")) {
    const seen = shown.raters.has(Number(button.dataset.rater));
    button.parentElement.classList.toggle("off", !seen);
    button.setAttribute("aria-pressed", seen);
  }
}
function pickRater(r, alone) {
  if (!about.raters[r]) return;
  alone ? (shown.raters = new Set([r])) : toggle(shown.raters, r);
  shown.trusted = r;
  markRaters();
  if (shown.heat === "confidence") show();
  else if (alone || three.on || !hideRater(r)) draw();
}
function emphasise(rater) {
  for (const line of $("lines").querySelectorAll(".rater")) {
    line.classList.toggle("bright", rater !== null && line.dataset.rater === String(rater));
    line.classList.toggle("dim", rater !== null && line.dataset.rater !== String(rater));
  }
}
function tabulate() {
  $("dice-section").hidden = about.raters.length < 2 || !current;
  if ($("dice-section").hidden) { $("dice-says").textContent = ""; return; }
  const table = current.dice[shown.structure];
  const present = about.raters.map((_, r) => r).filter((r) => current.states[r][shown.structure] !== "absent");
  if (present.length < 2) {
    $("dice").replaceChildren();
    $("dice-says").textContent = "Fewer than two raters did this.";
    return;
  }
  const grid = make("table"), head = make("tr");
  const swatch = (r) => {
    const cell = make("th"), mark = make("i");
    mark.style.borderColor = about.raters[r].colour;
    cell.title = about.raters[r].name;
    cell.append(mark, make("span", "unseen", about.raters[r].name));
    return cell;
  };
  grid.append(make("caption", "unseen", `Dice of every two raters, ${about.structures[shown.structure]}`));
  head.append(make("td"), ...present.map((r) => { const cell = swatch(r); cell.scope = "col"; return cell; }));
  grid.append(head);
  const values = [];
  for (const r of present) {
    const row = make("tr");
    const first = swatch(r);
    first.scope = "row";
    row.append(first);
    for (const s of present) {
      const value = r === s ? null : table[r][s];
      const cell = make("td", value === null ? "none" : "", value === null ? "" : present.length > 9 ? "" : value.toFixed(2).replace(/^0/, ""));
      if (value !== null) {
        if (r < s) values.push(value);
        cell.style.background = `color-mix(in srgb, var(--agree) ${100 * Math.max(0, (value - 0.2) / 0.8)}%, var(--differ))`;
        cell.title = `${about.raters[r].name} and ${about.raters[s].name}: ${value.toFixed(3)}`;
        cell.onmouseenter = () => { for (const l of $("lines").querySelectorAll(".rater")) l.classList.toggle("dim", ![r, s].includes(Number(l.dataset.rater))); };
        cell.onmouseleave = () => emphasise(null);
      }
      row.append(cell);
    }
    grid.append(row);
  }
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  $("dice").replaceChildren(grid);
  const whole = about.structures.length > 1 ? ` Mean over structures ${current.mean.toFixed(2)}: the number in the list.` : " The mean is the number in the list.";
  $("dice-says").textContent = `${about.structures[shown.structure]}: mean ${mean.toFixed(2)}, lowest ${Math.min(...values).toFixed(2)}.${whole}`;
}
function refill(id, rows, key) { // whoever had the keyboard keeps it
  const held = $(id).contains(document.activeElement) ? document.activeElement.dataset[key] : null;
  $(id).replaceChildren(...rows);
  if (held !== null) $(id).querySelector(`[data-${key}="${held}"]`)?.focus({ preventScroll: true });
}
