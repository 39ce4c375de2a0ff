import { expect, test } from "vitest";
import { hasEnded, progressOf } from "../../../runbooks/lib/restore-progress.ts";

const whole = {
  restored_from: "v1",
  restore_step: "revoked",
  restore_run: "a-run",
  restore_began: "2026-02-28T02:00:00.000Z",
};

test("is read from the canary's metadata, among whatever else is there", () => {
  expect(progressOf({ ...whole, owner: "somebody" })).toEqual({
    backup: "v1",
    step: "revoked",
    run: "a-run",
    began: "2026-02-28T02:00:00.000Z",
  });
});

test("is none where a part is missing or unknown: such a Vault counts as one that holds data", () => {
  expect(progressOf(undefined)).toBeUndefined();
  expect(progressOf({ ...whole, restore_step: "finished" })).toBeUndefined();
  for (const key of Object.keys(whole)) expect(progressOf({ ...whole, [key]: "" }), key).toBeUndefined();
});

test("has ended at its last step and at no other", () => {
  const ended = (restore_step: string) => hasEnded(progressOf({ ...whole, restore_step }));
  expect(["restored", "revoked", "ended"].map(ended)).toEqual([false, false, true]);
  expect(hasEnded(undefined)).toBe(false);
});
