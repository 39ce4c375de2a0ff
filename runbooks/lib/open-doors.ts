// Ways into an account, or out of it, that outlive its password: what Mailu's API knows of. App tokens that nobody
// vouched for are deleted; what may be somebody's honest setting is reported, since only people can tell.
import { z } from "zod";
import { adminAddress } from "../../stacks/names.ts";
import { messageOf } from "./errors.ts";
import type { Mailu } from "./mailu.ts";
import type { Findings } from "./records.ts";

/** An app password as Mailu lists it. */
type AppToken = Findings["tokens_deleted"][number];

export interface OpenDoors {
  /** The administrator's app tokens that nobody vouched for. */
  tokens: AppToken[];
  /** Whose mail goes elsewhere: the administrator's own, and everybody's that leaves the domain. */
  forwards: { email: string; to: string[] }[];
  /** Who administers this Mailu besides the tenant's administrator. */
  administrators: string[];
  /** What could not be looked at, and why. */
  unknown: string[];
}

/** Looks at the administrator's tokens and forwards, at other administrators and at others' forwards out of the domain. */
export async function findOpenDoors(
  mailu: Mailu,
  domain: string,
  sanctioned: readonly string[],
): Promise<OpenDoors> {
  const unknown: string[] = [];
  const looked = async <T>(what: string, path: string, schema: z.ZodType<T>): Promise<T | undefined> => {
    try {
      return schema.parse((await mailu.ask("GET", path, undefined, [200])).body);
    } catch (error) {
      const why = error instanceof z.ZodError ? "an answer of an unknown form" : messageOf(error);
      unknown.push(`${what}: ${why}`);
      return undefined;
    }
  };
  const admin = adminAddress(domain);
  // Not asked: the domain's managers, since Mailu 2024.06 answers 500 there (api/v1/domains.py asks a query for them).
  const [tokens = [], users = []] = await Promise.all([
    looked("app tokens", `/tokenuser/${admin}`, z.array(Token)),
    looked("forwards and administrators", "/user", z.array(User)),
  ]);
  return {
    tokens: tokens.filter(({ id }) => !sanctioned.includes(id)),
    forwards: forwards(users, admin, domain),
    administrators: administrators(users, admin),
    unknown,
  };
}

/** Deletes an app token; one that is gone already is fine. */
export async function deleteToken(mailu: Mailu, id: string): Promise<void> {
  await mailu.ask("DELETE", `/token/${encodeURIComponent(id)}`, undefined, [200, 404]);
}

const Token = z
  .object({
    id: z.union([z.string(), z.number()]).transform(String),
    comment: z.string().nullish(),
    Created: z.string().nullish(),
  })
  .transform(({ id, comment, Created }) => ({ id, comment: comment ?? null, created: Created ?? null }));

/** The API shows every password's hash here: nothing but these fields gets any further. */
const User = z.object({
  email: z.string(),
  global_admin: z.boolean().default(false),
  enabled: z.boolean().default(true),
  forward_enabled: z.boolean().default(false),
  forward_destination: z.array(z.string()).nullish(),
});
type User = z.infer<typeof User>;

function forwards(users: readonly User[], admin: string, domain: string): OpenDoors["forwards"] {
  return users.flatMap(({ email, forward_enabled, forward_destination: to }) => {
    if (!forward_enabled || !to?.length) return [];
    const leaves = to.some((one) => !one.toLowerCase().endsWith(`@${domain}`));
    return email === admin || leaves ? [{ email, to }] : [];
  });
}

const administrators = (users: readonly User[], admin: string): string[] =>
  users.filter((user) => user.global_admin && user.enabled && user.email !== admin).map(({ email }) => email);

/** Names listed one by one before the rest is only counted. */
const NAMED = 10;

/** What was found, as sentences for people. */
export function doorsInWords({ forwards, administrators }: OpenDoors, domain: string): string[] {
  const own = forwards.find(({ email }) => email === adminAddress(domain));
  const outside = forwards.filter((one) => one !== own);
  const shown = ({ email, to }: OpenDoors["forwards"][number]): string => `${email} to ${to.join(", ")}`;
  const rest = outside.length > NAMED ? ` and ${outside.length - NAMED} more` : "";
  return [
    ...(own === undefined ? [] : [`the administrator's mail is forwarded: ${shown(own)}`]),
    ...(outside.length === 0
      ? []
      : [`mail is forwarded out of ${domain}: ${outside.slice(0, NAMED).map(shown).join("; ")}${rest}`]),
    ...administrators.map((email) => `${email} is an administrator of this Mailu too`),
  ];
}
