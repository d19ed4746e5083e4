"use strict";
// Without this script all panels are shown one beside the other. With it, two panels of a row lie
// one on the other, divided by a slider, and of several rows one is shown.
function control(parent, text, element) {
  const label = parent.appendChild(document.createElement("label"));
  label.append(text, element);
  return element;
}

function slider(max, value) {
  const input = document.createElement("input");
  Object.assign(input, {type: "range", min: 0, max: max, value: value});
  return input;
}

function choice(names, chosen) {
  const select = document.createElement("select");
  names.forEach((name, index) => select.add(new Option(name, index, false, index === chosen)));
  return select;
}

document.querySelectorAll(".compare").forEach((box) => {
  const rows = [...box.querySelectorAll(".row")];
  const names = [...rows[0].querySelectorAll("figure")].map((figure) =>
    figure.querySelector("figcaption").firstChild?.textContent);
  if (names.length < 2) return;
  const stage = document.createElement("div");
  stage.className = "stage";
  const images = [0, 1].map(() => stage.appendChild(new Image()));
  const controls = document.createElement("div");
  controls.className = "controls";
  const cut = control(controls, "divide", slider(100, 50));
  const sides = ["left", "right"].map((side, index) => control(controls, side, choice(names, index)));
  const place = rows.length > 1 ? control(controls, "image", slider(rows.length - 1, 0)) : null;
  function show() {
    const current = place ? Number(place.value) : 0;
    rows.forEach((row, index) => { row.hidden = index !== current; });
    const shown = rows[current].querySelectorAll("img");
    sides.forEach((side, index) => {
      images[index].src = shown[side.value].src;
      images[index].alt = names[side.value];
    });
    stage.style.setProperty("--cut", cut.value + "%");
  }
  controls.addEventListener("input", show);
  box.prepend(stage, controls);
  show();
});
