// The viewer: three planes through one point, one window, one zoom, and the chosen finding.

import { request } from "./api.js";
import { Plane } from "./plane.js";

/** Level and width in HU. */
export const WINDOWS = { lung: [-600, 1500], mediastinum: [40, 400], bone: [400, 1800] };
const SHORTCUTS = { 1: "lung", 2: "mediastinum", 3: "bone" };
const MAX_ZOOM = 8;
const KEPT_SLICES = 48;
const AT_ONCE = 3;
// In the order of their loading around the shown slice.
const NEIGHBOURS = [0, 1, -1, 2, -2, 3, -3, 4, -4];

/** Planes of one CT in `element`; `on` has the functions `chosen`, `changed` and `failed`. */
export class Viewer {
  constructor(element, path, view, on) {
    this.view = view;
    this.on = on;
    this.findings = view.findings.map((it) => ({ ...it, bits: bitsOf(it.mask), isAbove: it.probability >= view.threshold }));
    this.chosen = null;
    this.hasBelow = false;
    this.hasOutlines = true;
    this.window = WINDOWS.lung;
    this.zoom = 1;
    this.point = view.size_irc.map((size) => Math.floor(size / 2));
    this.slices = new Slices(path, view.planes, view.size_irc, () => this.draw(), on.failed);
    this.planes = ["axial", "coronal", "sagittal"].map((name) => new Plane(name, view, this));
    element.replaceChildren(...this.planes.map((plane) => plane.figure));
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(element);
    this.moveTo(this.point);
  }

  /** Forget the CT. */
  close() {
    this.observer.disconnect();
    this.slices.close();
  }

  draw() {
    for (const plane of this.planes) plane.draw();
  }

  /** Findings that are listed and outlined. */
  shownFindings() {
    return this.hasBelow ? this.findings : this.findings.filter((it) => it.isAbove);
  }

  /** Show the three planes through a point, within the CT. */
  moveTo(point) {
    this.point = point.map((value, axis) => Math.min(Math.max(value, 0), this.view.size_irc[axis] - 1));
    for (const plane of this.planes) this.slices.want(plane.name, plane.number);
    this.draw();
  }

  step(plane, number) {
    const point = [...this.point];
    point[plane.axis] += number;
    this.moveTo(point);
  }

  choose(finding) {
    this.chosen = finding;
    this.moveTo(finding.center_irc.map((value) => Math.floor(value + 0.5)));
    this.on.chosen(finding);
  }

  set(values) {
    Object.assign(this, values);
    this.draw();
    this.on.changed();
  }

  /** Carry out a key; return whether it is one of the viewer's. */
  shortcut(key) {
    if (key in SHORTCUTS) this.set({ window: WINDOWS[SHORTCUTS[key]] });
    else if (key === "o") this.set({ hasOutlines: !this.hasOutlines });
    else if (key === "+" || key === "=") this.set({ zoom: Math.min(this.zoom * 2, MAX_ZOOM) });
    else if (key === "-") this.set({ zoom: Math.max(this.zoom / 2, 1) });
    else if (key === "n") this._chooseNext(1);
    else if (key === "p") this._chooseNext(-1);
    else return false;
    return true;
  }

  _chooseNext(step) {
    const shown = this.shownFindings();
    if (shown.length === 0) return;
    const at = shown.indexOf(this.chosen);
    const next = at === -1 ? (step > 0 ? 0 : shown.length - 1) : (at + step + shown.length) % shown.length;
    this.choose(shown[next]);
  }
}

/** Slices that were loaded, the newest of each plane, and those that are needed next. */
class Slices {
  constructor(path, planes, size, onLoaded, onFailed) {
    Object.assign(this, { path, onLoaded, onFailed });
    this.aborter = new AbortController();
    // The service reads the CT for the first slice; until then further requests would only wait.
    this.atOnce = 1;
    this.planes = {};
    for (const [name, { axis }] of Object.entries(planes))
      this.planes[name] = { size: size[axis], wanted: 0, kept: new Map(), loading: new Set() };
  }

  close() {
    this.aborter.abort();
  }

  get(name, number) {
    return this.planes[name].kept.get(number);
  }

  want(name, number) {
    const plane = this.planes[name];
    plane.wanted = number;
    if (plane.kept.has(number)) this._report(plane, null);
    this._load(name);
  }

  _load(name) {
    const plane = this.planes[name];
    for (const offset of NEIGHBOURS) {
      const number = plane.wanted + offset;
      if (plane.loading.size >= this.atOnce) return;
      if (number < 0 || number >= plane.size || plane.kept.has(number) || plane.loading.has(number)) continue;
      plane.loading.add(number);
      this._loadOne(name, number);
    }
  }

  async _loadOne(name, number) {
    const plane = this.planes[name];
    try {
      const response = await request(`${this.path}/slices/${name}/${number}`, { signal: this.aborter.signal });
      plane.kept.set(number, int16Of(await response.arrayBuffer()));
      this.atOnce = AT_ONCE;
      if (plane.kept.size > KEPT_SLICES) plane.kept.delete(plane.kept.keys().next().value);
    } catch (error) {
      // A neighbour is asked for again when it is needed.
      if (error.name !== "AbortError" && number === plane.wanted) this._report(plane, error);
      return;
    } finally {
      plane.loading.delete(number);
    }
    if (number === plane.wanted) {
      this._report(plane, null);
      this.onLoaded();
    }
    this._load(name);
  }

  // A shown failure goes once every plane has its slice.
  _report(plane, error) {
    const hadFailed = plane.hasFailed;
    plane.hasFailed = error !== null;
    if (error || (hadFailed && !Object.values(this.planes).some((it) => it.hasFailed))) this.onFailed(error);
  }
}

// Little-endian on every machine.
function int16Of(buffer) {
  const bytes = new DataView(buffer);
  const values = new Int16Array(buffer.byteLength / 2);
  for (let at = 0; at < values.length; at++) values[at] = bytes.getInt16(2 * at, true);
  return values;
}

function bitsOf(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}
