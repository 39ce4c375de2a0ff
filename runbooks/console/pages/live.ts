// A stream of a page's changes, for as long as the page is open and the person is signed in.
import type { Context } from "hono";
import { html } from "hono/html";
import { streamSSE } from "hono/streaming";
import type { Env } from "../context.ts";
import { fragment, type Html } from "../layout.ts";

/** Milliseconds between two signs of life: what stands between may end a stream that is silent. */
const ALIVE_MS = 20_000;

/** `begin` gets what sends a part of the page, and returns what is to be called when nobody looks any more. */
export function live(
  c: Context<Env>,
  begin: (send: (event: string, part: () => Html) => void) => () => void,
): Response {
  const { ended } = c.get("session");
  return streamSSE(c, async (stream) => {
    const closed = Promise.withResolvers<void>();
    const close = () => closed.resolve();
    stream.onAbort(close);
    ended.addEventListener("abort", close, { once: true });
    // What can't be made or sent ends this stream and nothing else: people's runs are in this process.
    const send = (event: string, part: () => Html): void => {
      void (async () => stream.writeSSE({ event, data: await fragment(part()) }))().catch(close);
    };
    const stop = begin(send);
    const alive = setInterval(() => send("alive", () => html``), ALIVE_MS);
    if (!ended.aborted) await closed.promise;
    clearInterval(alive);
    ended.removeEventListener("abort", close);
    stop();
  });
}
