import { expect, it } from "vitest";
import { newPassword } from "../../../runbooks/lib/password.ts";

it("a password holds 48 random bytes, in characters that nothing on its way takes for something else", () => {
  const made = Array.from({ length: 2_000 }, newPassword);
  expect(made.filter((password) => !/^[A-Za-z0-9+/]{64}$/.test(password))).toEqual([]);
  expect(made.filter((password) => Buffer.from(password, "base64").length !== 48)).toEqual([]);
  // Mailu takes 32 of these for an app token.
  expect(made.filter((password) => /^[0-9a-f]{32}$/.test(password))).toEqual([]);
  expect(new Set(made).size).toBe(made.length);
  // Each of the 64 digits is seen at each place, so that no byte is constant or cut.
  for (let at = 0; at < 64; at++) expect(new Set(made.map((password) => password[at])).size).toBe(64);
});
