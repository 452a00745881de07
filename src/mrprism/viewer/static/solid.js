"use strict";
// A volume in three dimensions: surfaces of raters and consensus in their colours, by NiiVue (niivue.js, bundled). It is
// read when it is first asked for; nothing is fetched from elsewhere.

const solid = { viewer: null, number: null };
function closeSolid() {
  solid.number = null;
  $("solid-canvas").hidden = true;
  $("solid-begin").hidden = false;
  $("solid-says").textContent = "";
}
function script(address) {
  return new Promise((done, failed) => {
    const element = make("script");
    Object.assign(element, { src: address, onload: done, onerror: () => failed(new Error("the 3-D view could not be read")) });
    document.head.append(element);
  });
}
async function openSolid() {
  const number = (solid.number = shown.number), c = shown.structure;
  $("solid-begin").hidden = true;
  $("solid-says").textContent = "reading …";
  try {
    if (!window.niivue) await script("/niivue.js");
    $("solid-canvas").hidden = false;
    if (!solid.viewer) {
      solid.viewer = new niivue.Niivue({ backColor: [0, 0, 0, 1], show3Dcrosshair: false, isOrientCube: true, isColorbar: false, dragAndDropEnabled: false, loadingText: "", logLevel: "error" });
      await solid.viewer.attachToCanvas($("solid-canvas"));
      solid.viewer.setSliceType(solid.viewer.sliceTypeRender);
    }
    const viewer = solid.viewer;
    for (const mesh of [...viewer.meshes]) viewer.removeMesh(mesh);
    const wanted = about.raters.map((rater, r) => [r, `rater${r}`, rater.colour]).filter(([r]) => shown.raters.has(r) && current.states[r][c] === "drawn");
    if (shown.fusion) wanted.push([null, shown.fusion, "#ffffff"]);
    if (shown.reference && current.reference) wanted.push([null, "reference", "#bfc7d1"]);
    const missing = [];
    for (const [r, of, colour] of wanted) {
      const buffer = await answer(`/api/cases/${number}/surface.mz3?${new URLSearchParams({ structure: c, of })}`).catch((error) => {
        if (!error.refused) throw error;
        missing.push(r === null ? of : about.raters[r].name); // such as a reference of the other structure only
      });
      if (number !== solid.number) return;
      if (!buffer) continue;
      if (buffer.byteLength <= 16) continue; // nothing was drawn
      const rgba = new Uint8Array([1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16)).concat(255));
      const mesh = await niivue.NVMesh.readMesh(buffer, `${of}.mz3`, viewer.gl, r === null ? 0.9 : 0.45, rgba);
      viewer.addMesh(mesh);
    }
    viewer.drawScene();
    $("solid-says").textContent = `${about.structures[c]}: ${viewer.meshes.length} surfaces, smoothed; drag turns them${missing.length ? `; not there: ${missing.join(", ")}` : ""}`;
    document.body.dataset.solid = viewer.meshes.length;
  } catch (error) {
    $("solid-says").textContent = `No 3-D view: ${error.message ?? error}`;
    $("solid-canvas").hidden = true;
  }
}
