// Dialogs: the access token, and the question before something is deleted.

import { element } from "./elements.js";

/** Ask for the access token; resolve to it, or to null. */
export function askForToken(wasRefused) {
  element("token-text").textContent = wasRefused
    ? "The service does not know this token. Enter another one."
    : "This service requires an access token. Its operator makes one with `luna token add`.";
  element("token").value = "";
  const answer = answered("token-dialog", "token-cancel", (finish) => {
    element("token-form").onsubmit = (event) => {
      event.preventDefault();
      finish(element("token").value.trim());
    };
  });
  element("token").focus();
  return answer;
}

/** Ask whether a CT is to be deleted. */
export function confirmDelete() {
  const answer = answered("delete-dialog", "delete-cancel", (finish) => {
    element("delete-confirm").onclick = () => finish(true);
  });
  element("delete-cancel").focus();
  return answer;
}

function answered(dialogId, cancelId, connect) {
  const dialog = element(dialogId);
  return new Promise((resolve) => {
    let value = null;
    const finish = (given) => {
      value = given;
      dialog.close();
    };
    connect(finish);
    element(cancelId).onclick = () => finish(null);
    // Also by Escape.
    dialog.onclose = () => resolve(value);
    dialog.showModal();
  });
}
