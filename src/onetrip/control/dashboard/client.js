// The page's only way to the node: the admin API, same origin, with the token kept for this tab.

const KEY = "onetrip-token";
const TIMEOUT = 8000;

/** A refused call; `status` is 0 when the node did not answer. */
export class CallError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export const keepToken = (token) => sessionStorage.setItem(KEY, token);
export const hasToken = () => sessionStorage.getItem(KEY) !== null;
export const dropToken = () => sessionStorage.removeItem(KEY);

function headersFor(more) {
  const token = sessionStorage.getItem(KEY);
  return token === null ? more : { ...more, Authorization: `Bearer ${token}` };
}

async function ask(path, options) {
  try {
    return await fetch(path, { cache: "no-store", credentials: "omit", ...options });
  } catch {
    throw new CallError("the node does not answer", 0);
  }
}

async function call(method, path, body, more = {}) {
  const headers = headersFor({ Accept: "application/json", ...more });
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const response = await ask(path, {
    method,
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: AbortSignal.timeout(TIMEOUT),
  });
  let reply = null;
  try {
    reply = await response.json();
  } catch {
    throw new CallError(`the node answered ${response.status} without JSON`, response.status);
  }
  if (!response.ok) throw refusal(response, reply);
  return reply;
}

const refusal = (response, reply) => new CallError(reply?.detail || `refused with ${response.status}`, response.status);

export const get = (path) => call("GET", path);

/** Change something, once: a repeated send would carry the same key. */
export function change(method, path, body, more = {}) {
  const key = [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");
  return call(method, path, body, { "Idempotency-Key": key, ...more });
}

/** Change a project's placement; `etag` makes a change of what was not seen impossible. */
export const changePlacement = (name, placement, etag) =>
  change("PATCH", projectPath(name), { placement }, { "If-Match": etag });

export const projectPath = (name, rest = "") => `/v1/projects/${encodeURIComponent(name)}${rest}`;

/** Open the stream of events; gives its text piece by piece. */
export async function openStream(lastId, signal) {
  const more = { Accept: "text/event-stream" };
  if (lastId !== null) more["Last-Event-ID"] = lastId;
  const response = await ask("/v1/stream", { headers: headersFor(more), signal });
  if (!response.ok) throw refusal(response, await response.json().catch(() => null));
  return textOf(response.body);
}

async function* textOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } catch {
    throw new CallError("the stream broke", 0);
  } finally {
    reader.cancel().catch(() => {});
  }
}
