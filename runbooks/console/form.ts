// Forms that start something: what each carries besides its own fields, and reading what was typed.
import { randomUUID } from "node:crypto";
import type { Context } from "hono";
import { html } from "hono/html";
import type { Env } from "./context.ts";
import type { Html } from "./layout.ts";
import type { Session } from "./sessions.ts";

/** Proves where a form comes from; sent twice, it is known as the same. */
export const formMarks = (session: Session): Html =>
  html`<input type="hidden" name="csrf" value="${session.csrf}">
<input type="hidden" name="once" value="${randomUUID()}">`;

/** What was typed into the fields of these names; "" for a field that isn't there or is a file. */
export async function typedIn<Name extends string>(
  c: Context<Env>,
  ...names: Name[]
): Promise<Record<Name, string>> {
  const body = await c.req.parseBody();
  const texts = names.map((name) => [name, typeof body[name] === "string" ? body[name] : ""]);
  return Object.fromEntries(texts) as Record<Name, string>;
}

/** All values of a field that a form has many times, such as boxes that were ticked. */
export async function allTypedIn(c: Context<Env>, name: string): Promise<string[]> {
  const value = (await c.req.parseBody({ all: true }))[name];
  return [value].flat().filter((one) => typeof one === "string");
}
