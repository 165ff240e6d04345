// Server-sent events, read from any source of text: `EventSource` cannot send a token.
// Source: https://html.spec.whatwg.org/multipage/server-sent-events.html

const MAX_LINE = 1_000_000; // characters; a status of 10,000 projects has about 1,000

/** Takes text as it comes, in any pieces, and gives whole messages. */
export class EventParser {
  #rest = "";
  #name = "";
  #data = [];
  #id = null;

  /** Take a piece; return the messages that it completes, each {name, data, id}. */
  push(text) {
    this.#rest += text;
    const found = [];
    for (;;) {
      const end = this.#rest.search(/[\r\n]/);
      if (end < 0) break;
      const isReturn = this.#rest[end] === "\r";
      if (isReturn && end === this.#rest.length - 1) break; // its "\n" may be in the next piece
      const length = isReturn && this.#rest[end + 1] === "\n" ? 2 : 1;
      const message = this.#line(this.#rest.slice(0, end));
      this.#rest = this.#rest.slice(end + length);
      if (message) found.push(message);
    }
    if (this.#rest.length > MAX_LINE) throw new RangeError(`line of more than ${MAX_LINE} characters`);
    return found;
  }

  #line(line) {
    if (line === "") return this.#message();
    const colon = line.indexOf(":");
    if (colon === 0) return null;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this.#name = value;
    else if (field === "data") this.#data.push(value);
    else if (field === "id" && !value.includes("\0")) this.#id = value;
    return null;
  }

  #message() {
    const found = this.#data.length ? { name: this.#name || "message", data: this.#data.join("\n"), id: this.#id } : null;
    this.#name = "";
    this.#data = [];
    return found;
  }
}

/**
 * Follows a stream for as long as the page is looked at, and comes back when it ends.
 *
 * `open(lastId, signal)` gives an async iterable of text, or throws an error with a `status`: 0 when
 * nothing answers. `take(message)` gets each message, `tell(state, error)` each of "live", "lost"
 * (comes back soon) and "refused" (asks again after a minute). `sleep(ms)` waits.
 */
export class Follower {
  #parts;
  #run = null;
  #lastId = null;

  constructor(parts) {
    this.#parts = parts;
  }

  get isRunning() {
    return this.#run !== null;
  }

  start() {
    if (this.#run) return;
    this.#run = new AbortController();
    this.#loop(this.#run);
  }

  stop() {
    this.#run?.abort();
    this.#run = null;
  }

  async #loop(run) {
    let wait = RETRY;
    while (!run.signal.aborted) {
      try {
        await this.#read(run, () => { wait = RETRY; });
        if (!run.signal.aborted) this.#parts.tell("lost", null); // it ended in good order
      } catch (error) {
        if (run.signal.aborted) return;
        const isRefused = error.status >= 400;
        this.#parts.tell(isRefused ? "refused" : "lost", error);
        if (isRefused) wait = RETRY_REFUSED;
      }
      await this.#parts.sleep(wait);
      wait = Math.min(wait * 2, RETRY_MOST);
    }
  }

  async #read(run, onLive) {
    const parser = new EventParser();
    const once = new AbortController();
    const stop = () => once.abort();
    run.signal.addEventListener("abort", stop);
    let quiet = setTimeout(stop, SILENCE);
    try {
      const pieces = await this.#parts.open(this.#lastId, once.signal);
      onLive();
      this.#parts.tell("live", null);
      for await (const text of pieces) {
        clearTimeout(quiet);
        quiet = setTimeout(stop, SILENCE);
        for (const message of parser.push(text)) {
          this.#lastId = message.id ?? this.#lastId;
          this.#parts.take(message);
        }
      }
    } finally {
      clearTimeout(quiet);
      run.signal.removeEventListener("abort", stop);
    }
  }
}

const RETRY = 1_000; // ms
const RETRY_MOST = 15_000;
const RETRY_REFUSED = 60_000;
const SILENCE = 40_000; // the node breaks a silence of 15 s
