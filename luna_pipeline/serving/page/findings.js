// Table of findings by falling probability, and the texts about them.

const COLUMNS = ["Finding", "Probability", "Malignancy", "Diameter", "Slice"];

/** Fill the table; `onChosen` is called with the finding of a clicked row. */
export function showFindings(table, findings, { onChosen, hasMalignancy }) {
  const columns = COLUMNS.filter((name) => hasMalignancy || name !== "Malignancy");
  const head = row(columns.map((name) => cell("th", name, { scope: "col" })));
  const rows = findings.map((finding) => {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: finding.number });
    button.setAttribute("aria-label", `Show finding ${finding.number}`);
    const first = cell("th", "", { scope: "row" });
    first.append(button);
    const numbers = numbersOf(finding, hasMalignancy).map((text) => cell("td", text));
    const made = row([first, ...numbers]);
    made.dataset.number = finding.number;
    // A click on the button is one on its row, too.
    made.addEventListener("click", () => onChosen(finding));
    return made;
  });
  const [header, body] = [document.createElement("thead"), document.createElement("tbody")];
  header.append(head);
  body.append(...rows);
  table.replaceChildren(header, body);
}

/** Mark the row of a finding. */
export function markFinding(table, finding) {
  for (const made of table.querySelectorAll("tbody tr")) {
    const isChosen = made.dataset.number === String(finding?.number);
    made.classList.toggle("chosen", isChosen);
    made.querySelector("button").setAttribute("aria-pressed", isChosen);
    if (isChosen) made.scrollIntoView({ block: "nearest" });
  }
}

/** A finding as a sentence. */
export function sentenceOf(finding, numSlices) {
  const slice = Math.floor(finding.center_irc[0] + 0.5) + 1;
  const malignancy = finding.malignancy === null ? "" : `, malignancy ${share(finding.malignancy)}`;
  return `Finding ${finding.number}: probability ${share(finding.probability)}${malignancy}, diameter ` +
    `${finding.diameter_mm.toFixed(1)} mm, axial slice ${slice} of ${numSlices} from the feet.`;
}

/** A share with three decimals, never 0 or 1 for a value that is not. */
export function share(value) {
  const text = value.toFixed(3);
  if (text === "1.000" && value < 1) return "> 0.999";
  return text === "0.000" && value > 0 ? "< 0.001" : text;
}

/** A number with its noun. */
export function plural(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

/** A table cell with text. */
export function cell(name, text, attributes = {}) {
  return Object.assign(document.createElement(name), { textContent: text, ...attributes });
}

/** A table row. */
export function row(cells) {
  const made = document.createElement("tr");
  made.append(...cells);
  return made;
}

function numbersOf(finding, hasMalignancy) {
  const malignancy = finding.malignancy === null ? "none" : share(finding.malignancy);
  const slice = Math.floor(finding.center_irc[0] + 0.5) + 1;
  const texts = [share(finding.probability), malignancy, `${finding.diameter_mm.toFixed(1)} mm`, String(slice)];
  return hasMalignancy ? texts : [texts[0], ...texts.slice(2)];
}
