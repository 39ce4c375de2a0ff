// The API's calls for app tokens (core/admin/mailu/api/v1/token.py): shown once, untouched by password changes.
import { randomBytes } from "node:crypto";
import { hashPassword } from "./accounts.ts";
import {
  type Answer,
  type Calls,
  invalid,
  isEmail,
  type Mailu,
  noToken,
  notAnEmail,
  noUser,
  type Payload,
  say,
} from "./api-call.ts";
import { fieldErrors, TOKEN_FIELDS } from "./fields.ts";
import type { Token } from "./store.ts";

export const tokenCalls: Calls = {
  "GET token": ({ store }) => ({
    status: 200,
    body: store.db.tokens.map((token) => ({ ...shown(token), id: String(token.id) })),
  }),
  "POST token": (mailu, _, data) => {
    const errors = fieldErrors(data, TOKEN_FIELDS, ["email"]);
    return errors === undefined ? newToken(mailu, data.email, data) : invalid(errors);
  },
  "GET token/": ({ store }, id) => {
    const token = store.db.tokens.find((one) => String(one.id) === id);
    return token === undefined ? noToken(id) : { status: 200, body: shown(token) };
  },
  "DELETE token/": ({ store }, id) => {
    if (!store.db.tokens.some((token) => String(token.id) === id)) return noToken(id);
    store.update((db) => {
      db.tokens = db.tokens.filter((token) => String(token.id) !== id);
    });
    return say(200, `Token with id ${id} has been deleted`);
  },
  "GET tokenuser/": ({ store }, email) => {
    if (!isEmail(email)) return notAnEmail(email);
    if (store.db.users[email.toLowerCase()] === undefined) return noUser(email);
    return {
      status: 200,
      body: store.db.tokens.filter((token) => token.email === email.toLowerCase()).map(shown),
    };
  },
  "POST tokenuser/": (mailu, email, data) => {
    const errors = fieldErrors(data, TOKEN_FIELDS, []);
    return errors === undefined ? newToken(mailu, email, data) : invalid(errors);
  },
};

async function newToken({ store }: Mailu, email: unknown, data: Payload): Promise<Answer> {
  if (!isEmail(email)) return notAnEmail(email);
  const id = email.toLowerCase();
  if (store.db.users[id] === undefined) return noUser(email);
  const ip = (data.AuthorizedIP as string[] | undefined) ?? [];
  const bad = ip.find((one) => !/^[0-9a-f.:]+(\/\d+)?$/i.test(one));
  if (bad !== undefined) return say(400, `Provided AuthorizedIP ${bad} in ${JSON.stringify(ip)} is invalid`);
  const secret = randomBytes(16).toString("hex");
  const hash = await hashPassword(secret);
  const token = store.update((db) => {
    const created = new Date().toISOString().slice(0, 10);
    const made: Token = {
      id: db.nextToken++,
      email: id,
      hash,
      comment: (data.comment as string) ?? null,
      ip,
      created,
    };
    db.tokens.push(made);
    return made;
  });
  const { "Last edit": _, ...rest } = shown(token);
  return { status: 200, body: { ...rest, token: secret } };
}

const shown = ({ id, email, comment, ip, created }: Token) => ({
  id,
  email,
  comment,
  AuthorizedIP: ip,
  Created: created,
  "Last edit": "None",
});
