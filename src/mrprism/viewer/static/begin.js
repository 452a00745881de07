"use strict";
// The beginning; and the address, which remembers what is shown.

function remember() {
  const now = { case: current.name, plane: shown.plane, slice: shown.slice, heat: shown.heat, sort: looking.column === "dice" ? "" : looking.column, structure: shown.structure, fusion: shown.fusion };
  history.replaceState(null, "", `/#${new URLSearchParams(Object.entries(now).filter(([, value]) => value !== ""))}`);
}
async function begin() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  history.replaceState(null, "", "/"); // the key stays in a cookie
  const cases = answer("/api/cases"); // both are asked for at once
  cases.catch(() => {});
  about = await answer("/api/about");
  $("title").textContent = about.title;
  openDesk();
  openWeighing();
  openTaking();
  openDraws();
  if (COLUMNS[wanted.get("sort")]) looking = { column: wanted.get("sort"), down: Boolean(COLUMNS[wanted.get("sort")].down) };
  $("prediction-sample").style.stroke = about.prediction_colour;
  shown.raters = new Set(about.raters.keys());
  shown.structures = new Set(about.structures.keys());
  $("fusion").replaceChildren(new Option("none", ""), ...about.fusions.map((name) => new Option(name, name)));
  if (about.fusions.includes(wanted.get("fusion"))) shown.fusion = wanted.get("fusion");
  if (["votes", "probability", "confidence"].includes(wanted.get("heat"))) shown.heat = wanted.get("heat");
  shown.structure = Math.min(Number(wanted.get("structure")) || 0, about.structures.length - 1);
  shown.predicted = wanted.get("predicted") === "yes";
  shown.plane = wanted.get("plane") ?? "";
  $("step-row").hidden = true;
  const measured = await readCases(cases);
  const named = order.find((row) => row.name === wanted.get("case"));
  if (!measured) {
    const watched = wait(0.3).then(watchCases);
    watched.catch(fail);
    const soon = !named && order.length > 1 && order.length < 1000; // then begin with the case most disputed
    if (soon) await Promise.race([watched, wait(0.5)]);
  }
  describeColumns();
  sortCases();
  panel();
  listRaters();
  const slice = wanted.get("slice") === null ? null : Number(wanted.get("slice"));
  if (order.length) await openCase((named ?? order[0]).number, named ? slice : null);
}
begin().catch(fail);
