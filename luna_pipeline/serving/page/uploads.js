// Upload of a CT: by drop, or by the two buttons.

import { Refused, upload } from "./api.js";
import { droppedFiles, isWanted } from "./drop.js";
import { element, show, showText } from "./elements.js";
import { plural } from "./findings.js";

let isUploading = false;

/** Connect the upload's part of the page; `onAccepted` is called with the diagnosis. */
export function connectUploads(onAccepted) {
  const drop = element("drop");
  const start = (files) => uploadFiles(files, onAccepted);
  element("choose-files").onclick = () => element("files").click();
  element("choose-folder").onclick = () => element("folder").click();
  for (const input of [element("files"), element("folder")])
    input.onchange = () => {
      const files = [...input.files].filter(isWanted);
      // The same files can be chosen again.
      input.value = "";
      start(files);
    };
  // The whole page takes a drop: beside the field, a browser would leave the page and open the file.
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) drop.classList.remove("over");
  });
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    try {
      start(await droppedFiles(event.dataTransfer));
    } catch (error) {
      showText("upload-problem", textOf(error));
    }
  });
}

async function uploadFiles(files, onAccepted) {
  if (isUploading) return showText("upload-problem", "One CT is uploaded at a time, got another. Wait until the first is uploaded.");
  if (files.length === 0) return showText("upload-problem", "A CT must have files, got none. Drop a folder, a zip file or a volume.");
  isUploading = true;
  showText("upload-problem", "");
  show("uploading", true);
  const aborter = new AbortController();
  element("cancel").onclick = () => aborter.abort();
  showProgress(0, 0, files.length);
  try {
    const onProgress = (done, total) => showProgress(done, total, files.length);
    onAccepted(await upload(files, { onProgress, signal: aborter.signal }));
  } catch (error) {
    if (error.name !== "AbortError") showText("upload-problem", textOf(error));
  } finally {
    isUploading = false;
    show("uploading", false);
  }
}

function textOf(error) {
  return error instanceof Refused ? error.message : `The files must be readable, got ${error.name}. Choose them again.`;
}

function showProgress(done, total, numFiles) {
  const bar = element("upload-bar");
  if (total === 0) bar.value = 0;
  // Between the last byte and the answer the service unpacks and checks.
  else if (done === total) bar.removeAttribute("value");
  else bar.value = done / total;
  const megabytes = (bytes) => (bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0);
  const text = done === total && total > 0 ? "the service checks the files" : `${megabytes(done)} of ${megabytes(total)} MB`;
  element("upload-text").textContent = `${plural(numFiles, "file")}, ${text}`;
}
