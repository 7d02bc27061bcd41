// Elements of the page by id, and how they are shown.

/** Return an element by its id. */
export const element = (id) => document.getElementById(id);

/** Show or hide an element. */
export function show(id, isShown) {
  element(id).hidden = !isShown;
}

/** Show a text, or hide its element without one. */
export function showText(id, text) {
  element(id).textContent = text ?? "";
  show(id, Boolean(text));
}
