// Filling in the parts that a template names. Text goes in as text, whatever it looks like.

export function partsOf(element) {
  const parts = {};
  if (element.dataset.part) parts[element.dataset.part] = element;
  for (const one of element.querySelectorAll("[data-part]")) parts[one.dataset.part] = one;
  return parts;
}

export function clone(template) {
  return document.getElementById(template).content.firstElementChild.cloneNode(true);
}

// What is the same stays untouched: a selection in it, too.
export function setText(element, text) {
  const shown = String(text);
  if (element.textContent !== shown) element.textContent = shown;
}

export function setTime(element, iso, text) {
  if (element.dateTime !== iso) {
    element.dateTime = iso;
    element.title = new Date(iso).toLocaleString();
  }
  setText(element, text);
}

export function setSwitch(button, name, on) {
  button.setAttribute("aria-checked", String(on));
  button.setAttribute("aria-label", `Active: ${name}`);
  setText(button, on ? "on" : "off");
}
