// Ways into an account, or out of it, that outlive its password: what Mailu's API knows of. App tokens that nobody
// vouched for are deleted; what may be somebody's honest setting is reported, since only people can tell.
import { z } from "zod";
import { adminAddress } from "../../stacks/names.ts";
import { messageOf } from "./errors.ts";
import type { Mailu } from "./mailu.ts";
import type { Findings } from "./records.ts";

/** An app password as Mailu lists it. */
type AppToken = Findings["tokens_deleted"][number];

/** Looks at the administrator's tokens and forwards, at other administrators and at others' forwards out of the domain. */
export async function findOpenDoors(
  mailu: Mailu,
  domain: string,
  sanctioned: readonly string[],
): Promise<{ tokens: AppToken[]; reported: string[]; unknown: string[] }> {
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
    reported: [...forwards(users, admin, domain), ...administrators(users, admin)],
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

/** Names listed one by one before the rest is only counted. */
const NAMED = 10;

function forwards(users: readonly User[], admin: string, domain: string): string[] {
  const active = users.filter((user) => user.forward_enabled && user.forward_destination?.length);
  const own = active.find(({ email }) => email === admin);
  const outside = active.filter(
    ({ email, forward_destination }) =>
      email !== admin && forward_destination?.some((to) => !to.toLowerCase().endsWith(`@${domain}`)),
  );
  const shown = (user: User): string => `${user.email} to ${user.forward_destination?.join(", ")}`;
  const rest = outside.length > NAMED ? ` and ${outside.length - NAMED} more` : "";
  return [
    ...(own === undefined ? [] : [`the administrator's mail is forwarded: ${shown(own)}`]),
    ...(outside.length === 0
      ? []
      : [`mail is forwarded out of ${domain}: ${outside.slice(0, NAMED).map(shown).join("; ")}${rest}`]),
  ];
}

function administrators(users: readonly User[], admin: string): string[] {
  return users
    .filter((user) => user.global_admin && user.enabled && user.email !== admin)
    .map(({ email }) => `${email} is an administrator of this Mailu too`);
}
