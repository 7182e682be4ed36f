// Dialogs that stay, with what was typed, until what they are for is done.

import { fault } from "./notices.js";

// Open `dialog`; `submit` does what it is for, `done` follows once it has closed, and `refuse` shows
// at its fields why it was refused, if there are any for that.
export function open(dialog, { submit, done, refuse = () => false }) {
  const form = dialog.querySelector("form");
  const refused = dialog.querySelector(".refused");
  const button = dialog.querySelector("[type=submit]");
  const title = dialog.querySelector("h2").textContent;
  const opening = (dialog.opening = Symbol(title));
  const isOpen = () => dialog.open && dialog.opening === opening;
  refused.textContent = "";
  button.removeAttribute("aria-busy");
  for (const one of dialog.querySelectorAll("[data-close]")) one.onclick = () => dialog.close();

  form.onsubmit = async (event) => {
    event.preventDefault();
    if (button.getAttribute("aria-busy") === "true") return;
    refused.textContent = "";
    button.setAttribute("aria-busy", "true");
    try {
      await submit();
      if (isOpen()) dialog.close();
      done();
    } catch (error) {
      // Who has closed it meanwhile is told all the same.
      if (!isOpen()) fault(`${title}: ${error.message}`);
      else if (!refuse(error)) refused.textContent = error.message;
    } finally {
      if (dialog.opening === opening) button.removeAttribute("aria-busy");
    }
  };
  dialog.showModal();
}

const confirmation = document.getElementById("confirm");

// Ask before something that cannot be undone.
export function confirm({ title, text, action, submit, done }) {
  confirmation.querySelector("h2").textContent = title;
  confirmation.querySelector("#confirm-text").textContent = text;
  confirmation.querySelector("[type=submit]").textContent = action;
  open(confirmation, { submit, done });
}
