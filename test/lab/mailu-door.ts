// A door in front of a tenant's Mailu: every request to its API is noted. It shows the tenant's own certificate, since
// nothing else would be spoken to.
import { once } from "node:events";
import { createServer, request } from "node:https";
import type { AddressInfo } from "node:net";
import { decrypt, readRecord } from "../../scripts/drill/doors.ts";
import type { LabTenant } from "../../scripts/lab/tenants.ts";
import { writeRecord } from "./door.ts";
import { addressOf, lab } from "./lab.ts";

/** Runs `work` while the tenant's record leads to the door; `calls` gets `METHOD path` of every request. */
export async function withMailuDoor<T>(
  tenant: LabTenant,
  calls: string[],
  work: () => Promise<T>,
): Promise<T> {
  const host = await addressOf(tenant.id);
  const { fields } = await readRecord(lab, tenant, "tls");
  const pair = { cert: String(fields.certificate), key: await decrypt(lab, tenant, fields.private_key) };
  const door = createServer(pair, (incoming, outgoing) => {
    const { method, url: path, headers } = incoming;
    calls.push(`${method} ${path}`);
    const there = { host, path, method, headers, rejectUnauthorized: false };
    const onward = request(there, (answer) => {
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(outgoing);
    });
    onward.on("error", () => outgoing.destroy());
    incoming.pipe(onward);
  });
  door.listen(0, "127.0.0.1");
  await once(door, "listening");
  const url = `https://127.0.0.1:${(door.address() as AddressInfo).port}/api/v1`;
  const { api_url: own } = (await readRecord(lab, tenant, "server")).fields;
  const leadTo = async (api_url: unknown): Promise<void> => {
    const server = await readRecord(lab, tenant, "server");
    await writeRecord(tenant, "server", { ...server.fields, api_url });
  };
  await leadTo(url);
  try {
    return await work();
  } finally {
    await leadTo(own);
    door.closeAllConnections();
    door.close();
  }
}
