// How other processes (a second `npm run lab`, a test worker) speak with a running lab: HTTP on a Unix socket in
// the lab's folder, which only its owner can open.

import { rm } from "node:fs/promises";
import { createServer, request, type Server } from "node:http";
import { join } from "node:path";
import { z } from "zod";

/**
 * How a host goes. `terminated`: the cloud knows. `dead`: processes and disk are gone, and the cloud still lists
 * it as running. `hung`: it accepts TCP and never answers.
 */
export const WAYS_TO_DIE = ["terminated", "dead", "hung"] as const;
export type WayToDie = (typeof WAYS_TO_DIE)[number];

export const Order = z.discriminatedUnion("order", [
  z.object({ order: z.literal("status") }),
  /** Sees to it that the hosts are as EC2 says, before it's answered. */
  z.object({ order: z.literal("follow") }),
  z.object({
    order: z.literal("kill"),
    address: z.string(),
    how: z.enum(WAYS_TO_DIE),
    keepData: z.boolean(),
  }),
  z.object({ order: z.literal("wake"), address: z.string() }),
  z.object({
    order: z.literal("boot"),
    name: z.string().regex(/^[a-z][a-z0-9-]{0,40}$/),
    address: z.string().optional(),
  }),
  /** `lost`: process and data are gone, and an empty Vault is started at the address. `restarted`: it comes back sealed. */
  z.object({ order: z.literal("vault"), how: z.enum(["lost", "restarted", "stopped"]) }),
]);
export type Order = z.infer<typeof Order>;

/** What other processes may know of a host; `id` is EC2's, or a name for a host that no cloud knows. */
const HostReport = z.object({
  id: z.string(),
  name: z.string(),
  address: z.string(),
  pid: z.number(),
  alive: z.boolean(),
  hostKey: z.string(),
});
export type HostReport = z.infer<typeof HostReport>;
const Answer = z.object({ error: z.string().optional(), hosts: z.array(HostReport).default([]) });
export type Answer = z.infer<typeof Answer>;

export const controlSocket = (dir: string): string => join(dir, "control.sock");

/** Answers orders for the lab in `dir` until the server is closed. */
export async function serveControl(
  dir: string,
  carryOut: (order: Order) => Promise<Answer>,
): Promise<Server> {
  await rm(controlSocket(dir), { force: true });
  const server = createServer(async (incoming, outgoing) => {
    let text = "";
    for await (const chunk of incoming.setEncoding("utf8")) text += chunk;
    const answer = await Promise.resolve()
      .then(() => carryOut(Order.parse(JSON.parse(text))))
      .catch((error: unknown) => ({
        error: error instanceof Error ? error.message : String(error),
        hosts: [],
      }));
    outgoing.end(JSON.stringify(answer));
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(controlSocket(dir), () => resolve());
  });
  server.unref();
  return server;
}

/** Gives an order to the lab in `dir`. Throws if it can't be reached or couldn't carry the order out. */
export async function order(dir: string, what: Order): Promise<Answer> {
  const text = await new Promise<string>((resolve, reject) => {
    const call = request({ socketPath: controlSocket(dir), method: "POST", path: "/" }, (incoming) => {
      let received = "";
      incoming.setEncoding("utf8").on("data", (chunk: string) => {
        received += chunk;
      });
      incoming.on("end", () => resolve(received));
    });
    call.once("error", (cause) =>
      reject(new Error(`The lab in ${dir} doesn't answer: is it running?`, { cause })),
    );
    call.end(JSON.stringify(what));
  });
  const answer = Answer.parse(JSON.parse(text));
  if (answer.error !== undefined) throw new Error(answer.error);
  return answer;
}
