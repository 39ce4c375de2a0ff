// The API's calls for users (core/admin/mailu/api/v1/user.py). A user is shown with the hash of the password.
import { hashPassword, newUser } from "./accounts.ts";
import {
  type Calls,
  invalid,
  isEmail,
  noDomain,
  notAnEmail,
  noUser,
  type Payload,
  say,
  withoutNulls,
} from "./api-call.ts";
import { fieldErrors, known, USER_FIELDS } from "./fields.ts";
import type { User } from "./store.ts";

export const userCalls: Calls = {
  "GET user": ({ store }) => ({ status: 200, body: Object.values(store.db.users).map(withoutNulls) }),
  "POST user": async ({ store }, _, data) => {
    const errors = fieldErrors(data, USER_FIELDS, ["email", "raw_password"]);
    if (errors !== undefined) return invalid(errors);
    if (!isEmail(data.email)) return notAnEmail(data.email);
    const email = data.email.toLowerCase();
    const domain = email.slice(email.lastIndexOf("@") + 1);
    if (store.db.domains[domain] === undefined) return noDomain(domain);
    if (store.db.users[email] !== undefined) return say(409, `User ${email} already exists`);
    const password = await hashPassword(String(data.raw_password));
    store.update((db) => {
      db.users[email] = { ...newUser(email), ...userChanges(data), password };
    });
    return say(200, `User ${email} has been created`);
  },
  "GET user/": ({ store }, email) => {
    if (!isEmail(email)) return notAnEmail(email);
    const user = store.db.users[email.toLowerCase()];
    return user === undefined ? noUser(email) : { status: 200, body: user };
  },
  "PATCH user/": async ({ store, accounts }, email, data) => {
    const errors = fieldErrors(data, USER_FIELDS, []);
    if (errors !== undefined) return invalid(errors);
    if (!isEmail(email)) return notAnEmail(email);
    const id = email.toLowerCase();
    if (store.db.users[id] === undefined) return noUser(email);
    const password =
      data.raw_password === undefined ? {} : { password: await hashPassword(String(data.raw_password)) };
    store.update((db) => {
      db.users[id] = { ...(db.users[id] ?? newUser(id)), ...userChanges(data), ...password };
    });
    if (data.raw_password !== undefined) accounts.endSessions(id);
    return say(200, `User ${email} has been updated`);
  },
  "DELETE user/": ({ store, accounts }, email) => {
    const id = email.toLowerCase();
    if (store.db.users[id] === undefined) return noUser(email);
    store.update((db) => {
      delete db.users[id];
      db.tokens = db.tokens.filter((token) => token.email !== id);
      db.fetches = db.fetches.filter((fetch) => fetch.user_email !== id);
      db.managers = db.managers.filter((manager) => manager.email !== id);
    });
    accounts.endSessions(id);
    return say(200, `User ${email} has been deleted`);
  },
};

const userChanges = (data: Payload): Partial<User> => {
  const { email: _, raw_password: __, ...changes } = known(data, USER_FIELDS);
  return changes;
};
