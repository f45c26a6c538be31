// Three-dimensional views. Without WebGL the text that names the PDB file stays where the view would be.
(function () {
  "use strict";
  var texts = JSON.parse(document.getElementById("structures").textContent);
  var dark = window.matchMedia("(prefers-color-scheme: dark)");
  function hasWebGL() {
    var canvas = document.createElement("canvas");
    return Boolean(canvas.getContext("webgl2") || canvas.getContext("webgl"));
  }
  function background() {
    return getComputedStyle(document.documentElement).getPropertyValue("--unseen").trim();
  }
  function show(element, text) {
    var message = element.querySelector("p");
    var canvas = document.createElement("div");
    canvas.style.cssText = "position:absolute;inset:0";
    // Scrolling the page must not zoom a molecule that passes under the pointer; with Ctrl it does.
    element.addEventListener("wheel", function (event) { if (!event.ctrlKey) { event.stopPropagation(); } }, true);
    element.appendChild(canvas);
    var viewer = $3Dmol.createViewer(canvas, { backgroundColor: background(), antialias: true });
    viewer.addModel(text, "pdb", { keepH: true });
    var atoms = viewer.selectedAtoms({});
    if (atoms.length > 100) {
      viewer.setStyle({}, { cartoon: { color: "spectrum" }, stick: { radius: 0.09 } });
    } else {
      viewer.setStyle({}, { stick: { radius: 0.14 }, sphere: { scale: 0.24 } });
    }
    viewer.zoomTo();
    viewer.zoom(1.25);
    viewer.render();
    message.remove();
    dark.addEventListener("change", function () { viewer.setBackgroundColor(background()); viewer.render(); });
  }
  if (!hasWebGL()) { return; }
  document.querySelectorAll(".view").forEach(function (element, index) { show(element, texts[index]); });
})();
