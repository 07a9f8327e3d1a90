"use strict";
// The viewer (NiiVue) and the copies that it shows are scripts, loaded when they are asked for.
function load(source) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = source;
    script.onload = resolve;
    script.onerror = () => reject(new Error(`${source} could not be loaded`));
    document.head.append(script);
  });
}
function colormapOf(labels) {
  const map = { R: [0], G: [0], B: [0], I: [0], labels: [""] };
  for (const [index, [name, color]] of Object.entries(labels)) {
    const value = parseInt(color.slice(1), 16);
    map.R.push(value >> 16); map.G.push((value >> 8) & 255); map.B.push(value & 255);
    map.I.push(Number(index)); map.labels.push(name);
  }
  return map;
}
async function openViewer(figure) {
  const says = figure.querySelector("output");
  says.textContent = "loading …";
  if (!window.niivue) await load(figure.dataset.program);
  await load(figure.dataset.volumes);
  const { volumes, labels } = window.vxmprepVolumes;
  delete window.vxmprepVolumes;
  figure.classList.add("open");
  const viewer = new niivue.Niivue({
    backColor: [0, 0, 0, 1], show3Dcrosshair: true, crosshairWidth: 1,
    crosshairColor: [0.3, 0.65, 1, 0.8], isRadiologicalConvention: false, loadingText: "",
    isResizeCanvas: true, dragAndDropEnabled: false, multiplanarShowRender: niivue.SHOW_RENDER.ALWAYS,
    onLocationChange: (where) => { says.textContent = where.string; },
  });
  await viewer.attachToCanvas(figure.querySelector("canvas"));
  const order = ["affine", "full", "atlas", "atlas_labels", "labels"].filter((name) => name in volumes);
  for (const name of order) {
    const isLabels = name.endsWith("labels");
    const image = await niivue.NVImage.loadFromBase64({
      base64: volumes[name], name: `${name}.nii.gz`, colormap: "gray", opacity: name === "affine" || name === "full" ? 1 : 0,
      cal_min: isLabels ? undefined : 0, cal_max: isLabels ? undefined : 255, trustCalMinMax: true,
    });
    if (isLabels) image.setColormapLabel(colormapOf(labels));
    viewer.addVolume(image);
  }
  for (const input of figure.querySelectorAll("input[data-volume]")) {
    const number = order.indexOf(input.dataset.volume);
    if (number < 0) { input.closest("label").remove(); continue; }
    const set = () => viewer.setOpacity(number, Number(input.value));
    input.addEventListener("input", set);
    set();
  }
  viewer.setSliceType(viewer.sliceTypeMultiplanar);
  says.textContent = "";
  figure.viewer = viewer;
}
for (const figure of document.querySelectorAll(".viewer")) {
  const button = figure.querySelector("button");
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await openViewer(figure);
      button.remove();
    } catch (error) {
      figure.querySelector("output").textContent = `The viewer does not start here: ${error.message}`;
      button.disabled = false;
    }
  });
}
