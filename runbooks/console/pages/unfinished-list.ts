// What isn't finished, of all tenants: their rotation records are read once, quickly, then one after the other.
import { html } from "hono/html";
import type { TenantId } from "../../../stacks/names.ts";
import { messageOf } from "../../lib/errors.ts";
import { readRotation } from "../../lib/rotation-begin.ts";
import { isAtWork, isSilent, isUnfinished, resumeCommand, type Unfinished } from "../../lib/unfinished.ts";
import type { Vault } from "../../lib/vault.ts";
import type { Console } from "../context.ts";
import { type Html, problem } from "../layout.ts";
import type { Session } from "../sessions.ts";
import { goOnForm, isUnseen } from "../start-pages.ts";
import { anchor } from "./events.ts";
import { when } from "./moment.ts";
import { Rolling } from "./rolling.ts";
import { underWay } from "./under-way.ts";
import { badge, command } from "./words.ts";

/** Milliseconds in which changes are told together. */
const TOGETHER_MS = 300;

const KNOWN = new WeakMap<Session, Rolling<TenantId, Seen>>();
/** What a tenant's rotation record says: nothing left to do, something, or it can't be read. */
type Seen = { left?: Unfinished; problem?: string };

function rotationsOf(session: Session): Rolling<TenantId, Seen> {
  const known =
    KNOWN.get(session) ??
    new Rolling<TenantId, Seen>({
      read: async (tenant) => ({ value: await readLeft(session.vault, tenant), reads: 2 }),
    });
  KNOWN.set(session, known);
  return known;
}

async function readLeft(vault: Vault, tenant: TenantId): Promise<Seen> {
  try {
    const rotation = (await readRotation(vault, tenant)).stored?.data;
    const isLeft = rotation !== undefined && (isUnfinished(rotation) || isUnseen(rotation));
    return isLeft ? { left: { tenant, rotation } } : {};
  } catch (error) {
    return { problem: messageOf(error) };
  }
}

/** Tells of all that is unfinished, for as long as somebody looks. Returns what ends it. */
export function watchUnfinished(
  { runs }: Console,
  session: Session,
  tenants: readonly TenantId[],
  tell: (part: () => Html) => void,
): () => void {
  const rotations = rotationsOf(session);
  let timer: NodeJS.Timeout | undefined;
  const soon = (): void => {
    timer ??= setTimeout(() => {
      timer = undefined;
      tell(() => html`${underWay(runs)}${leftList(session, tenants, rotations)}`);
    }, TOGETHER_MS);
  };
  const stop = rotations.watch(tenants, soon);
  soon();
  return () => {
    clearTimeout(timer);
    stop();
  };
}

function leftList(session: Session, tenants: readonly TenantId[], rotations: Rolling<TenantId, Seen>): Html {
  const known = tenants.flatMap((tenant) => rotations.known(tenant)?.value ?? []);
  const left = known.flatMap((one) => one.left ?? []);
  const problems = new Set(known.flatMap((one) => one.problem ?? []));
  const whole = known.length === tenants.length;
  return html`${[...problems].map((why) => problem(why, undefined))}
${left.length === 0 ? "" : html`<ul class="left">${left.map((one) => leftItem(session, one))}</ul>`}
<p class="count${whole ? "" : " waiting"}" role="status">${
    whole
      ? left.length === 0
        ? html`${badge("good", "Nothing")} is left to do for any of ${tenants.length} tenants.`
        : `${left.length} of ${tenants.length} tenants have a reset that isn't finished.`
      : `Looked at ${known.length} of ${tenants.length} tenants…`
  }</p>`;
}

function leftItem(session: Session, one: Unfinished): Html {
  const { kind, incident_id, state, started, actor, holder, reason } = one.rotation;
  const held = isAtWork(one.rotation) || !isSilent(one.rotation);
  return html`<li class="card card-warn">
<p class="card-head"><a href="/tenants/${one.tenant}">${one.tenant}</a>: ${kind}${incident_id === null ? "" : html` for <a href="#${anchor(incident_id)}">${incident_id}</a>`},
${
  isUnfinished(one.rotation)
    ? html`${held ? "under way" : "left"} in state ${badge("warn", state)}`
    : html`done, but ${badge("warn", "the new password was never shown")}`
}</p>
<p class="event-who">begun ${when(started)} by ${holder?.user ?? actor}</p>
<p class="event-why">${reason}</p>
${held ? html`<p>A living run is at it. If it isn't:</p>` : ""}
<div class="actions">${goOnForm(session, one.tenant)} ${isUnfinished(one.rotation) ? command(resumeCommand(one)) : ""}</div>
</li>
`;
}
