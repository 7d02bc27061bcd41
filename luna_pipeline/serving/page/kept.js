// Table of the diagnoses that the service keeps; those that a scanner or PACS has pushed are among them.

import { isFinalRefusal, request } from "./api.js";
import { element } from "./elements.js";
import { cell, row } from "./findings.js";
import { stateOf } from "./jobs.js";

const COLUMNS = ["Received", "By", "State", "Findings", "Diagnosis"];
const ORIGINS = { http: "upload", dicom: "DICOM" };

/** Show the newest diagnoses; return whether they may be asked for again. */
export async function showKept() {
  try {
    const jobs = await (await request("v1/diagnoses")).json();
    const text = jobs.length === 0 ? "None yet." : "";
    if (element("kept-text").textContent !== text) element("kept-text").textContent = text;
    fill(element("kept"), jobs);
    return true;
  } catch (error) {
    element("kept-text").textContent = error.message;
    return !isFinalRefusal(error);
  }
}

function fill(table, jobs) {
  const content = JSON.stringify(jobs.map((job) => [job.id, job.state, job.position, job.num_nodules]));
  // A table that stays keeps its focus.
  if (table.dataset.content === content) return;
  table.dataset.content = content;
  const focused = table.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  const head = document.createElement("thead");
  const body = document.createElement("tbody");
  head.append(row(COLUMNS.map((name) => cell("th", name, { scope: "col" }))));
  body.append(...jobs.map(rowOf));
  table.replaceChildren(...(jobs.length === 0 ? [] : [head, body]));
  if (focused) table.querySelector(`a[href="${focused}"]`)?.focus();
}

function rowOf(job) {
  const link = Object.assign(document.createElement("a"), { href: `#${job.id}`, textContent: job.id.slice(0, 8) });
  link.setAttribute("aria-label", `Show diagnosis ${job.id.slice(0, 8)}`);
  const received = new Date(job.received_at * 1000).toLocaleString();
  const texts = [received, ORIGINS[job.origin], stateOf(job), job.num_nodules ?? ""];
  const last = cell("td", "");
  last.append(link);
  return row([...texts.map((text) => cell("td", text)), last]);
}
