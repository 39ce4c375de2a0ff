// Snapshots of Vault as streams, to and fro. The client of everything else holds whole answers in memory, and takes them
// for text.
import type { ClientRequest, IncomingMessage } from "node:http";
import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { messageOf, RunbookError } from "./errors.ts";
import { explain } from "./vault-error.ts";
import { REDIRECTS, requestTo, type VaultAccess } from "./vault-wire.ts";

/** Milliseconds of silence after which a stream counts as cut. */
const SILENCE = 60_000;
/** The same behind a snapshot: Vault installs it before it answers. */
const INSTALLING = 600_000;

/**
 * Asks for a stream; `path` without `/v1/`. @throws RunbookError for whatever Vault refuses with. The stream itself fails
 * with a RunbookError (exit 1) when it breaks off; a stream that merely ends early looks like a whole one.
 */
export async function download(access: VaultAccess, path: string): Promise<Readable> {
  let url = `${access.addr}/v1/${path}`;
  for (let hop = 0; ; hop++) {
    const answer = await answerTo(access, begin(access, "GET", url), "read", path);
    const { statusCode = 0, headers } = answer;
    if (statusCode === 200) return withOwnErrors(access, answer, path);
    if (statusCode !== 307 || headers.location === undefined || hop === REDIRECTS)
      throw await refusal(access, answer, "read", path);
    answer.resume();
    url = new URL(headers.location, url).href;
  }
}

/**
 * Sends a stream to its end. @throws RunbookError for whatever Vault refuses with; the stream's own error when that fails,
 * also where Vault took what it had got until then.
 */
export async function upload(access: VaultAccess, path: string, body: Readable): Promise<void> {
  const request = begin(access, "POST", `${access.addr}/v1/${path}`, INSTALLING);
  let own: Error | undefined;
  let cut: unknown;
  body.once("error", (error) => {
    own ??= error;
  });
  const answered = answerTo(access, request, "write", path);
  // Vault may answer, and close, before it has read everything.
  const sent = pipeline(body, request).catch((error) => {
    cut = error;
  });
  const answer = await answered.catch((error) => {
    throw own ?? error;
  });
  const status = answer.statusCode ?? 0;
  if (status < 200 || status > 299) throw await refusal(access, answer, "write", path);
  answer.resume();
  // It took a snapshot without its last bytes before: what is wrong with it may come out behind them only.
  await sent;
  if (own !== undefined || cut !== undefined) throw own ?? explain(access.addr, cut, "write", path);
}

function begin(access: VaultAccess, method: string, url: string, silence = SILENCE): ClientRequest {
  const request = requestTo(access, method, url, silence);
  request.on("timeout", () => request.destroy(new Error(`Vault was silent for ${silence / 1000} s`)));
  if (method === "GET") request.end();
  return request;
}

function answerTo(
  access: VaultAccess,
  request: ClientRequest,
  verb: string,
  path: string,
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    request.once("response", resolve);
    request.on("error", (error) => reject(explain(access.addr, error, verb, path)));
  });
}

async function refusal(
  access: VaultAccess,
  answer: IncomingMessage,
  verb: string,
  path: string,
): Promise<RunbookError> {
  const said = await text(answer).catch(() => "");
  const message = said.replaceAll(/\s+/g, " ").slice(0, 300) || `HTTP ${answer.statusCode}`;
  return explain(access.addr, { message, response: { statusCode: answer.statusCode ?? 0 } }, verb, path);
}

function withOwnErrors(access: VaultAccess, answer: IncomingMessage, path: string): Readable {
  const chunks = async function* (): AsyncGenerator<Buffer> {
    try {
      yield* answer;
    } catch (cause) {
      const message = `Vault at ${access.addr} broke off its answer to ${path}: ${messageOf(cause)}`;
      throw new RunbookError(message, {
        exit: "failed",
        next: "vault status   # then run this again",
        cause,
      });
    }
  };
  // Otherwise a stream that nobody began to read would keep the connection.
  return Readable.from(chunks(), { objectMode: false }).once("close", () => answer.destroy());
}
