"use strict";
// What can be taken along: the picture, the list as a table, a link to this view; and an image that is dropped to be outlined.

function save(content, name) {
  const link = make("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 5000);
}
function tookAlong(sentence) { $("take-says").textContent = sentence; }
const fileName = (suffix) => `${current.name.replace(/[^\p{L}\p{N}_-]+/gu, "-")}${shown.plane ? `-${shown.plane}-${shown.slice + 1}` : ""}.${suffix}`;

// ---- the picture -------------------------------------------------------------------------------

async function dataOf(address) {
  const blob = await (await fetch(address)).blob();
  return new Promise((done) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.readAsDataURL(blob);
  });
}
async function pictureSvg() { // the whole slice with what is shown on it, and whose outlines they are
  const { width, height, aspect } = view, tall = height * aspect, unit = Math.max(width, tall) / 600, line = 16 * unit;
  const seen = about.raters.filter((_, r) => shown.raters.has(r) && shown.drawn && !shown.hidden);
  const others = [shown.fusion && ["#ffffff", `consensus ${shown.fusion}`], shown.reference && current.reference && ["#ffffff", "reference (dashed)"]].filter(Boolean);
  const legend = [...seen.map((rater) => [rater.colour, rater.name]), ...others];
  const rows = Math.ceil(legend.length / 4), whole = svg("svg", { xmlns: SVG, viewBox: `0 0 ${width} ${tall + line * (rows + 1.6)}`, width: width / unit, height: (tall + line * (rows + 1.6)) / unit });
  whole.append(svg("rect", { width: "100%", height: "100%", fill: "#000" }));
  const turned = svg("g", { transform: `scale(1 ${aspect})` });
  for (const id of ["image", "overlay"]) {
    const address = $(id).getAttribute("href");
    if (address) turned.append(svg("image", { width, height, preserveAspectRatio: "none", "image-rendering": "pixelated", href: await dataOf(address) }));
  }
  for (const id of ["painted", "weighed"]) {
    if (!$(id).hidden) turned.append(svg("image", { width, height, preserveAspectRatio: "none", "image-rendering": "pixelated", href: $(id).toDataURL() }));
  }
  for (const path of $("lines").children) { // as they look, without the page's style sheet
    if (path.style.display === "none") continue;
    const look = getComputedStyle(path), copy = svg("path", { d: path.getAttribute("d"), "fill-rule": "evenodd", "vector-effect": "non-scaling-stroke", "stroke-linejoin": "round" });
    for (const name of ["stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "fill", "fill-opacity", "opacity"]) copy.setAttribute(name, look.getPropertyValue(name));
    turned.append(copy);
  }
  whole.append(turned);
  const write = (text, x, y, colour = "#fff") => whole.append(Object.assign(svg("text", { x, y, fill: colour, "font-size": 11.5 * unit, "font-family": "sans-serif" }), { textContent: text }));
  write(`${current.name}${shown.plane ? `, ${shown.plane} slice ${shown.slice + 1}` : ""}`, 6 * unit, tall + line);
  legend.forEach(([colour, name], n) => write(`■ ${name}`, 6 * unit + ((n % 4) * width) / 4, tall + line * (2 + Math.floor(n / 4)), colour));
  return whole;
}
async function picturePng() {
  const drawn = await pictureSvg(), text = new XMLSerializer().serializeToString(drawn);
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  await image.decode();
  const scale = Math.max(1, 1200 / image.width), canvas = make("canvas");
  canvas.width = image.width * scale;
  canvas.height = image.height * scale;
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

// ---- the table, the link -----------------------------------------------------------------------

function cell(value) { // a spreadsheet is not to take a note for a formula
  const text = value === null || value === undefined ? "" : String(value);
  const safe = /^[=+@\t\r-]/.test(text) && !Number.isFinite(Number(text)) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
function tableCsv() { // the list as it is sorted and searched
  const number = (value) => (value === null || value === undefined ? null : Number(value.toFixed(4)));
  const head = ["case", "patient", "split", "dice_mean", "dice_lowest", "next_look", "doubt", "stands", "flagged", "note"];
  const rows = found().map((row) => [row.name, row.group, row.split, number(row.dice), number(row.lowest), number(row.worth), number(row.doubt), row.decided === "none" ? "" : row.decided, row.flag.flag ? "yes" : "", row.flag.note]);
  return [head, ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}
function openTaking() {
  const doing = (id, act) => {
    $(id).onclick = () => Promise.resolve(act()).catch((error) => tookAlong(`That did not work: ${error.message}`));
  };
  doing("copy-png", async () => {
    await navigator.clipboard.write([new ClipboardItem({ "image/png": picturePng() })]);
    tookAlong("Picture copied");
  });
  doing("save-png", async () => save(await picturePng(), fileName("png")));
  doing("save-svg", async () => save(new Blob([new XMLSerializer().serializeToString(await pictureSvg())], { type: "image/svg+xml" }), fileName("svg")));
  doing("copy-table", async () => { await navigator.clipboard.writeText(tableCsv()); tookAlong("Table copied"); });
  doing("save-table", () => save(new Blob(["\ufeff", tableCsv()], { type: "text/csv" }), "cases.csv"));
  doing("copy-link", async () => { await navigator.clipboard.writeText(location.href); tookAlong("Link copied; it opens in this browser while the viewer runs"); });
  if (!about.predicts) return;
  $("drop-row").hidden = false;
  $("drop-file").onchange = () => { if ($("drop-file").files[0]) outlineFile($("drop-file").files[0]); };
  $("dropped-close").onclick = () => { $("dropped").hidden = true; };
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files[0]) outlineFile(event.dataTransfer.files[0]);
  });
}

// ---- an image that is dropped ------------------------------------------------------------------

async function outlineFile(file) {
  busy(true);
  try {
    const found = await answer(`/api/outline?${new URLSearchParams({ name: file.name })}`, {
      method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: await file.arrayBuffer(),
    });
    const [height, width] = found.size, picture = $("dropped-picture");
    picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    picture.replaceChildren(svg("image", { href: found.image, width, height }), ...found.structures.map((d) => {
      const line = svg("path", { d, "vector-effect": "non-scaling-stroke" }, "prediction");
      line.style.stroke = about.prediction_colour;
      return line;
    }));
    $("dropped-says").textContent = `${found.name}: ${about.structures.map((name, c) => `${name} ${found.marked[c].toLocaleString("en")} pixels`).join(", ")}; doubt ${found.doubt.toFixed(2)}. It is kept nowhere.`;
    $("dropped").hidden = false;
    $("dropped-close").focus();
  } catch (error) { say(error); }
  busy(false);
}
