"use strict";
(function () {
  const specs = JSON.parse(document.getElementById("specs").textContent);
  const views = {};
  const options = { actions: false, renderer: "svg", tooltip: { theme: "custom" } };

  function draw(name) {
    const place = document.getElementById(name);
    return vegaEmbed(place, specs[name], options).then(
      (result) => { views[name] = result.view; },
      (error) => { place.textContent = "This figure could not be drawn: " + error.message; });
  }

  function set(name, signal, value) {
    const view = views[name];
    if (view) view.signal(signal, value).runAsync();
  }

  const chips = Array.from(document.querySelectorAll(".chips button"));
  let held = "";
  function bring(arm) {
    document.querySelectorAll("[data-follows-chips]").forEach((place) => set(place.id, "picked", arm));
  }
  chips.forEach((chip) => {
    const arm = chip.dataset.arm;
    chip.addEventListener("mouseenter", () => bring(arm));
    chip.addEventListener("focus", () => bring(arm));
    chip.addEventListener("mouseleave", () => bring(held));
    chip.addEventListener("blur", () => bring(held));
    chip.addEventListener("click", () => {
      held = held === arm ? "" : arm;
      chips.forEach((other) => other.setAttribute("aria-pressed", String(other.dataset.arm === held)));
      bring(held);
    });
  });

  const menu = document.getElementById("arm-menu");
  if (menu) menu.addEventListener("change", () => set("each-arm", "shown", menu.value));

  const drawn = Object.keys(specs).map(draw);
  Promise.all(drawn).then(() => document.documentElement.setAttribute("data-drawn", String(drawn.length)));
})();
