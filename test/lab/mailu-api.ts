// Mailu's API by plain HTTPS, as whoever holds a tenant's token may use it.
import { request } from "node:https";
import { text } from "node:stream/consumers";
import { decrypt, readRecord } from "../../scripts/drill/doors.ts";
import type { LabTenant } from "../../scripts/lab/tenants.ts";
import { addressOf, lab } from "./lab.ts";

/** One call; `path` below /api/v1. Resolves to the answer's JSON; throws for another status than 200. */
export async function mailuApi(
  tenant: LabTenant,
  method: string,
  path: string,
  body?: Record<string, unknown>,
): Promise<unknown> {
  const address = await addressOf(tenant.id);
  const token = await decrypt(lab, tenant, (await readRecord(lab, tenant, "mailu")).fields.api_token);
  const { promise, resolve, reject } = Promise.withResolvers<unknown>();
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const call = request(
    `https://${address}/api/v1${path}`,
    { method, headers, rejectUnauthorized: false },
    (answer) => {
      text(answer).then((said) => {
        if (answer.statusCode === 200) resolve(JSON.parse(said));
        else reject(new Error(`Mailu answered ${answer.statusCode} to ${method} ${path}: ${said}`));
      }, reject);
    },
  );
  call.once("error", reject);
  call.end(body === undefined ? undefined : JSON.stringify(body));
  return promise;
}
