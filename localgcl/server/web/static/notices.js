// What the page has to say: faults that stay until they are dismissed or healed, and passing news.

const faults = document.getElementById("faults");
const template = document.getElementById("fault");
const news = document.getElementById("news");

const NEWS_MS = 6000;
const CARRIED = "localgcl.news";

// Show a fault; one about the same thing takes the place of the last.
export function fault(message, about = message) {
  const shown = [...faults.children].find((one) => one.dataset.about === about);
  if (shown) {
    const text = shown.querySelector("p");
    if (text.textContent !== message) text.textContent = message;
    return;
  }
  const notice = template.content.firstElementChild.cloneNode(true);
  notice.dataset.about = about;
  notice.querySelector("p").textContent = message;
  notice.querySelector("button").addEventListener("click", () => {
    notice.remove();
    document.getElementById("main").focus();
  });
  faults.append(notice);
}

// Take away a fault that is no more.
export function heal(about) {
  for (const one of faults.children) if (one.dataset.about === about) return one.remove();
}

let timer;

// Say that something was done.
export function tell(message) {
  clearTimeout(timer);
  news.textContent = message;
  timer = setTimeout(() => (news.textContent = ""), NEWS_MS);
}

// Say it on the page that comes next.
export function carry(message) {
  sessionStorage.setItem(CARRIED, message);
}

const carried = sessionStorage.getItem(CARRIED);
if (carried !== null) {
  sessionStorage.removeItem(CARRIED);
  // A live region says what is put into it after it was there.
  setTimeout(() => tell(carried), 100);
}
