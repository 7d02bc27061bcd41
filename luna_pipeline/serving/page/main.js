// Entry of the page: an upload becomes a diagnosis, whose id is kept in the address's fragment.

import { onTokenNeeded } from "./api.js";
import { askForToken } from "./dialogs.js";
import { element } from "./elements.js";
import { connectJob, openJob } from "./jobs.js";
import { showKept } from "./kept.js";
import { connectUploads } from "./uploads.js";

const EVERY_MS = 10_000;

function openAddressed() {
  const id = /^#([0-9a-f]{32})$/.exec(location.hash)?.[1] ?? null;
  openJob(id, showKept);
  if (id !== null) element("job-title").focus();
}

async function keepListed() {
  const goesOn = await showKept();
  // A list without a token asks for it once only.
  if (goesOn) setTimeout(keepListed, EVERY_MS);
}

onTokenNeeded(askForToken);
connectJob(showKept);
connectUploads((job) => {
  if (location.hash === `#${job.id}`) openAddressed();
  else location.hash = job.id;
  showKept();
});
addEventListener("hashchange", openAddressed);
openAddressed();
keepListed();
