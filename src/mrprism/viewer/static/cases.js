"use strict";
// The list of cases: sorted by any column, filtered, and only the rows in sight are in the page, so that it may be long.

let order = []; // every case, in the order of the list
let rows_ = null; // those the search leaves; null: to be found anew
let looking = { column: "dice", down: false };
const ROW = 44; // pixels of a row
const SAID = { none: "Not begun", open: "Open", discuss: "To discuss", agreed: "Agreed", final: "Final", conflict: "In conflict", settled: "Settled", unreadable: "Unreadable" };

// what can be sorted by: what it is called, its value, whether the largest come first, and what the number means
const COLUMNS = {
  dice: { says: "Dice of two raters", of: (row) => row.dice, means: "Dice of two raters, 0 to 1: mean over pairs, then structures" },
  lowest: { says: "Lowest Dice", of: (row) => row.lowest, means: "the lowest Dice of any two raters, 0 to 1" },
  worth: { says: "Value of the next look", of: (row) => row.worth, down: true, means: "share of the majority's area that one more rater is expected to change" },
  doubt: { says: "Doubt of the run", of: (row) => row.doubt, down: true, means: "share of what the run marks that it expects to have wrong" },
  decided: { says: "How it stands", of: (row) => ["conflict", "discuss", "open", "none", "settled"].indexOf(row.decided), means: "" },
  flag: { says: "Flag and note", of: (row) => 2 * row.flag.flag + Boolean(row.flag.note) || null, down: true, means: "" },
  name: { says: "Name", of: (row) => row.natural, means: "" },
  group: { says: "Patient", of: (row) => row.group, means: "" },
  split: { says: "Split", of: (row) => row.split, means: "" },
};
const columnsHere = () => Object.keys(COLUMNS).filter((name) =>
  (name !== "decided" || about.desk) && (name !== "doubt" || about.predicts)
  && (["dice", "lowest"].includes(name) ? about.raters.length > 1 : true)
  && (!["group", "split"].includes(name) || order.some((row) => row[name] !== null)));

async function readCases(asked = answer("/api/cases")) {
  const found = await asked;
  const before = new Map(order.map((row) => [row.number, row]));
  order = found.cases.map((row, number) => {
    const flag = (about.desk ? found.flags[row.name] : before.get(number)?.flag) ?? { flag: false, note: "", others: [] };
    const natural = before.get(number)?.natural ?? row.name.toLowerCase().replace(/\d+/g, (digits) => digits.padStart(12, "0"));
    return { ...row, number, natural, flag, decided: found.decided[row.name] ?? "none" };
  });
  const measured = found.measured >= order.length, many = order.length === 1 ? "1 case" : `${order.length.toLocaleString("en")} cases`;
  $("progress").textContent = !measured ? `comparing raters: ${found.measured} of ${order.length}`
    : found.done ? many : `${many}; the run looks at them …`;
  $("unread").hidden = !found.faults.length;
  $("unread").textContent = found.faults.join(" ");
  sortCases();
  return found.done;
}
async function watchCases() {
  while (!(await readCases())) await wait(1.5);
}
function sortCases() {
  const { of } = COLUMNS[looking.column], up = looking.down ? -1 : 1;
  const broken = (row) => (row.fault ? 0 : 1); // always first
  const known = (value) => value !== null && value !== undefined;
  order.sort((a, b) => {
    const x = of(a), y = of(b);
    return broken(a) - broken(b) || known(y) - known(x) || (known(x) && (x < y ? -up : x > y ? up : 0)) || a.number - b.number;
  });
  $("means").textContent = COLUMNS[looking.column].means && `Number: ${COLUMNS[looking.column].means}`;
  $("direction").textContent = looking.down ? "↓" : "↑";
  $("direction").setAttribute("aria-label", looking.down ? "largest first; turn round" : "smallest first; turn round");
  rows_ = null;
  listCases();
}
function describeColumns() {
  const here = columnsHere();
  if (!here.includes(looking.column)) looking = { column: here[0], down: Boolean(COLUMNS[here[0]].down) };
  $("sort").replaceChildren(...here.map((name) => new Option(COLUMNS[name].says, name, false, name === looking.column)));
}
function numberOf(row) {
  const value = COLUMNS[looking.column].means ? COLUMNS[looking.column].of(row) : row.dice;
  return row.fault ? "!" : value === null || value === undefined ? "" : value.toFixed(2);
}

// ---- search ------------------------------------------------------------------------------------

const ASKED = /^(dice|lowest|worth|doubt)([<>])(\d*\.?\d+)$/; // such as dice<0.7
function found() {
  if (rows_) return rows_;
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const tests = words.map((word) => {
    const asked = ASKED.exec(word);
    if (asked) {
      const [, column, sign, number] = asked;
      return (row) => row[column] !== null && (sign === "<" ? row[column] < number : row[column] > number);
    }
    if (word === "flagged") return (row) => row.flag.flag || row.flag.others?.some((one) => one.flag);
    return (row) => row.text.includes(word);
  });
  if (tests.length) for (const row of order) {
    row.text ??= `${row.name} ${row.group ?? ""} ${row.split ?? ""} ${about.desk ? SAID[row.decided] : ""} ${row.flag.note} ${(row.flag.others ?? []).map((one) => one.note).join(" ")}`.toLowerCase();
  }
  return (rows_ = tests.length ? order.filter((row) => tests.every((test) => test(row))) : order);
}

