// Whether a holder lives. In the console's process many runs come and go: its pid alone says nothing of them.
import { expect, test } from "vitest";
import { holderState, runBegins, thisHolder } from "../../../runbooks/lib/holder.ts";

test("a run of this process holds what it holds until it has ended, whatever else runs in it", () => {
  const [one, two] = [runBegins("one"), runBegins("two")];
  const held = thisHolder("one", "somebody");
  expect(holderState(held)).toBe("alive");
  one();
  expect(holderState(held)).toBe("gone");
  expect(holderState(thisHolder("two", "somebody"))).toBe("alive");
  two();
});

test("another process of this machine lives as long as it does, and elsewhere can't be seen", () => {
  const held = thisHolder("a-run", "somebody");
  expect(holderState({ ...held, pid: process.ppid })).toBe("gone");
  expect(holderState({ ...held, machine: "another" })).toBe("elsewhere");
});
