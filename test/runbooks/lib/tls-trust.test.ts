// Whom a client believes to be a mail host: real servers with certificates of their own, and a root that is added by
// NODE_EXTRA_CA_CERTS, since no public one signs for a test.
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { TLSSocket } from "node:tls";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const run = promisify(execFile);
const NAME = "mail.acme.example";
const dir = mkdtempSync(join(tmpdir(), "tls-trust-"));
const path = (name: string): string => join(dir, name);

beforeAll(async () => {
  await issue("root", "A root", undefined);
  await issue("own", NAME, undefined);
  await issue("twin", NAME, undefined);
  await issue("elsewhere", "mail.globex.example", undefined);
  await issue("public", NAME, "root");
  await issue("public-elsewhere", "mail.globex.example", "root");
});
afterAll(() => rmSync(dir, { recursive: true }));

describe("trust in a mail host", () => {
  it("believes the certificate that is known, whatever name stands in it", async () => {
    expect(await connected("own", "own")).toBe("connected");
    expect(await connected("elsewhere", "elsewhere")).toBe("connected");
  });

  it("refuses another certificate with the same name, also where none is known", async () => {
    expect(await connected("twin", "own")).toMatch(/SELF_SIGNED/);
    expect(await connected("own", undefined)).toMatch(/SELF_SIGNED/);
  });

  it("believes one that a root signed beside the known one: the host may have renewed it", async () => {
    expect(await connected("public", "own")).toBe("connected");
    expect(await connected("public", undefined)).toBe("connected");
  });

  it("refuses one that a root signed for another name", async () => {
    expect(await connected("public-elsewhere", "own")).toMatch(/not for mail.acme.example/);
    expect(await connected("public-elsewhere", undefined)).toMatch(/not for mail.acme.example/);
  });

  it("keeps one tenant's known certificate out of another's trust", async () => {
    expect(await connected("twin", "own", "twin")).toMatch(/SELF_SIGNED/);
  });
});

/** Connects, in a process that knows the root, to a server that shows `shown`; `before` is trusted by somebody else. */
async function connected(shown: string, known: string | undefined, before?: string): Promise<string> {
  const key = readFileSync(path(`${shown}.key`));
  const cert = readFileSync(path(`${shown}.pem`));
  const server = createServer((socket) => {
    const secure = new TLSSocket(socket, { isServer: true, key, cert });
    for (const one of [socket, secure]) one.on("error", () => socket.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const script = `
    import { readFileSync } from "node:fs";
    import { connect } from "node:tls";
    import { tlsTrust } from ${JSON.stringify(new URL("../../../runbooks/lib/tls-trust.ts", import.meta.url).href)};
    const [port, known, before] = process.argv.slice(1);
    const pem = (name) => (name ? readFileSync(name, "utf8") : undefined);
    if (before) tlsTrust("mail.globex.example", pem(before));
    const socket = connect({ host: "127.0.0.1", port: Number(port), ...tlsTrust(${JSON.stringify(NAME)}, pem(known)) });
    const say = (text) => { console.log(text); socket.destroy(); };
    socket.once("secureConnect", () => say("connected"));
    socket.once("error", (error) => say(error.code ?? error.message));`;
  const file = (name: string | undefined): string => (name === undefined ? "" : path(`${name}.pem`));
  const args = ["--input-type=module", "-e", script, String(port), file(known), file(before)];
  try {
    const env = { ...process.env, NODE_EXTRA_CA_CERTS: path("root.pem") };
    return (await run(process.execPath, args, { env })).stdout.trim();
  } finally {
    server.close();
  }
}

/** Makes `name.pem` and `name.key`; signed by `by`, or by itself. */
async function issue(name: string, commonName: string, by: string | undefined): Promise<void> {
  const key = [
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:prime256v1",
    "-nodes",
    "-keyout",
    path(`${name}.key`),
  ];
  const subject = [
    "-subj",
    `/CN=${commonName}`,
    "-addext",
    `subjectAltName=DNS:${commonName.replaceAll(" ", "-")}`,
  ];
  const signed = by === undefined ? [] : ["-CA", path(`${by}.pem`), "-CAkey", path(`${by}.key`)];
  const leaf = by === undefined ? [] : ["-addext", "basicConstraints=critical,CA:false"];
  await run("openssl", [
    "req",
    "-x509",
    ...key,
    ...subject,
    ...leaf,
    ...signed,
    "-days",
    "2",
    "-out",
    path(`${name}.pem`),
  ]);
}
