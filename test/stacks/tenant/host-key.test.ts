// The script that waits for ssh and pins the host's key, really run, with a stand-in for ssh-keyscan.
import { spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { tenantId } from "../../../stacks/names.ts";
import { dkimText, recoveryCommand } from "../../../stacks/tenant/credentials.ts";
import { scanScript } from "../../../stacks/tenant/host-key.ts";

const KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample";
let bin: string;
beforeEach(() => {
  bin = mkdtempSync(join(tmpdir(), "scan-"));
});
afterEach(() => rmSync(bin, { recursive: true, force: true }));

/** Runs the scan against a host that answers at the `after`th attempt. */
function scan(options: { after: number; expected?: string; waitS?: number }) {
  writeFileSync(
    join(bin, "ssh-keyscan"),
    `#!/bin/sh\necho "$*" >>${bin}/calls\n[ "$(wc -l <${bin}/calls)" -lt ${options.after} ] || echo "192.0.2.25 ${KEY}"\n`,
  );
  chmodSync(join(bin, "ssh-keyscan"), 0o755);
  const script = scanScript("192.0.2.25", options.expected).replaceAll(
    "+ 300))",
    `+ ${options.waitS ?? 30}))`,
  );
  const { status, stdout, stderr } = spawnSync("sh", ["-c", script], {
    encoding: "utf8",
    env: { PATH: `${bin}:/usr/bin:/bin` },
  });
  return { status, stdout, stderr };
}

it("prints the key and nothing else", () => {
  expect(scan({ after: 1 })).toEqual({ status: 0, stdout: KEY, stderr: "" });
  expect(readFileSync(join(bin, "calls"), "utf8")).toBe("-T 5 -t ed25519 -- 192.0.2.25\n");
});

it("waits for a host that is still starting", () => {
  expect(scan({ after: 3 })).toMatchObject({ status: 0, stdout: KEY });
});

it("gives up with the reason and the next command", () => {
  const { status, stdout, stderr } = scan({ after: 99, waitS: 1 });
  expect([status, stdout]).toEqual([1, ""]);
  expect(stderr).toMatch(/192\.0\.2\.25 showed no ed25519 key over ssh .* then pulumi up again/);
});

it("takes the key that was announced and refuses another", () => {
  expect(scan({ after: 1, expected: KEY })).toMatchObject({ status: 0, stdout: KEY });
  rmSync(join(bin, "calls"));
  const { status, stdout, stderr } = scan({ after: 1, expected: "ssh-ed25519 AAAAother" });
  expect([status, stdout]).toEqual([1, ""]);
  expect(stderr).toContain("shows another key than existing.hostKey says: refused");
});

it("the recovery's words are safe from the shell", () => {
  writeFileSync(join(bin, "node"), `#!/bin/sh\nprintf '%s\\n' "$@"\n`);
  chmodSync(join(bin, "node"), 0o755);
  const command = recoveryCommand({
    tenant: tenantId("acme"),
    domain: "acme.example",
    contactEmail: "o'neil$(id)@contact.example",
    address: "192.0.2.25",
    hostKey: KEY,
  });
  const { stdout } = spawnSync("sh", ["-c", command], {
    encoding: "utf8",
    cwd: bin,
    env: { PATH: `${bin}:/usr/bin:/bin` },
  });
  expect(stdout.split("\n")).toEqual([
    "../runbooks/main.ts",
    "recover-credentials",
    ...["--tenant", "acme", "--domain", "acme.example", "--contact-email", "o'neil$(id)@contact.example"],
    ...["--address", "192.0.2.25", "--host-key", KEY, "--yes", "--json", ""],
  ]);
});

it("the recovery's answer must hold the DKIM text: DNS isn't made of anything else", () => {
  expect(dkimText('{"tenant":"acme","dkim_txt":"v=DKIM1; k=rsa; p=AAA","more":1}')).toBe(
    "v=DKIM1; k=rsa; p=AAA",
  );
  for (const answer of ["", "{}", "not json", '{"dkim_txt":"v=spf1"}']) {
    expect(() => dkimText(answer)).toThrow(/printed no dkim_txt, so DNS is left as it was/);
  }
});
