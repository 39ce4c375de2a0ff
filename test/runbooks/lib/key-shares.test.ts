import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import type { HiddenQuestion } from "../../../runbooks/lib/hidden-input.ts";
import { readKeyShares, type SealShares } from "../../../runbooks/lib/key-shares.ts";
import { redact } from "../../../runbooks/lib/redact.ts";
import { decodeToken } from "../../../runbooks/lib/sealed-vault.ts";

const SEAL: SealShares = { threshold: 3, shares: 5, seal_type: "shamir" };
/** 32 bytes and the coordinate behind them. */
const share = (at: number): Buffer => Buffer.concat([randomBytes(32), Buffer.from([at])]);
const base64 = (bytes: Buffer): string => bytes.toString("base64");

/** Somebody at a terminal who types line after line. */
function somebody(lines: string[]) {
  const said: string[] = [];
  const hidden = async ({ question, isComplete, more }: HiddenQuestion) => {
    said.push(question);
    let text = "";
    for (const line of lines) {
      text += `${line}\n`;
      if (isComplete?.(text)) break;
      said.push(more?.(text) ?? "");
    }
    return text.trim();
  };
  return { said, run: { interactive: true, hidden } };
}
const piped = (text: string, seal: SealShares = SEAL) =>
  readKeyShares({ interactive: false, hidden: async () => text }, seal);

describe("on standard input", () => {
  test("a share a line, in either form, and those that are too many are left out", async () => {
    const given = [share(1), share(2), share(3), share(4)];
    const lines = given.map((bytes, index) => bytes.toString(index % 2 === 0 ? "hex" : "base64"));
    expect(await piped(`\n${lines.join("\r\n")}\n\n`)).toEqual(lines.slice(0, 3));
    for (const bytes of given)
      for (const form of ["hex", "base64"] as const) expect(redact(bytes.toString(form))).toBe("[redacted]");
  });

  const [one, two, three] = [share(1), share(2), share(3)].map(base64) as [string, string, string];
  test.each<[string, string[], string]>([
    ["too few", [one, two], "2 of the 3 key shares that it takes were given"],
    ["none that is a share", [one, "correct horse", three], "key share 2 is neither base64 nor hexadecimal"],
    ["a base64 text that is cut", [one, two, three.slice(0, -1)], "key share 3 is neither base64 nor"],
    ["a short one", [base64(randomBytes(30)), two, three], "key share 1 has 30 bytes"],
    ["one of a Vault with one share", [one, two, base64(randomBytes(32))], "key share 3 has 32 bytes"],
    ["one that PGP has encrypted", [one, base64(randomBytes(300)), three], "encrypted by PGP"],
    ["one twice", [one, two, one], "key share 3 is key share 1 once more"],
    ["one twice in two forms", [one, Buffer.from(one, "base64").toString("hex"), three], "once more"],
    ["shares of two sets", [one, two, base64(share(2))], "key share 3 and key share 2 are not of one set"],
    ["a wrong one behind those that it takes", [one, two, three, "x"], "key share 4 is neither"],
  ])("%s: exit 2, and it isn't shown", async (_what, lines, words) => {
    const error = await piped(lines.join("\n")).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ exitCode: 2, message: expect.stringContaining(words) });
    for (const line of lines.filter((text) => text.length > 20)) expect(String(error)).not.toContain(line);
  });

  test("a Vault with a single share has one of 32 bytes", async () => {
    const only = base64(randomBytes(32));
    expect(await piped(only, { threshold: 1, shares: 1 })).toEqual([only]);
    await expect(piped(one, { threshold: 1, shares: 1 })).rejects.toThrow("has 33 bytes");
  });
});

test("at a terminal each is asked for by its number, and what can't be one is asked for again", async () => {
  const good = [share(1), share(2), share(3)].map(base64);
  const lines = [good[0], "a typo", good[0], good[1], good[2], "never read"].map(String);
  const { run, said } = somebody(lines);
  expect(await readKeyShares(run, SEAL)).toEqual(good);
  expect(said).toEqual([
    "key share 1 of 3",
    "\nkey share 2 of 3: ",
    "\nkey share 2 is neither base64 nor hexadecimal\nkey share 2 of 3: ",
    "\nkey share 2 is key share 1 once more\nkey share 2 of 3: ",
    "\nkey share 3 of 3: ",
  ]);
});

test("where a KMS opens Vault its recovery keys are asked for, by that name", async () => {
  const seal = { threshold: 2, shares: 3, seal_type: "awskms" };
  const good = [share(1), share(2)].map(base64);
  const { run, said } = somebody([good[0], good[0], good[1]].map(String));
  expect(await readKeyShares(run, seal)).toEqual(good);
  expect(said).toEqual([
    "recovery key 1 of 2",
    "\nrecovery key 2 of 2: ",
    "\nrecovery key 2 is recovery key 1 once more\nrecovery key 2 of 2: ",
  ]);
  await expect(piped(String(good[0]), seal)).rejects.toMatchObject({
    exitCode: 2,
    message: "1 of the 2 recovery keys that it takes were given",
  });
});

test("a root token comes out of its pad as Vault's own command takes it out", () => {
  // `vault operator generate-root -decode KTQ… -otp ABC…` of Vault 1.21.0 says so.
  const [encoded, otp] = ["KTQwaiQkJCwsLCwkJCQkPDw8PCQkJCQsLCwWGg", "ABCDEFGHIJKLMNOPQRSTUVWXYZab"];
  expect(decodeToken(encoded, otp)).toBe("hvs.abcdefghijklmnopqrstuvwx");
});
