// Files of a CT that are dropped or chosen.

const IGNORED = /^(\.|Thumbs\.db$|desktop\.ini$|__MACOSX$)/;

/** Return the files of a drop; folders are searched at any depth. */
export async function droppedFiles(transfer) {
  // The list is emptied when the event ends: entries are taken before anything is awaited.
  const entries = [...transfer.items].filter((item) => item.kind === "file").map((item) => item.webkitGetAsEntry?.());
  const plain = [...transfer.files];
  if (!entries.some((entry) => entry?.isDirectory)) return plain.filter(isWanted);
  const found = [];
  for (const entry of entries) if (entry) await collect(entry, found);
  return found;
}

/** Return whether a file may belong to a CT; files of the operating system do not. */
export function isWanted(file) {
  return !IGNORED.test(file.name);
}

async function collect(entry, found) {
  if (IGNORED.test(entry.name)) return;
  if (entry.isFile) {
    found.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    // Browsers return at most 100 entries at a time.
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return;
    for (const inner of some) await collect(inner, found);
  }
}