// ---- rows --------------------------------------------------------------------------------------

function short(name) { // two names of one beginning differ at the end
  return name.length <= 26 ? name : `${name.slice(0, 11)}…${name.slice(-14)}`;
}
function rowOf(row, at, many) {
  const item = make("li", row.fault ? "fault" : ""), label = make("span", "label", short(row.name));
  const marks = make("span", "marks");
  if (row.flag.flag) marks.append(make("span", "flag", "⚑"));
  if (row.flag.others?.some((one) => one.flag)) marks.append(make("span", "flag other", "⚑"));
  if (row.flag.note || row.flag.others?.some((one) => one.note)) marks.append(make("span", "flag", "✎"));
  const stands = about.desk && row.decided !== "none";
  const tag = make("span", stands ? "split decided" : "split", stands ? SAID[row.decided] : row.split ?? "");
  tag.dataset.status = row.decided;
  marks.append(tag);
  const meter = make("span", "meter"), bar = make("i");
  bar.style.width = `${100 * Math.min(1, Number(numberOf(row)) || 0)}%`;
  meter.append(bar);
  item.append(label, marks, make("span", "value", numberOf(row)), meter);
  item.title = row.fault ?? row.name;
  item.id = `case-${row.number}`;
  item.style.top = `${at * ROW}px`;
  item.setAttribute("role", "option");
  item.setAttribute("aria-selected", row.number === shown.number);
  item.setAttribute("aria-posinset", at + 1);
  item.setAttribute("aria-setsize", many);
  const flagged = row.flag.flag ? ", flagged" : "", number = numberOf(row);
  item.setAttribute("aria-label", `${row.name}${row.fault ? ", cannot be read" : number && `, ${number}`}${tag.textContent && `, ${tag.textContent}`}${flagged}`);
  item.onclick = () => openCase(row.number);
  return item;
}
function listCases() {
  const rows = found(), box = $("cases"), list = $("rows");
  list.style.height = `${rows.length * ROW}px`;
  const first = Math.max(0, Math.floor(box.scrollTop / ROW) - 6), last = Math.min(rows.length, Math.ceil((box.scrollTop + box.clientHeight) / ROW) + 6);
  const shownRows = [];
  for (let at = first; at < last; at++) shownRows.push(rowOf(rows[at], at, rows.length));
  list.replaceChildren(...shownRows);
  list.setAttribute("aria-activedescendant", `case-${shown.number}`);
  $("no-case").hidden = rows.length > 0;
  $("no-case").textContent = order.length ? `No case is found by “${$("search").value}”.` : "This data set has no cases.";
}
function inSight() { // the row of the case shown
  const at = found().findIndex((row) => row.number === shown.number), box = $("cases");
  if (at < 0) return;
  if (at * ROW < box.scrollTop) box.scrollTop = at * ROW - 6;
  else if ((at + 1) * ROW > box.scrollTop + box.clientHeight) box.scrollTop = (at + 1) * ROW - box.clientHeight + 6;
}
function step(by) {
  const rows = found(), at = rows.findIndex((row) => row.number === shown.number);
  const next = rows[Math.min(Math.max(at + by, 0), rows.length - 1)];
  if (next && next.number !== shown.number) openCase(next.number);
}

// ---- flags and notes ---------------------------------------------------------------------------

const rowShown = () => order.find((row) => row.number === shown.number);
async function flagCase(change) {
  const row = rowShown();
  if (!row) return;
  row.flag = { ...row.flag, ...change };
  row.text = undefined;
  rows_ = null;
  describeFlag();
  listCases();
  if (!about.desk) return;
  try {
    await send(`/api/cases/${row.number}/flag`, { flag: row.flag.flag, note: row.flag.note });
    $("flag-says").textContent = "Saved";
  } catch (error) { $("flag-says").textContent = `Not saved: ${error.message}`; }
}
function describeFlag() {
  const row = rowShown();
  if (!row) return;
  $("flag").setAttribute("aria-pressed", row.flag.flag);
  $("flag").textContent = row.flag.flag ? "⚑ Flagged" : "⚑ Flag";
  if (document.activeElement !== $("case-note")) $("case-note").value = row.flag.note;
  $("flag-says").textContent = about.desk ? "" : "Kept while this window is open; take the table with you, or start with --adjudicate.";
  const others = (row.flag.others ?? []).filter((one) => one.flag || one.note);
  $("flag-others").replaceChildren(...others.map((one) => make("li", "quiet", `${one.flag ? "⚑ " : ""}${one.who}${one.note ? `: ${one.note}` : ""}`)));
}
