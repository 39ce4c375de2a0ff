// A token that the console got for a person lives an hour, an incident may take longer: it is renewed while that person
// is at work, as far as its role allows. One that was pasted in is the person's own to renew.
import { z } from "zod";
import type { Vault } from "../lib/vault.ts";

export class Renewal {
  readonly #vault: Vault;
  #due = 0;

  /** @param seconds for which the token lives; 0: for ever. */
  constructor(vault: Vault, seconds: number) {
    this.#vault = vault;
    this.#wait(seconds);
  }

  /** Renews it if half of its time is over. What Vault refuses shows at the next page; never throws. */
  async ifDue(): Promise<void> {
    if (performance.now() < this.#due) return;
    this.#due = Number.POSITIVE_INFINITY;
    const renewed = await this.#vault.write("auth/token/renew-self", {}, Renewed).catch(() => undefined);
    if (renewed !== undefined) this.#wait(renewed.auth.lease_duration);
  }

  #wait(seconds: number): void {
    this.#due = seconds === 0 ? Number.POSITIVE_INFINITY : performance.now() + seconds * 500;
  }
}

const Renewed = z.object({ auth: z.object({ lease_duration: z.number() }) });
