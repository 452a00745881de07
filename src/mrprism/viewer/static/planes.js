"use strict";
// A volume in three planes at once: they meet in the voxel under the crosshair.

const three = { on: false, cross: [0, 0, 0], boxes: {}, turn: 0 }; // cross: position in the file, slice, row, column
const cutOf = (plane) => current.cuts[plane];
const along = (plane, n) => { // where the crosshair is on an axis of the plane: 0 slice, 1 row, 2 column
  const { axes, steps } = cutOf(plane), axis = axes[n];
  return steps[n] > 0 ? three.cross[axis] : current.size[axis] - 1 - three.cross[axis];
};
function moveTo(plane, n, index) {
  const { axes, steps } = cutOf(plane), axis = axes[n], last = current.size[axis] - 1, there = Math.min(Math.max(index, 0), last);
  three.cross[axis] = steps[n] > 0 ? there : last - there;
}
function toggleThree() {
  three.on = !three.on;
  $("three").setAttribute("aria-pressed", three.on);
  $("planes").hidden = !three.on;
  $("picture").style.visibility = three.on ? "hidden" : "";
  $("slices").hidden = three.on || !Object.keys(current?.planes ?? {}).length;
  $("painted").classList.toggle("away", three.on);
  $("weighed").hidden = true;
  if (three.on) openPlanes().catch(fail);
  else { closeSolid(); weighSlice(); }
}
async function openPlanes() { // at the slices raters differ on most
  const planes = Object.keys(current.cuts), number = shown.number;
  const profiles = await Promise.all(planes.map((plane) => ask(`/api/cases/${number}/profile?plane=${plane}`)));
  if (number !== shown.number) return;
  planes.forEach((plane, n) => moveTo(plane, 0, profiles[n].start));
  if (shown.plane) moveTo(shown.plane, 0, shown.slice);
  three.boxes = Object.fromEntries(planes.map((plane) => [plane, boxOf(plane)]));
  $("planes").replaceChildren(...Object.values(three.boxes).map((box) => box.frame), $("solid"));
  closeSolid();
  $("solid").hidden = false;
  await showPlanes();
}
function boxOf(plane) {
  const frame = make("div", "plane"), picture = svg("svg", { tabindex: 0, role: "img", preserveAspectRatio: "xMidYMid meet" });
  frame.dataset.plane = plane;
  const parts = { image: svg("image", { preserveAspectRatio: "none" }), lines: svg("g", {}, "lines"), cross: svg("g", {}, "cross") };
  picture.append(parts.image, parts.lines, parts.cross);
  const says = make("span", "says"), letters = [...(LETTERS[plane] ?? "")].map((letter, n) => make("b", `letter at${n}`, letter));
  const scale = make("span", "scale");
  frame.append(picture, says, scale, ...letters);
  const point = (event) => {
    const { axes } = cutOf(plane), at = new DOMPoint(event.clientX, event.clientY).matrixTransform(parts.lines.getScreenCTM().inverse());
    moveTo(plane, 2, Math.floor(at.x));
    moveTo(plane, 1, Math.floor(at.y));
    showPlanes();
  };
  picture.onpointerdown = (event) => { picture.setPointerCapture(event.pointerId); point(event); };
  picture.onpointermove = (event) => { if (event.buttons) point(event); };
  picture.onwheel = (event) => { event.preventDefault(); stepPlane(plane, Math.sign(event.deltaY)); };
  picture.onkeydown = (event) => {
    const by = { ArrowUp: -1, ArrowDown: 1, PageUp: -10, PageDown: 10 }[event.key];
    if (!by) return;
    event.preventDefault();
    event.stopPropagation();
    stepPlane(plane, by);
  };
  return { frame, picture, says, scale, ...parts };
}
function stepPlane(plane, by) {
  moveTo(plane, 0, along(plane, 0) + by);
  showPlanes();
}
async function showPlanes() {
  const mine = ++three.turn;
  await Promise.all(Object.keys(three.boxes).map(async (plane) => {
    const slice = along(plane, 0), box = three.boxes[plane];
    drawCross(plane);
    const [image, outlines] = await Promise.all([
      ask(place("image.png", slice, windowed(), plane)), ask(place("outlines", slice, { fusion: shown.fusion }, plane)),
    ]);
    if (mine !== three.turn) return;
    box.image.setAttribute("href", image);
    box.outlines = outlines;
    drawPlane(plane);
  }));
  if (mine !== three.turn) return;
  const plane = Object.keys(three.boxes)[0];
  const found = await answer(place("value", along(plane, 0), { row: along(plane, 1), column: along(plane, 2) }, plane)).catch(() => null);
  if (mine !== three.turn || !found) return;
  $("cross-says").textContent = `value ${pixelSays(found)}`;
  document.body.dataset.planes = three.cross.join(",");
}
function drawPlanes() { for (const plane of Object.keys(three.boxes)) drawPlane(plane); }
function drawPlane(plane) {
  const box = three.boxes[plane], { axes, aspect } = cutOf(plane), [height, width] = [current.size[axes[1]], current.size[axes[2]]];
  box.picture.setAttribute("viewBox", `0 0 ${width} ${height * aspect}`);
  for (const part of [box.image, box.lines, box.cross]) part.setAttribute("transform", `scale(1 ${aspect})`);
  box.image.setAttribute("width", width);
  box.image.setAttribute("height", height);
  box.lines.replaceChildren(...linesOf(box.outlines, null));
  drawCross(plane);
}
function drawCross(plane) {
  const box = three.boxes[plane], { axes } = cutOf(plane), [height, width] = [current.size[axes[1]], current.size[axes[2]]];
  const x = along(plane, 2) + 0.5, y = along(plane, 1) + 0.5;
  box.cross.replaceChildren(svg("path", { d: `M${x},0V${height}M0,${y}H${width}` }));
  const index = along(plane, 0), many = current.size[axes[0]];
  box.says.textContent = `${plane} ${index + 1} of ${many}`;
  box.picture.setAttribute("aria-label", `${plane} slice ${index + 1} of ${many}, crosshair in row ${along(plane, 1) + 1}, column ${along(plane, 2) + 1}; arrow keys change the slice`);
  const mm = current.mm?.[plane]?.[1];
  if (!mm) return;
  const matrix = box.lines.getScreenCTM(), { length, says } = roundLength(mm, matrix ? matrix.a : 1);
  box.scale.style.width = `${length}px`;
  box.scale.textContent = says;
}
