// Vault's HTTP API for the provider: the address and token of the provider's configuration, else of the
// environment, as the official one has it.
import { text } from "../protocol/props.ts";
import type { Context } from "../protocol/resource.ts";
import { isObject, type Props } from "../protocol/values.ts";

/** GET; the answer's `data` (or the whole answer where there is none), undefined if there is nothing (404). */
export async function get(context: Context, path: string): Promise<Props | undefined> {
  const answer = await request(context, "GET", path);
  return answer && (isObject(answer.data) ? answer.data : answer);
}

/** POST; the answer's `data`, empty if it has none. */
export async function post(context: Context, path: string, body: Props): Promise<Props> {
  const answer = await request(context, "POST", path, body);
  if (answer === undefined) throw new Error(`Vault has nothing at ${path} (404)`);
  return isObject(answer.data) ? answer.data : {};
}

/** DELETE; what is gone already is fine. */
export async function remove(context: Context, path: string): Promise<void> {
  await request(context, "DELETE", path);
}

async function request(
  context: Context,
  method: string,
  path: string,
  body?: Props,
): Promise<Props | undefined> {
  const address = text(context.config, "address") ?? process.env.VAULT_ADDR;
  const token = text(context.config, "token") ?? process.env.VAULT_TOKEN;
  const namespace = text(context.config, "namespace") ?? process.env.VAULT_NAMESPACE;
  if (!address) throw new Error("no Vault to talk to: set VAULT_ADDR");
  if (!token) throw new Error("no Vault token: set VAULT_TOKEN");
  const response = await fetch(new URL(`/v1/${path}`, address), {
    method,
    headers: {
      "X-Vault-Request": "true",
      "X-Vault-Token": token,
      ...(namespace ? { "X-Vault-Namespace": namespace } : {}),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    signal: context.signal,
  }).catch((error: Error) => {
    throw new Error(`Vault at ${address} can't be reached: ${causeOf(error)}`, { cause: error });
  });
  const answer = parsed(await response.text());
  if (response.ok) return answer;
  const errors = Array.isArray(answer.errors) ? answer.errors.map(oneLine) : [];
  // Vault says 404 with no errors for what isn't there, and with errors for what can't be there.
  if (response.status === 404 && errors.length === 0) return undefined;
  throw new VaultError(
    response.status,
    `Vault refused ${method} ${path} (${response.status}): ${errors.join("; ")}`,
  );
}

/** An answer that is neither success nor "nothing there". */
export class VaultError extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

function parsed(body: string): Props {
  if (body === "") return {};
  try {
    const answer: unknown = JSON.parse(body);
    return isObject(answer) ? answer : {};
  } catch {
    return { errors: [body] };
  }
}

const causeOf = (error: Error): string =>
  error.cause instanceof Error ? error.cause.message : error.message;

const oneLine = (error: unknown): string => String(error).replace(/\s+/g, " ").trim();
