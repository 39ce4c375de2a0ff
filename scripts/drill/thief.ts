// Whoever got hold of a tenant's password, and what he does with it before anybody knows: he stays connected to the
// mailbox, and makes himself an app token, which a new password alone doesn't end.

import { setTimeout as sleep } from "node:timers/promises";
import { ImapFlow } from "imapflow";
import { z } from "zod";
import { adminAddress, IMAP_PORT } from "../../stacks/names.ts";
import type { LabTenant } from "../lab/tenants.ts";
import { acceptedBy, askMailu, prove, tls } from "./doors.ts";
import type { Snapshot } from "./snapshot.ts";

/** Milliseconds for a connection that was ended to be seen as ended. */
const CUT_MS = 2_000;

const MadeToken = z.object({ token: z.string().length(32) });

export class Thief {
  /** What he called his app token; the tenant must be told of it. */
  static readonly TOKEN_NAME = "phone of the holidays";
  readonly #tenant: LabTenant;
  readonly #address: string;
  readonly #password: string;
  readonly #token: string;
  readonly #mailbox: ImapFlow;

  private constructor(tenant: LabTenant, stolen: Snapshot, token: string, mailbox: ImapFlow) {
    this.#tenant = tenant;
    this.#address = stolen.address;
    this.#password = stolen.password;
    this.#token = token;
    this.#mailbox = mailbox;
  }

  /** Throws unless all of it works, since nothing that failed before could be proven dead afterwards. */
  static async breakIn(tenant: LabTenant, stolen: Snapshot): Promise<Thief> {
    const { address, password, apiToken } = stolen;
    // A person clicks it in Mailu's web page; the API makes the same one.
    const email = adminAddress(tenant.domain);
    const asked = { email, comment: Thief.TOKEN_NAME, AuthorizedIP: [] };
    const made = await askMailu(address, tenant, apiToken, "POST", "token", asked);
    prove(made.status === 200, `Mailu answers ${made.status} to a new app token`);
    const { token } = MadeToken.parse(JSON.parse(made.body));
    for (const secret of [password, token]) {
      const where = (await acceptedBy(address, tenant, secret)).join(" and ");
      prove(
        where === "SMTP and IMAP",
        `${tenant.id}: before the response only ${where || "nothing"} lets him in`,
      );
    }
    const mailbox = new ImapFlow({
      host: address,
      port: IMAP_PORT,
      secure: true,
      auth: { user: email, pass: password },
      tls: tls(tenant),
      logger: false,
    });
    mailbox.on("error", () => {});
    await mailbox.connect();
    await mailbox.mailboxOpen("INBOX");
    return new Thief(tenant, stolen, token, mailbox);
  }

  /** Throws if any of what he had still works. */
  async requireShutOut(): Promise<void> {
    const t = this.#tenant.id;
    const password = await acceptedBy(this.#address, this.#tenant, this.#password);
    prove(password.length === 0, `${t}: the leaked password still logs in over ${password.join(" and ")}`);
    const token = await acceptedBy(this.#address, this.#tenant, this.#token);
    prove(token.length === 0, `${t}: the thief's app token still logs in over ${token.join(" and ")}`);
    const end = performance.now() + CUT_MS;
    while (this.#mailbox.usable && performance.now() < end) await sleep(10);
    prove(!this.#mailbox.usable, `${t}: the thief's IMAP connection is still open`);
  }

  leave(): void {
    this.#mailbox.close();
  }
}
