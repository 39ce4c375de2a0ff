// Mailu's API over connections that are kept: a server that closes one at the moment when it is used again.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, expect, it } from "vitest";
import { Mailu } from "../../../runbooks/lib/mailu.ts";
import { tlsTrust } from "../../../runbooks/lib/tls-trust.ts";

const NAME = "mail.acme.example";
const { key, cert } = certificate();
let server: Server;
let mailu: Mailu;
let asked: string[];

afterEach(() => {
  mailu.close();
  server.closeAllConnections();
  server.close();
});

it("asks again what may be repeated when the server has closed a kept connection", async () => {
  await serve((count) => (count === 2 ? "close" : "answer"));
  expect(await mailu.passwordHash("admin@acme.example")).toBe("hash");
  await mailu.setAdminPassword("acme.example", "a password");
  expect(asked).toEqual(["1 GET", "2 PATCH", "1 PATCH"]);
});

it("doesn't ask again what must not be repeated", async () => {
  await serve((count) => (count === 2 ? "close" : "answer"));
  await mailu.passwordHash("admin@acme.example");
  await expect(mailu.ensureDomain("acme.example")).rejects.toThrow(/can't be asked \(POST \/domain\)/);
  expect(asked).toEqual(["1 GET", "2 POST"]);
});

it("doesn't ask again on a connection that is new: the server may have done what it was told", async () => {
  await serve(() => "close");
  await expect(mailu.setAdminPassword("acme.example", "a password")).rejects.toThrow(
    /can't be asked \(PATCH/,
  );
  expect(asked).toEqual(["1 PATCH"]);
});

it("doesn't ask again after a while: meanwhile somebody else may have set a password", async () => {
  await serve((count) => (count === 2 ? "close late" : "answer"));
  await mailu.passwordHash("admin@acme.example");
  await expect(mailu.setAdminPassword("acme.example", "a password")).rejects.toThrow(
    /can't be asked \(PATCH/,
  );
  expect(asked).toEqual(["1 GET", "2 PATCH"]);
});

/** @param act what becomes of the first, the second… request on a connection. */
async function serve(act: (count: number) => "answer" | "close" | "close late"): Promise<void> {
  const counts = new WeakMap<Socket, number>();
  asked = [];
  server = createServer({ key, cert }, async (request, response) => {
    const count = (counts.get(request.socket) ?? 0) + 1;
    counts.set(request.socket, count);
    asked.push(`${count} ${request.method}`);
    const what = act(count);
    if (what === "answer") response.end(JSON.stringify({ password: "hash" }));
    if (what === "close late") await sleep(1_200);
    if (what !== "answer") request.socket.destroy();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  mailu = new Mailu(`https://127.0.0.1:${port}/api/v1`, "token", tlsTrust(NAME, cert));
}

function certificate(): { key: string; cert: string } {
  const dir = mkdtempSync(join(tmpdir(), "mailu-api-"));
  const [keyFile, certFile] = [join(dir, "key.pem"), join(dir, "cert.pem")];
  const how =
    "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test".split(" ");
  execFileSync("openssl", [...how, "-keyout", keyFile, "-out", certFile], { stdio: "ignore" });
  const made = { key: readFileSync(keyFile, "utf8"), cert: readFileSync(certFile, "utf8") };
  rmSync(dir, { recursive: true });
  return made;
}
