// Signing in with a real browser, which has its own mind about cookies: by token, by password, and at an identity
// provider of another site. On a Vault of its own, since the lab's has no such logins.
import { afterAll, beforeAll, expect, test } from "vitest";
import { beProvider, type Provider } from "../runbooks/console/be-provider.ts";
import {
  type OpenedConsole,
  openConsole,
  PASSWORD,
  preparedVault,
} from "../runbooks/console/open-console.ts";
import type { DevVault } from "../stacks/dev-vault.ts";
import { newPage, useBrowser } from "./browser.ts";

useBrowser();
let vault: DevVault;
let opened: OpenedConsole;
let provider: Provider;
/** By a name under which the provider is another site. */
let url: string;
beforeAll(async () => {
  vault = await preparedVault();
  opened = await openConsole(vault);
  url = opened.served.url.replace("127.0.0.1", "localhost").replace(/\/$/, "");
  provider = await beProvider(vault, url);
});
afterAll(async () => {
  await opened[Symbol.asyncDispose]();
  await vault[Symbol.asyncDispose]();
});

test("whoever isn't signed in is led to the sign-in, and a wrong password is told there", async () => {
  const page = await newPage({ url });
  await page.goto("/tenants/acme");
  await page.waitForURL("**/sign-in");
  await page.getByLabel("Name", { exact: true }).fill("alice");
  await page.getByLabel("Password", { exact: true }).fill("wrong");
  await page.getByLabel("Password", { exact: true }).press("Enter");
  await page.getByRole("alert").getByText("Name or password is wrong").waitFor();
  await page.getByLabel("Name", { exact: true }).fill("alice");
  await page.getByLabel("Password", { exact: true }).fill(PASSWORD);
  await page.getByLabel("Password", { exact: true }).press("Enter");
  await page.getByText("userpass-alice").waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.waitForURL("**/sign-in");
  await page.goBack();
  await page.reload();
  await page.waitForURL("**/sign-in");
});

test("a token is enough, and no script can read the cookie", async () => {
  const page = await newPage({ url });
  await page.goto("/");
  await page.getByLabel("Vault token").fill(await vault.tokenWith("platform-admin"));
  await page.getByLabel("Vault token").press("Enter");
  await page.getByRole("link", { name: "acme" }).first().waitFor();
  expect(await page.evaluate("document.cookie")).toBe("");
  expect(await page.context().cookies()).toMatchObject([{ httpOnly: true, sameSite: "Strict" }]);
});

test("the identity provider's page sends a person back, who is signed in then", async () => {
  const page = await newPage({ url });
  await page.route(`${vault.address}/ui/**`, async (route) => {
    const back = `${url}${await provider.consent(route.request().url())}`;
    await route.fulfill({
      contentType: "text/html",
      body: `<a href="${back.replaceAll("&", "&amp;")}">Yes, I am</a>`,
    });
  });
  await page.goto("/sign-in");
  await page.getByLabel("Role").selectOption("platform-admin");
  await page.getByRole("button", { name: "Go to the identity provider" }).click();
  await page.getByRole("link", { name: "Yes, I am" }).click();
  await page.getByText("people-alice@people.example").waitFor();
  expect(new URL(page.url()).pathname).toBe("/");
});

test("another site's page can neither act nor read for whoever is signed in", async () => {
  const page = await newPage({ url });
  await page.goto("/sign-in");
  await page.getByLabel("Vault token").fill(await vault.tokenWith("platform-admin"));
  await page.getByLabel("Vault token").press("Enter");
  await page.getByRole("button", { name: "Sign out" }).waitFor();
  const other = await page.context().newPage();
  await other.route(`${vault.address}/evil`, (route) =>
    route.fulfill({
      contentType: "text/html",
      body: `<form method="post" action="${url}/start/check-drift"><button>Win</button></form><iframe src="${url}/"></iframe>`,
    }),
  );
  await other.goto(`${vault.address}/evil`);
  const read = await other.evaluate(
    (at) =>
      fetch(at, { credentials: "include" }).then(
        () => "read",
        () => "refused",
      ),
    `${url}/`,
  );
  expect(read).toBe("refused");
  const frame = other.frames().find((one) => one !== other.mainFrame());
  expect(await frame?.getByText("Sign").count()).toBe(0);
  await other.getByRole("button", { name: "Win" }).click();
  await other.getByText("This request didn't come from a page of the console.").waitFor();
  await page.goto("/runs");
  await page.getByText("Nothing was started here yet.").waitFor();
});
