"use strict";
// The part of the photo to search for: one that a version proposes, or one drawn with mouse, pen or finger.
(() => {
  const LEAST_SIDE = 0.04; // of a drawn part, as a share of the photo; less is a click
  const byId = (id) => document.getElementById(id);
  const form = byId("search-form"), framed = byId("framed"), preview = byId("preview"), parts = byId("photo-parts");
  const box = byId("box"), drawn = byId("drawn"), whole = byId("whole-photo"), hint = byId("parts-hint");
  let isPhoto = false, start = null, moved = false;

  const place = (element, value) => {
    const [left, top, width, height] = value.split(",").map((share) => `${100 * share}%`);
    Object.assign(element.style, { left, top, width, height });
  };
  const mark = (value) => {
    box.value = value;
    const buttons = [...parts.children];
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.box === value));
    drawn.hidden = !value || buttons.some((button) => button.dataset.box === value);
    whole.hidden = !value;
  };
  const choose = (value) => {
    mark(value);
    form.dispatchEvent(new Event("part"));
  };

  form.addEventListener("picture", (event) => {
    isPhoto = event.detail.isPhoto;
    framed.classList.toggle("divisible", isPhoto);
    hint.hidden = !isPhoto;
    parts.replaceChildren();
    mark("");
    htmx.trigger(parts, isPhoto ? "photo" : "htmx:abort");
  });
  preview.addEventListener("load", () => {
    framed.style.setProperty("--shape", preview.naturalWidth / preview.naturalHeight);
  });
  parts.addEventListener("htmx:afterSwap", () => {
    for (const button of parts.children) place(button, button.dataset.box);
    mark(box.value);
  });
  parts.addEventListener("click", (event) => {
    const button = event.target.closest(".part");
    const drew = moved && event.detail; // a key's click has no detail
    if (button && !drew) choose(button.dataset.box === box.value ? "" : button.dataset.box);
  });
  whole.addEventListener("click", () => {
    choose("");
    byId("photo").focus();
  });

  const at = (event) => {
    const { left, top, width, height } = preview.getBoundingClientRect();
    const share = (place, length) => Math.min(1, Math.max(0, place / length));
    return [share(event.clientX - left, width), share(event.clientY - top, height)];
  };
  const between = ([x1, y1], [x2, y2]) => {
    const down = (share) => Math.floor(share * 1e4) / 1e4; // so that the part does not reach beyond the photo
    return [Math.min(x1, x2), Math.min(y1, y2), Math.abs(x1 - x2), Math.abs(y1 - y2)].map(down);
  };
  framed.addEventListener("pointerdown", (event) => {
    moved = false;
    start = isPhoto && event.isPrimary && !event.button ? at(event) : null;
  });
  framed.addEventListener("pointermove", (event) => {
    if (!start) return;
    const part = between(start, at(event));
    if (!moved && Math.min(part[2], part[3]) < LEAST_SIDE) return;
    if (!moved) framed.setPointerCapture(event.pointerId);
    moved = true;
    place(drawn, part.join());
    drawn.hidden = false;
  });
  framed.addEventListener("pointerup", (event) => {
    const part = start && moved ? between(start, at(event)) : null;
    start = null;
    if (part && Math.min(part[2], part[3]) >= LEAST_SIDE) choose(part.join());
    else if (part) mark(box.value);
  });
  framed.addEventListener("pointercancel", () => {
    start = null;
    mark(box.value);
  });
})();
