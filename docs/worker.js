// Browsers start no worker for a page that is opened from a folder (file:), and the search runs in a worker.
// This class does the same work in a hidden frame of the page. It replaces Worker for such pages only.
class FrameWorker extends EventTarget {
  constructor(url) {
    super();
    const frame = document.createElement("iframe");
    frame.hidden = true;
    document.body.appendChild(frame);
    this.frame = frame.contentWindow;
    this.frame.postMessage = (data) => this.answer(data);
    this.frame.importScripts = (...urls) => Promise.all(urls.map((each) => this.load(each)));
    this.loaded = this.load(url);
  }

  load(url) {
    return new Promise((resolve, reject) => {
      const script = this.frame.document.createElement("script");
      script.src = url;
      script.onload = resolve;
      script.onerror = reject;
      this.frame.document.head.appendChild(script);
    });
  }

  answer(data) {
    const event = new MessageEvent("message", { data: structuredClone(data) });
    this.dispatchEvent(event);
    this.onmessage?.(event);
  }

  postMessage(data) {
    const copy = structuredClone(data);
    this.loaded.then(() => this.frame.dispatchEvent(new MessageEvent("message", { data: copy })));
  }

  terminate() {
    this.frame.frameElement.remove();
  }
}

if (location.protocol === "file:") window.Worker = FrameWorker;
