// One diagnosis: its state until it is final, then its findings, slices and files.

import { download, isFinalRefusal, request } from "./api.js";
import { confirmDelete } from "./dialogs.js";
import { element, show, showText } from "./elements.js";
import { markFinding, plural, sentenceOf, share, showFindings } from "./findings.js";
import { Viewer, WINDOWS } from "./viewer.js";

const EVERY_MS = 1000;
const AFTER_ERROR_MS = 5000;
const RESULTS = {
  "report.html": "Report (HTML)",
  "nodules.csv": "Findings (CSV)",
  "nodules.json": "Findings (JSON)",
  "seg.dcm": "Segmentation (DICOM SEG)",
  "sr.dcm": "Structured report (DICOM SR)",
  "montage.png": "Overview (PNG)",
  "lungs.png": "Lungs (PNG)",
};
const STAGES = { reading: "Reading the CT", models: "Loading the models", lungs: "Finding the lungs", outputs: "Writing the results" };

let viewer = null;
let openId = null;
let numOpened = 0;

/** Connect the diagnosis's part of the page; `onEnd` is called when one has ended or was deleted. */
export function connectJob(onEnd) {
  for (const input of document.querySelectorAll('input[name="window"]'))
    input.onchange = () => viewer?.set({ window: WINDOWS[input.value] });
  element("outlines").onchange = (event) => viewer?.set({ hasOutlines: event.target.checked });
  element("zoom").onchange = (event) => viewer?.set({ zoom: Number(event.target.value) });
  element("below").onchange = (event) => {
    viewer?.set({ hasBelow: event.target.checked });
    listFindings();
  };
  element("delete").onclick = () => remove(onEnd);
}

/** Show a diagnosis and follow it until it is final; null closes it. */
export async function openJob(id, onEnd) {
  openId = id;
  // The same diagnosis may be opened again.
  const own = ++numOpened;
  const isOpen = () => own === numOpened;
  viewer?.close();
  viewer = null;
  show("job", id !== null);
  show("result", false);
  for (const name of ["job-problem", "synthetic", "notes", "running"]) show(name, false);
  element("job-text").textContent = "";
  element("job-details").textContent = "";
  while (id !== null && isOpen()) {
    let job, view;
    try {
      job = await (await request(pathOf(id))).json();
      view = job.state === "done" ? await (await request(`${pathOf(id)}/view`)).json() : null;
    } catch (error) {
      if (!isOpen()) return;
      showText("job-problem", error.message);
      if (isFinalRefusal(error)) return;
      await pause(AFTER_ERROR_MS);
      continue;
    }
    if (!isOpen()) return;
    showText("job-problem", job.state === "failed" ? job.reason : "");
    showState(job);
    if (job.state === "done" || job.state === "failed") {
      onEnd();
      if (view) showResult(job, view, isOpen);
      return;
    }
    await pause(EVERY_MS);
  }
}

/** State of a diagnosis in words. */
export function stateOf(job) {
  if (job.state !== "queued") return job.state;
  return job.position === null ? "waiting" : `waiting, ${job.position} before it`;
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

function pathOf(id) {
  return `v1/diagnoses/${id}`;
}

function showState(job) {
  const found = job.num_nodules === null ? "" : `: ${plural(job.num_nodules, "finding")} at or above the threshold`;
  // A status that does not change is not read aloud again.
  const text = `The diagnosis is ${stateOf(job)}${found}.`;
  if (element("job-text").textContent !== text) element("job-text").textContent = text;
  const isRunning = job.state === "running";
  show("running", isRunning);
  if (isRunning) {
    const bar = element("job-bar");
    element("job-stage").textContent = STAGES[job.stage] ?? (job.stage ? job.stage[0].toUpperCase() + job.stage.slice(1) : "Starting");
    bar.max = Math.max(job.total, 1);
    if (job.total > 0) bar.value = job.done;
    else bar.removeAttribute("value");
  }
  const models = Object.entries(job.models).map(([role, model]) => `${role} ${model}`);
  const sent = job.deliveries.map((it) => `${it.peer}: ${it.state}${it.reason ? ` (${it.reason})` : ""}`);
  const parts = [`Id ${job.id}`, models.length ? `models: ${models.join(", ")}` : "", sent.length ? `results to ${sent.join(", ")}` : ""];
  element("job-details").textContent = parts.filter(Boolean).join("; ");
}

function showResult(job, view, isOpen) {
  show("result", true);
  show("synthetic", view.is_synthetic);
  show("notes", view.notes.length > 0);
  element("notes").replaceChildren(...view.notes.map((note) => Object.assign(document.createElement("li"), { textContent: note })));
  showDownloads(job);
  const onFailed = (error) => isOpen() && showText("job-problem", error?.message ?? "");
  viewer = new Viewer(element("planes"), pathOf(job.id), view, { chosen, changed, failed: onFailed });
  const numBelow = viewer.findings.filter((it) => !it.isAbove).length;
  show("below-label", numBelow > 0);
  element("below").checked = false;
  element("below-text").textContent = `Also show ${plural(numBelow, "finding")} below the threshold of ${share(view.threshold)}`;
  listFindings();
  changed();
  if (viewer.shownFindings().length > 0) viewer.choose(viewer.shownFindings()[0]);
}

function listFindings() {
  if (!viewer) return;
  const shown = viewer.shownFindings();
  const hasMalignancy = viewer.findings.some((it) => it.malignancy !== null);
  show("findings-scroll", shown.length > 0);
  showFindings(element("findings"), shown, { onChosen: (finding) => viewer.choose(finding), hasMalignancy });
  markFinding(element("findings"), viewer.chosen);
  if (viewer.chosen === null)
    element("findings-text").textContent = shown.length
      ? "Choose a finding to see it in three planes."
      : "No finding at or above the threshold. This does not mean that there is no nodule.";
}

function chosen(finding) {
  element("findings-text").textContent = sentenceOf(finding, viewer.view.size_irc[0]);
  markFinding(element("findings"), finding);
}

// Controls show what a key has changed.
function changed() {
  const name = Object.keys(WINDOWS).find((it) => WINDOWS[it] === viewer.window);
  document.querySelector(`input[name="window"][value="${name}"]`).checked = true;
  element("outlines").checked = viewer.hasOutlines;
  element("zoom").value = String(viewer.zoom);
}

function showDownloads(job) {
  const made = Object.keys(RESULTS).filter((name) => name in job.results).map((name) => {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: RESULTS[name] });
    button.onclick = () => download(`${pathOf(job.id)}/${name}`, `${job.id}-${name}`).catch((error) => showText("job-problem", error.message));
    const item = document.createElement("li");
    item.append(button);
    return item;
  });
  element("downloads").replaceChildren(...made);
}

async function remove(onEnd) {
  const id = openId;
  if (!(await confirmDelete())) return;
  try {
    await request(pathOf(id), { method: "DELETE" });
  } catch (error) {
    return showText("job-problem", error.message);
  }
  location.hash = "";
  onEnd();
  element("kept-title").focus();
}
