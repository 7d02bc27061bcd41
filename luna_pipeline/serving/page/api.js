// Requests to the service, with the access token that it may require.

const TOKEN = "luna-token";

/** An error of the service: a sentence for people. */
export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** Return whether the same request would be refused again: the service is there, but not for it. */
export function isFinalRefusal(error) {
  return [401, 403, 404].includes(error.status);
}

let askForToken = async () => false;
let asked = null;

/** Set the function that asks for a token; it resolves to the token, or to null. */
export function onTokenNeeded(ask) {
  askForToken = ask;
}

/** Send a request, again after a token was asked for; return the response, or throw Refused. */
export async function request(path, options = {}) {
  for (;;) {
    let response;
    try {
      response = await fetch(path, { ...options, headers: headers() });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refused(0, "The service must answer, got no connection. Check that it runs, then try again.");
    }
    if (response.ok) return response;
    if (response.status !== 401) throw new Refused(response.status, detailOf(response.status, await response.text()));
    await tokenAgain();
  }
}

/**
 * Send files as one upload; return the diagnosis.
 *
 * XMLHttpRequest, because fetch does not report the progress of an upload. Names of files are not sent: they may hold
 * a patient's name.
 */
export async function upload(files, { onProgress, signal }) {
  // Asks for a token before a large upload is sent in vain.
  await request("v1/diagnoses", { signal });
  const form = new FormData();
  files.forEach((file, number) => form.append("files", file, neutralName(file.name, number)));
  signal.throwIfAborted();
  const { status, text } = await send(form, onProgress, signal);
  if (status === 200 || status === 201 || status === 202) return JSON.parse(text);
  throw new Refused(status, detailOf(status, text));
}

/** Save a result as a file of the user; a plain link would not send the token. */
export async function download(path, name) {
  const address = URL.createObjectURL(await (await request(path)).blob());
  const link = Object.assign(document.createElement("a"), { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

function headers() {
  const token = sessionStorage.getItem(TOKEN);
  return token ? { Authorization: `Bearer ${token}` } : {};
}

async function tokenAgain() {
  const wasGiven = sessionStorage.getItem(TOKEN) !== null;
  // Several requests that fail together ask once.
  asked ??= askForToken(wasGiven).finally(() => (asked = null));
  const token = await asked;
  if (!token) throw new Refused(401, "A request must have the token of this service, got none. Reload the page to enter it.");
  sessionStorage.setItem(TOKEN, token);
}

function send(form, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const sender = new XMLHttpRequest();
    sender.open("POST", "v1/diagnoses");
    for (const [name, value] of Object.entries(headers())) sender.setRequestHeader(name, value);
    sender.upload.onprogress = (event) => onProgress(event.loaded, event.total);
    sender.onload = () => resolve({ status: sender.status, text: sender.responseText });
    sender.onerror = () =>
      reject(new Refused(0, "The upload must arrive whole, got a lost connection. Check that the service runs, then try again."));
    sender.onabort = () => reject(new DOMException("The upload was cancelled.", "AbortError"));
    signal.addEventListener("abort", () => sender.abort());
    sender.send(form);
  });
}

// The service leaves out a DICOMDIR, refuses other archives, and looks into files without a suffix.
function neutralName(name, number) {
  if (/^dicomdir$/i.test(name)) return "DICOMDIR";
  const suffix = /\.(zip|mha|mhd|z?raw|nii\.gz|nii|nrrd|nhdr|dcm|tar\.gz|tar|tgz|7z|rar|xz|bz2|zst|jar)$/i.exec(name);
  return `${String(number + 1).padStart(6, "0")}${suffix ? suffix[0].toLowerCase() : ""}`;
}

function detailOf(status, text) {
  try {
    return JSON.parse(text).detail;
  } catch {
    return `The service must answer as described, got status ${status}. Try again later.`;
  }
}
