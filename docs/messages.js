// A message that is pasted into the search has values in it, such as names of files. The search wants every word: the
// pasted text is replaced by the words of the message that the reference lists.
(() => {
  const list = new URL("reference/errors/messages.js", document.currentScript.src);
  let loaded;

  function load() {
    loaded ??= new Promise((resolve, reject) => {
      // A script: pages from a folder must not fetch.
      const script = document.createElement("script");
      script.src = list;
      script.onload = () => resolve(window.lunaMessages);
      script.onerror = reject;
      document.head.append(script);
    });
    return loaded;
  }

  // The constant parts of a listed message that the text holds in this order, up to the first that is missing.
  function commonParts(message, text) {
    let end = 0;
    const parts = message.split("…").map((part) => part.trim());
    const missing = parts.findIndex((part) => {
      const start = text.indexOf(part, end);
      end = start + part.length;
      return start < 0;
    });
    return parts.slice(0, missing < 0 ? parts.length : missing).join(" ").trim();
  }

  // The words that the text has in common with the listed message that is most like it.
  function wordsOf(text, messages) {
    const common = messages.map((message) => commonParts(message, text)).sort((a, b) => b.length - a.length)[0];
    return common?.length > 12 ? common : text;
  }

  document.addEventListener("paste", async (event) => {
    const input = event.composedPath()[0];
    const text = event.clipboardData.getData("text").replace(/\s+/g, " ").trim();
    if (input.tagName !== "INPUT" || text.split(" ").length < 5) return;
    event.preventDefault();
    const messages = await load().catch(() => []);
    input.value = wordsOf(text, messages);
    input.dispatchEvent(new InputEvent("input", { bubbles: true, composed: true }));
  }, true);
})();
