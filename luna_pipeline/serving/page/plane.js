// One plane of a CT on a canvas: grey values by a window, outlines of findings, sides of the patient, a scale.

const MARK = "#ffd600";
const CHOSEN = "#00e5ff";
const FAINT = "#9ecbff";
const BARS_MM = [100, 50, 20, 10, 5, 2, 1];

/** A plane through the view of a CT; `viewer` has the shared point, window and zoom. */
export class Plane {
  constructor(name, view, viewer) {
    this.name = name;
    this.viewer = viewer;
    const { axis, down, across, is_upside_down, letters } = view.planes[name];
    Object.assign(this, { axis, down, across, isUpsideDown: is_upside_down, letters });
    this.size = view.size_irc[axis];
    this.rows = view.size_irc[down];
    this.columns = view.size_irc[across];
    this.rowMm = view.spacing_irc_mm[down];
    this.columnMm = view.spacing_irc_mm[across];
    this.pixels = Object.assign(document.createElement("canvas"), { width: this.columns, height: this.rows });
    this._build();
  }

  /** Slice that is shown. */
  get number() {
    return this.viewer.point[this.axis];
  }

  /** Draw the slice, or keep the picture until it has arrived. */
  draw() {
    const values = this.viewer.slices.get(this.name, this.number);
    this._say(values === undefined);
    if (!values) return;
    this._paint(values);
    const context = this.canvas.getContext("2d");
    const side = Math.max(Math.round(this.canvas.clientWidth * devicePixelRatio), 1);
    if (this.canvas.width !== side) this.canvas.width = this.canvas.height = side;
    context.fillStyle = "#000";
    context.fillRect(0, 0, side, side);
    this._place(side);
    const [left, top] = this._toCanvas(-0.5, -0.5);
    context.drawImage(this.pixels, left, top, this.columns * this.columnMm * this.scale, this.rows * this.rowMm * this.scale);
    for (const finding of this.viewer.shownFindings()) this._drawFinding(context, finding);
    this._annotate(context, side);
    this.canvas.dataset.drawn = this.number;
  }

  _build() {
    this.title = this.name[0].toUpperCase() + this.name.slice(1);
    this.canvas = document.createElement("canvas");
    this.canvas.tabIndex = 0;
    const states = { role: "slider", "aria-label": `${this.title} slice`, "aria-orientation": "vertical" };
    for (const [name, value] of Object.entries(states)) this.canvas.setAttribute(name, value);
    this.canvas.setAttribute("aria-valuemin", 1);
    this.canvas.setAttribute("aria-valuemax", this.size);
    this.caption = document.createElement("figcaption");
    this.figure = document.createElement("figure");
    this.figure.className = this.name;
    this.figure.append(this.canvas, this.caption);
    this.canvas.addEventListener("wheel", (event) => this._wheel(event), { passive: false });
    this.canvas.addEventListener("keydown", (event) => this._key(event));
    this.canvas.addEventListener("click", (event) => this._click(event));
    this.turned = 0;
  }

  _say(isLoading) {
    const numbers = this.viewer.shownFindings().filter((it) => this._rowsOfMask(it) !== null).map((it) => it.number);
    const found = numbers.length === 0 ? "" : `, ${numbers.length === 1 ? "finding" : "findings"} ${numbers.join(", ")}`;
    const text = `slice ${this.number + 1} of ${this.size}${found}`;
    this.caption.textContent = `${this.title} ${text}${isLoading ? ", loading…" : ""}`;
    this.canvas.setAttribute("aria-busy", isLoading);
    this.canvas.setAttribute("aria-valuenow", this.number + 1);
    this.canvas.setAttribute("aria-valuetext", text);
  }

  _paint(values) {
    const [level, width] = this.viewer.window;
    const lower = level - width / 2;
    const context = this.pixels.getContext("2d");
    const image = context.createImageData(this.columns, this.rows);
    const target = new Uint32Array(image.data.buffer);
    for (let at = 0; at < values.length; at++) {
      const grey = Math.min(Math.max(Math.round(((values[at] - lower) * 255) / width), 0), 255);
      target[at] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
    }
    context.putImageData(image, 0, 0);
  }

  // Scale in pixels a mm, and the position in mm that is in the canvas's middle.
  _place(side) {
    const wide = this.columns * this.columnMm;
    const high = this.rows * this.rowMm;
    this.side = side;
    this.scale = (side / Math.max(wide, high)) * this.viewer.zoom;
    const isZoomed = this.viewer.zoom > 1;
    this.middleX = isZoomed ? (this.viewer.point[this.across] + 0.5) * this.columnMm : wide / 2;
    this.middleY = isZoomed ? (this._flipped(this.viewer.point[this.down]) + 0.5) * this.rowMm : high / 2;
  }

  _flipped(row) {
    return this.isUpsideDown ? this.rows - 1 - row : row;
  }

  // Canvas position of column and row of the shown slice.
  _toCanvas(column, row) {
    return [
      ((column + 0.5) * this.columnMm - this.middleX) * this.scale + this.side / 2,
      ((row + 0.5) * this.rowMm - this.middleY) * this.scale + this.side / 2,
    ];
  }

