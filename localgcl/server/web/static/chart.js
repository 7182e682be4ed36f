// Slots in use and waiting over the last minutes: steps, from one change to the next.

import { duration, number } from "./format.js";

// The server knows of ten minutes; while it knows of less, that is shown larger.
const SPANS_SECONDS = [120, 300, 600];

const WIDTH = 600;
const HEIGHT = 120;
const STEP_SECONDS = 10; // of the arrow keys

const SVG = "http://www.w3.org/2000/svg";

export class Chart {
  constructor(figure) {
    this.plot = figure.querySelector(".plot");
    this.cursor = figure.querySelector(".cursor");
    this.output = figure.querySelector("output");
    this.scale = [...figure.querySelectorAll(".scale span")];
    this.moments = figure.querySelectorAll(".moments span");
    this.svg = figure.querySelector("svg");
    this.lines = Object.fromEntries(
      ["grid", "area", "used", "waiting", "limit"].map((name) => {
        const path = document.createElementNS(SVG, "path");
        path.setAttribute("class", name);
        this.svg.append(path);
        return [name, path];
      }),
    );
    this.ago = null;
    this.plot.addEventListener("pointermove", (event) => {
      const box = this.plot.getBoundingClientRect();
      this.point((1 - (event.clientX - box.left) / box.width) * this.span);
    });
    this.plot.addEventListener("pointerleave", () => this.point(null));
    this.plot.addEventListener("blur", () => this.point(null));
    this.plot.addEventListener("keydown", (event) => this.press(event));
  }

  show(limit, now) {
    this.limit = limit;
    this.draw(now);
  }

  draw(now) {
    this.now = now;
    const { limit } = this;
    const points = limit.past.filter((point) => point.at <= now);
    this.span = SPANS_SECONDS.find((one) => points.length && points[0].at > now - one) ?? SPANS_SECONDS.at(-1);
    const top = topOf(points, limit.limit);
    const x = (at) => Math.max(0, WIDTH * (1 - (now - at) / this.span)).toFixed(1);
    const y = (value) => (HEIGHT * (1 - value / top)).toFixed(1);
    const steps = (key) =>
      points.map((point, index) => {
        const height = y(point[key]);
        return index ? `H${x(point.at)}V${height}` : `M${x(point.at)} ${height}`;
      }).join("") + (points.length ? `H${WIDTH}` : "");
    const used = steps("active_slots");
    const draw = (name, path) => this.lines[name].setAttribute("d", path);
    draw("grid", [0, top / 2, top].map((value) => `M0 ${y(value)}H${WIDTH}`).join(""));
    draw("used", used);
    draw("area", used && `${used}V${HEIGHT}H${x(points[0].at)}Z`);
    draw("waiting", points.some((point) => point.waiting) ? steps("waiting") : "");
    draw("limit", limit.limit <= top ? `M0 ${y(limit.limit)}H${WIDTH}` : "");
    [top, top / 2, 0].forEach((value, index) => {
      this.scale[index].textContent = Number.isInteger(value) ? number(value) : "";
    });
    this.moments[0].textContent = `${duration(this.span)} ago`;
    this.moments[1].textContent = `${duration(this.span / 2)} ago`;
    this.svg.setAttribute("aria-label", `${this.read(0)} ${this.summary(points)}`);
    this.point(this.ago);
  }

  summary(points) {
    const most = (key) => Math.max(0, ...points.map((point) => point[key]));
    return `In the last ${duration(this.span)} at most ${number(most("active_slots"))} in use and ${number(most("waiting"))} waiting.`;
  }

  press(event) {
    const step = { ArrowLeft: STEP_SECONDS, ArrowRight: -STEP_SECONDS }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    this.point(Math.max(0, (this.ago ?? 0) + step));
  }

  // Point at a moment so many seconds ago, or at none.
  point(ago) {
    this.ago = ago === null ? null : Math.min(Math.max(ago, 0), this.span);
    this.cursor.hidden = ago === null;
    if (ago === null) {
      this.output.textContent = "";
      return;
    }
    this.cursor.style.left = `${100 * (1 - this.ago / this.span)}%`;
    this.output.textContent = this.read(this.ago);
  }

  read(ago) {
    const at = this.now - ago;
    const point = this.limit.past.findLast((one) => one.at <= at);
    const when = ago < 1 ? "Now" : `${duration(ago)} ago`;
    if (!point) return `${when}: not known.`;
    return `${when}: ${number(point.active_slots)} in use, ${number(point.waiting)} waiting.`;
  }
}

// The value at the top: the limit, unless that is so high that nothing else could be seen.
function topOf(points, limit) {
  const most = Math.max(1, ...points.flatMap((point) => [point.active_slots, point.waiting]));
  const top = limit <= 10 * most ? Math.max(limit, most) : 2 * most;
  return top + (top % 2 && top > 1 ? 1 : 0);
}
