// The server's API as the pages use it: JSON, streams, and the key, which lives as long as the tab.

const KEY = "localllm.key";

export class ApiError extends Error {
  constructor(message, { status = 0, code = null } = {}) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export function rememberKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

export function hasKey() {
  return sessionStorage.getItem(KEY) !== null;
}

function authorization() {
  return hasKey() ? { authorization: `Bearer ${sessionStorage.getItem(KEY)}` } : {};
}

export async function request(path, { method = "GET", body, signal } = {}) {
  const headers = { ...authorization() };
  if (body !== undefined) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers, body, signal });
  } catch (error) {
    throw error.name === "AbortError" ? error : unreachable();
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

export async function models() {
  return (await (await request("v1/models")).json()).data;
}

// Yields the chunks of a chat completion; `onAccept` is called when the model has been loaded and begins to read.
export async function* chat(body, { signal, onAccept }) {
  const asked = { ...body, stream: true, stream_options: { include_usage: true } };
  const response = await request("v1/chat/completions", { method: "POST", body: JSON.stringify(asked), signal });
  onAccept();
  let isDone = false;
  for await (const data of dataLines(response.body)) {
    isDone = data === "[DONE]";
    if (isDone) continue;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(chunk.error.message, { code: chunk.error.code });
    yield chunk;
  }
  if (!isDone) throw new ApiError("The answer broke off. The server may have been stopped.", { code: "broke_off" });
}

// Yields the text after "data:" of each line of a stream of server-sent events.
async function* dataLines(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    while (true) {
      const { value, done } = await read(reader);
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (line.startsWith("data:")) yield line.slice(5).trim();
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function read(reader) {
  try {
    return await reader.read();
  } catch (error) {
    throw error.name === "AbortError" ? error : unreachable();
  }
}

async function refusal(response) {
  let error = {};
  try {
    error = (await response.json()).error ?? {};
  } catch {
    // Not ours: a proxy in between, perhaps. The status has to do.
  }
  const message = error.message ?? `The server answered with status ${response.status}.`;
  return new ApiError(message, { status: response.status, code: error.code });
}

function unreachable() {
  return new ApiError("The server does not answer. Is “localllm serve” still running?", { code: "unreachable" });
}