  // The finding's voxels in the shown slice as a function of row and column of its box; null without any.
  _rowsOfMask(finding) {
    const shape = finding.box_shape_irc;
    const at = this.number - finding.box_start_irc[this.axis];
    if (at < 0 || at >= shape[this.axis]) return null;
    const strides = [shape[1] * shape[2], shape[2], 1];
    const first = at * strides[this.axis];
    const isIn = (row, column) => {
      if (row < 0 || column < 0 || row >= shape[this.down] || column >= shape[this.across]) return false;
      const bit = first + row * strides[this.down] + column * strides[this.across];
      return ((finding.bits[bit >> 3] >> (7 - (bit & 7))) & 1) === 1;
    };
    return isIn;
  }

  _drawFinding(context, finding) {
    const isIn = this._rowsOfMask(finding);
    if (isIn === null) return;
    const startRow = finding.box_start_irc[this.down];
    const startColumn = finding.box_start_irc[this.across];
    const corner = (row, column) => {
      const shown = this.isUpsideDown ? this.rows - (startRow + row) : startRow + row;
      return this._toCanvas(startColumn + column - 0.5, shown - 0.5);
    };
    const path = new Path2D();
    const line = (from, to) => {
      path.moveTo(...from);
      path.lineTo(...to);
    };
    for (let row = 0; row <= finding.box_shape_irc[this.down]; row++)
      for (let column = 0; column <= finding.box_shape_irc[this.across]; column++) {
        if (isIn(row, column) !== isIn(row - 1, column)) line(corner(row, column), corner(row, column + 1));
        if (isIn(row, column) !== isIn(row, column - 1)) line(corner(row, column), corner(row + 1, column));
      }
    const isChosen = finding === this.viewer.chosen;
    const colour = isChosen ? CHOSEN : finding.isAbove ? MARK : FAINT;
    const unit = devicePixelRatio;
    if (this.viewer.hasOutlines) stroke(context, path, colour, (isChosen ? 2.5 : 1.5) * unit);
    const [x, y] = corner(this.isUpsideDown ? finding.box_shape_irc[this.down] : 0, finding.box_shape_irc[this.across]);
    write(context, String(finding.number), x + 4 * unit, y, colour, "left");
  }

  _annotate(context, side) {
    const unit = devicePixelRatio;
    const [left, right, top, bottom] = this.letters;
    write(context, left, 6 * unit, side / 2, "#fff", "left");
    write(context, right, side - 6 * unit, side / 2, "#fff", "right");
    write(context, top, side / 2, 12 * unit, "#fff", "center");
    write(context, bottom, side / 2, side - 12 * unit, "#fff", "center");
    const mm = BARS_MM.find((it) => it * this.scale <= side / 4) ?? BARS_MM.at(-1);
    context.fillStyle = "#fff";
    context.fillRect(side - 8 * unit - mm * this.scale, side - 10 * unit, mm * this.scale, 3 * unit);
    write(context, `${mm} mm`, side - 8 * unit, side - 20 * unit, "#fff", "right");
  }

  _wheel(event) {
    if (event.ctrlKey) return;
    event.preventDefault();
    // A notch of a mouse is one slice; small steps of a trackpad add up to one.
    this.turned += event.deltaMode === 0 ? event.deltaY / 40 : event.deltaY;
    if (Math.abs(this.turned) < 1) return;
    this.viewer.step(this, -Math.sign(this.turned));
    this.turned = 0;
  }

  _key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const steps = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10 };
    const ends = { Home: -this.size, End: this.size };
    const step = steps[event.key] ?? ends[event.key];
    if (step === undefined && !this.viewer.shortcut(event.key)) return;
    event.preventDefault();
    if (step !== undefined) this.viewer.step(this, step);
  }

  _click(event) {
    if (this.scale === undefined) return;
    const box = this.canvas.getBoundingClientRect();
    const pixels = this.side / box.width;
    const x = ((event.clientX - box.left) * pixels - this.side / 2) / this.scale + this.middleX;
    const y = ((event.clientY - box.top) * pixels - this.side / 2) / this.scale + this.middleY;
    const point = [...this.viewer.point];
    point[this.across] = Math.floor(x / this.columnMm);
    point[this.down] = this._flipped(Math.floor(y / this.rowMm));
    this.viewer.moveTo(point);
  }
}

function stroke(context, path, colour, width) {
  // A dark line below, without which a bright one is hard to see on white.
  for (const [style, size] of [["#282828", width * 2.2], [colour, width]]) {
    context.strokeStyle = style;
    context.lineWidth = size;
    context.stroke(path);
  }
}

function write(context, text, x, y, colour, align) {
  context.font = `${13 * devicePixelRatio}px system-ui, sans-serif`;
  context.textAlign = align;
  context.textBaseline = "middle";
  context.lineWidth = 3 * devicePixelRatio;
  context.strokeStyle = "#000";
  context.strokeText(text, x, y);
  context.fillStyle = colour;
  context.fillText(text, x, y);
}
