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

async function call(method, path, body, more = {}) {
  const headers = { Accept: "application/json", ...more };
  const token = sessionStorage.getItem(KEY);
  if (token !== null) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      signal: AbortSignal.timeout(TIMEOUT),
    });
  } catch {
    throw new CallError("the node does not answer", 0);
  }
  let reply = null;
  try {
    reply = await response.json();
  } catch {
    throw new CallError(`the node answered ${response.status} without JSON`, response.status);
  }
  if (!response.ok) throw new CallError(reply.detail || `refused with ${response.status}`, response.status);
  return reply;
}

export const get = (path) => call("GET", path);

/** Change a project's placement; `etag` makes a change of what was not seen impossible. */
export const change = (name, placement, etag) =>
  call("PATCH", `/v1/projects/${encodeURIComponent(name)}`, { placement }, { "If-Match": etag });
