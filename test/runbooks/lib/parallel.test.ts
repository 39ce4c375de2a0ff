import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import { precedence } from "../../../runbooks/lib/parallel.ts";

it("keeps the second lot waiting until all of the first is over, so many of it at a time", async () => {
  const order = precedence(2);
  const said: string[] = [];
  let running = 0;
  let most = 0;
  const one = async (name: string) => {
    await order.first(async () => {
      most = Math.max(most, ++running);
      await sleep(10);
      running -= 1;
    });
    said.push(name);
    await order.afterwards();
    said.push("rest");
  };
  await Promise.all(["a", "b", "c", "d", "e"].map(one));
  expect(most).toBe(2);
  expect(said).toEqual(["a", "b", "c", "d", "e", "rest", "rest", "rest", "rest", "rest"]);
});

it("holds the second lot up for nothing that failed, nor where there was no first", async () => {
  const order = precedence(1);
  await order.afterwards();
  const failing = order.first(async () => {
    await sleep(5);
    throw new Error("no");
  });
  const rest = order.afterwards();
  await expect(failing).rejects.toThrow("no");
  await rest;
});
