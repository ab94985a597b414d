// The server, as any client sees it: JSON in, JSON or a stream of events out. A key is asked for when it is wanted.

const KEY = "puna.key";

export class Refused extends Error {}

/** The answer to a request; Refused, with the server's reason, when there is none. */
export async function ask(path, { body, signal } = {}) {
  for (;;) {
    const headers = {};
    const key = sessionStorage.getItem(KEY);
    if (key) headers.Authorization = `Bearer ${key}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    let reply;
    try {
      reply = await fetch(path, {
        method: body === undefined ? "GET" : "POST", headers, signal, body: body === undefined ? undefined : JSON.stringify(body),
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refused("The server does not answer. Is it still running?");
    }
    if (reply.ok) return reply;
    if (reply.status === 401) {
      await keyFromUser(key !== null);
      continue;
    }
    throw new Refused(await reason(reply));
  }
}

/** What a stream of server-sent events brings, object by object. Refused when the server ends it with an error. */
export async function* events(path, body, signal) {
  const reply = await ask(path, { body, signal });
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) throw new Refused("The connection ended before the text did.");
      const parts = (held + value).split("\n\n");
      held = parts.pop();
      for (const part of parts) {
        const data = part.replace(/^data: /, "");
        if (data === "[DONE]") return;
        const event = JSON.parse(data);
        if (event.error) throw new Refused(event.error.message);
        yield event;
      }
    }
  } catch (error) {
    if (error.name === "AbortError" || error instanceof Refused) throw error;
    throw new Refused("The connection was lost.");
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function reason(reply) {
  try {
    return (await reply.json()).error.message;
  } catch {
    return `The server answered ${reply.status}.`;
  }
}

let asking = null;

/** Shows the dialog once, however many requests wait for it. */
function keyFromUser(wrong) {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById("key-dialog");
    const field = document.getElementById("key");
    dialog.addEventListener("close", () => {
      sessionStorage.setItem(KEY, field.value.trim());
      field.value = "";
      asking = null;
      resolve();
    }, { once: true });
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    document.getElementById("key-wrong").hidden = !wrong;
    dialog.showModal();
  });
  return asking;
}
