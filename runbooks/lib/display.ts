// The new credential is handed out once: on a terminal or the console's page, or as a token of Vault's that opens
// once. It stands in no log, no result and no file.
import type { Account } from "./account.ts";
import type { Rotating } from "./rotation.ts";
import type { Run } from "./runbook.ts";
import type { Vault } from "./vault.ts";

/** Seconds for which it is shown, or the token opens. */
const SECONDS = 900;

export interface Display {
  /** `screen`: it was shown. `wrapped`: `wrap_token` opens it. `before`: it was handed out before. `waiting`: nobody could be shown it. */
  readonly displayed: "screen" | "wrapped" | "before" | "waiting";
  readonly wrap_token?: string;
  readonly expires_at?: string;
  /** How to get at it, where it waits. */
  readonly display?: string;
}

/** Shows the credential, or wraps it; counts as handed out only once somebody has it before him. */
export async function display(
  run: Pick<Run<unknown>, "interactive" | "json" | "reveal" | "afterResult" | "check">,
  vault: Vault,
  account: Account,
  rotating: Rotating,
  incident: string,
  wrap: boolean,
): Promise<Display> {
  const { record } = rotating;
  const handedOut = () => rotating.advance(record.state, { displayed: true });
  // A later incident's credential isn't this one's to show.
  if (record.displayed || record.incident_id !== incident) return { displayed: "before" };
  if (!wrap && (!run.interactive || run.json)) {
    return {
      displayed: "waiting",
      display: "the same command on a terminal shows it, with --wrap it is handed on",
    };
  }
  const expires_at = new Date(Date.now() + SECONDS * 1000).toISOString();
  const { username, webmail_url } = account.admin.data;
  const credential = { username, password: await account.decrypt(record.password), webmail_url, expires_at };
  if (wrap) {
    const wrap_token = await vault.wrap(credential, SECONDS);
    run.afterResult(handedOut);
    return { displayed: "wrapped", wrap_token, expires_at };
  }
  await run.reveal({ text: text(credential), fields: credential }, SECONDS, handedOut);
  return { displayed: "screen", expires_at };
}

const text = ({ username, password, webmail_url, expires_at }: Record<string, string>): string => `
  Shown once. Any key wipes it from the screen; so does ${expires_at}.

  username     ${username}
  password     ${password}
  webmail_url  ${webmail_url}
`;
