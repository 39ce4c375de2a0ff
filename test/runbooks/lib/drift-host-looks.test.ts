// What a mail host says of itself, compared with what is declared: the cases that a lab host can't be brought to.
import { once } from "node:events";
import { type AddressInfo, createServer, type Server } from "node:net";
import { expect, test } from "vitest";
import { type At, containerFindings, fileFindings } from "../../../runbooks/lib/drift-host-looks.ts";
import { portFindings } from "../../../runbooks/lib/drift-ports.ts";
import type { RunbookError } from "../../../runbooks/lib/errors.ts";
import { tenantId } from "../../../stacks/names.ts";

const at = (declared: Partial<At["declared"]> = {}): At => ({
  tenant: tenantId("acme"),
  ssh: "ssh root@127.0.0.1",
  declared: {
    address: "127.0.0.1",
    hostKey: "ssh-ed25519 AAAA",
    domain: "acme.example",
    zoneFile: undefined,
    files: {},
    images: { front: "nginx:1", admin: "admin:1" },
    ports: [],
    records: [],
    ...declared,
  },
});
async function listening(address: string): Promise<[Server, port: number]> {
  const server = createServer((socket) => socket.destroy()).listen(0, address);
  await once(server, "listening");
  return [server, (server.address() as AddressInfo).port];
}
const said = (text: string, code = 0) => ({ text, code });
const row = (Service: string, Image: string, State = "running") => ({ Service, Image, State, Health: "" });
const shortOf = (findings: { kind: string; which: string; found?: string }[]) =>
  findings.map(({ kind, which, found }) => [kind, which, found]);

test.each([
  ["a document a line", (rows: object[]) => rows.map((one) => JSON.stringify(one)).join("\n")],
  ["one list, as Compose before 2.21", (rows: object[]) => JSON.stringify(rows)],
])("containers are read from %s", (_, print) => {
  const good = [row("front", "nginx:1"), row("admin", "admin:1")];
  expect(containerFindings(at(), said(print(good)), [])).toEqual([]);
  const bad = [row("front", "nginx:2"), row("admin", "admin:1", "restarting")];
  expect(shortOf(containerFindings(at(), said(print(bad)), []))).toEqual([
    ["container-stopped", "", "admin restarting"],
    ["image-differs", "front", "nginx:2"],
  ]);
});

test("a container that was removed is as bad as a stopped one", () => {
  const [found] = containerFindings(at(), said(JSON.stringify(row("front", "nginx:1"))), []);
  expect(found).toMatchObject({ kind: "container-stopped", found: "admin missing" });
});

test.each([
  ["Cannot connect to the Docker daemon", 1],
  ["this is no JSON", 0],
])("where docker says '%s' nothing is taken for well", (text, code) => {
  expect(() => containerFindings(at(), said(text, code), [])).toThrow(/doesn't say which containers run/);
});

test("a host without sha256sum has not been looked at", () => {
  const look = () => fileFindings(at({ files: { "/a": "0" } }), said("sh: sha256sum: not found", 127));
  expect(look).toThrow(/doesn't say the files' digests/);
});

test("a declared port that takes no connection is found, unless a container is down: then that is why", async () => {
  const [server, open] = await listening("127.0.0.1");
  const [free, closed] = await listening("127.0.0.1");
  await new Promise((resolve) => free.close(resolve));
  const host = at({ ports: [open, closed] });
  const sockets = said(`LISTEN 0 128 127.0.0.1:${open} 0.0.0.0:*`);
  expect(shortOf(await portFindings(host, sockets, { down: false }))).toEqual([
    ["port-closed", String(closed), "closed"],
  ]);
  expect(await portFindings(host, sockets, { down: true })).toEqual([]);
  server.close();
});

test("what listens for others and answers from here is found; what only the host itself reaches isn't", async () => {
  const [server, port] = await listening("0.0.0.0");
  const look = (local: string) =>
    portFindings(at(), said(`LISTEN 0 128 ${local}:${port} *:*`), { down: false });
  for (const local of ["0.0.0.0", "[::]", "*", "192.0.2.7%eth0", "127.0.0.1"])
    expect([local, shortOf(await look(local))]).toEqual([local, [["port-open", String(port), "open"]]]);
  for (const local of ["127.0.0.53%lo", "127.0.0.2", "[::1]"])
    expect([local, await look(local)]).toEqual([local, []]);
  await new Promise((resolve) => server.close(resolve));
  // A firewall shuts it: nobody gets there.
  expect(await look("0.0.0.0")).toEqual([]);
  await expect(portFindings(at(), said("sh: ss: not found", 127), { down: false })).rejects.toMatchObject({
    message: expect.stringMatching(/doesn't say what listens on it/),
    next: expect.stringMatching(/^ssh /),
  } satisfies Partial<Record<keyof RunbookError, unknown>>);
});

test("an open port is none that is closed, however long this process was kept from looking", async () => {
  const [server, port] = await listening("127.0.0.1");
  const looking = portFindings(at({ ports: [port] }), said(""), { down: false });
  // Past the deadline for a connection.
  const end = performance.now() + 5_500;
  while (performance.now() < end);
  expect(await looking).toEqual([]);
  server.close();
});
