// The drill's own witness: a sender that would miss a lost message, or lose one itself, proves nothing.
import { afterEach, beforeEach, expect, test } from "vitest";
import { z } from "zod";
import { readRecord } from "../../scripts/drill/doors.ts";
import { Sender } from "../../scripts/drill/sender.ts";
import { tally } from "../../scripts/drill/tally.ts";
import { ACME } from "../../scripts/lab/tenants.ts";
import { adminAddress, MAILU_DATA, tenantPolicy } from "../../stacks/names.ts";
import { awkwardPassword, encrypt, onHost, setInMailu, writeRecord } from "./door.ts";
import { addressOf, lab, vault } from "./lab.ts";

const MAILBOX = `${MAILU_DATA}/mail/${adminAddress(ACME.domain)}`;
let sender: Sender;

beforeEach(async () => {
  const made = await vault("POST", "auth/token/create", {
    policies: [tenantPolicy(ACME.id)],
    no_default_policy: true,
    no_parent: true,
  });
  const { auth } = z.object({ auth: z.object({ client_token: z.string() }) }).parse(made);
  const { vaultAddr } = lab.place;
  const address = await addressOf(ACME.id);
  sender = await Sender.start({ address, tenant: ACME, vaultAddr, token: auth.client_token });
  await sender.accepts(3);
});
afterEach(() => sender.stop());

test("loses nothing while Vault's password is refused, and goes on once Vault has the new one", async () => {
  const password = awkwardPassword();
  const { fields } = await readRecord(lab, ACME, "admin");
  await setInMailu(ACME, password);
  const changed = performance.now();
  // The program with new connections is refused from here on; the kept one goes on.
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  await writeRecord(ACME, "admin", { ...fields, password: await encrypt(ACME, password) });
  await sender.accepts(3);

  const { submitted, retries } = await sender.stop();
  expect(retries).toBeGreaterThan(0);
  const counted = tally(submitted, sender.numbersIn(await headers()), performance.now());
  expect(counted).toMatchObject({ submitted: submitted.length, lost: 0, repeated: 0 });
  expect(counted.longestGap).toBeGreaterThan(1);
  const waiting = submitted.filter(
    ({ began, accepted = 0 }) => began < changed + 1_000 && accepted > changed + 1_000,
  );
  expect(waiting.map(({ client }) => client)).toContain("new");
});

test("goes on when its connections are cut, and sees a message that is missing or there twice", async () => {
  const kick = `docker compose -f /opt/mailu/docker-compose.yml exec -T front doveadm -c /etc/dovecot/proxy.conf proxy kick ${adminAddress(ACME.domain)}`;
  await onHost(ACME, kick);
  await sender.accepts(3);
  const { submitted, retries } = await sender.stop();
  expect(retries).toBeGreaterThan(0);
  expect(tally(submitted, sender.numbersIn(await headers()), 0).lost).toBe(0);

  const file = (number: number): Promise<string> =>
    onHost(ACME, `grep -rl '^${Sender.HEADER}: ${sender.id} ${number}.$' ${MAILBOX}`);
  await onHost(ACME, `rm ${await file(2)}`);
  const third = (await file(3)).trim();
  await onHost(ACME, `cp ${third} ${third}.copy`);
  expect(tally(submitted, sender.numbersIn(await headers()), 0)).toMatchObject({ lost: 1, repeated: 1 });
});

const headers = (): Promise<string> => onHost(ACME, `grep -rh '^${Sender.HEADER}: ' ${MAILBOX}`);
