// Mailu's REST API as it behaves (core/admin/mailu/api): what it answers, and what it accepts without effect.
import { timingSafeEqual } from "node:crypto";
import type { Answer, Calls, Mailu, Payload } from "./api-call.ts";
import { domainCalls } from "./domain-calls.ts";
import { tokenCalls } from "./token-calls.ts";
import { userCalls } from "./user-calls.ts";

const CALLS: Calls = { ...domainCalls, ...userCalls, ...tokenCalls };

/** Answers one call. `path` is what follows /api/v1, decoded; `body` the request's text. Throws like a full disk. */
export async function answerCall(
  mailu: Mailu,
  method: string,
  path: string,
  authorization: string | undefined,
  body: string,
  ip: string,
): Promise<Answer> {
  const denied = refusal(mailu, authorization, ip);
  if (denied !== undefined) return denied;
  const [collection = "", name, part, item] = path.split("/").slice(1);
  const form = [
    name === undefined ? "" : "/",
    part === undefined ? "" : `/${part}`,
    item === undefined ? "" : "/",
  ];
  const handler = CALLS[`${method} ${collection}${form.join("")}`];
  if (handler === undefined) return { status: 404, body: { message: NOT_FOUND } };
  if (method === "GET" || method === "DELETE" || part === "dkim")
    return handler(mailu, name ?? "", {}, item ?? "");
  const payload = parse(body);
  if (payload === undefined) return { status: 400, body: { message: BAD_REQUEST } };
  return handler(mailu, name ?? "", payload, item ?? "");
}

const NOT_FOUND =
  "The requested URL was not found on the server. If you entered the URL manually please check your spelling and try again.";
const BAD_REQUEST = "The browser (or proxy) sent a request that this server could not understand.";

/** The limit comes before the token, so after five wrong ones the right one is refused as well. */
function refusal(
  { settings, limiter }: Mailu,
  authorization: string | undefined,
  ip: string,
): Answer | undefined {
  const say = (status: number, message: string): Answer => ({ status, body: { message } });
  if (limiter.ipLimited(ip)) return say(429, "Too many attempts from your IP (rate-limit)");
  if (!authorization) return say(401, "A valid Authorization header is mandatory");
  const token = Buffer.from(settings("API_TOKEN"));
  const given = Buffer.from(authorization.replace(/^Bearer /, ""));
  if (token.length >= 4 && given.length === token.length && timingSafeEqual(given, token)) return undefined;
  limiter.countIp(ip);
  return say(403, "Invalid API token");
}

function parse(body: string): Payload | undefined {
  try {
    const value: unknown = JSON.parse(body);
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Payload)
      : undefined;
  } catch {
    return undefined;
  }
}
