// What logins prove after a password was changed: that the new one works, and that the old one doesn't. A server that
// is busy, limited or silent proves nothing, so it is asked again a few times, and then the answer stays open.
import { setTimeout as sleep } from "node:timers/promises";
import { imapLogin, type Login, smtpLogin, type Verdict } from "./mail-login.ts";
import type { OldProof } from "./records.ts";

/** Milliseconds before the second try and the third. */
const PAUSES_MS = [500, 2_000];

/**
 * Logs in over SMTP AUTH and IMAP at once. `accepted` only if both accept; `refused` as soon as one refuses;
 * `limited` where the server lets nobody in for now.
 */
export async function proveAccepted(login: Login): Promise<Verdict> {
  return asked(async () => {
    const verdicts = await Promise.all([smtpLogin(login), imapLogin(login)]);
    const open = verdicts.filter((verdict) => verdict.result !== "accepted");
    if (open.length === 0) return { result: "accepted" };
    const result = (["refused", "limited", "inconclusive"] as const).find((one) =>
      open.some((verdict) => verdict.result === one),
    );
    return { result: result ?? "inconclusive", said: open.map(({ said }) => said).join("; ") };
  });
}

/** Tries the old password over SMTP AUTH. Nothing but 535 proves it dead. */
export async function proveRefused(login: Login): Promise<{ proof: OldProof; said: string }> {
  const verdict = await asked(() => smtpLogin(login));
  if (verdict.result === "accepted") return { proof: "accepted", said: "SMTP: the old password logs in" };
  return { proof: verdict.result === "refused" ? "refused" : "inconclusive", said: verdict.said };
}

/** Asks until an answer is clear, at most three times. A limit lasts for hours: it isn't worth a third try. */
async function asked(attempt: () => Promise<Verdict>): Promise<Verdict> {
  let verdict = await attempt();
  for (const pause of PAUSES_MS) {
    if (verdict.result === "accepted" || verdict.result === "refused") break;
    const wasLimited = verdict.result === "limited";
    await sleep(pause);
    verdict = await attempt();
    if (wasLimited && verdict.result === "limited") break;
  }
  return verdict;
}
