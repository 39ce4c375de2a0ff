// DKIM keys as Mailu keeps them: one file per domain and selector, read when the process starts, and a new key
// at every POST. A key put back while Mailu runs is not seen until it starts again.
import { createPrivateKey, createPublicKey, generateKeyPair } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { replaceFile } from "./store.ts";

const generate = promisify(generateKeyPair);

export class DkimKeys {
  readonly #dir: string;
  readonly #selector: string;
  readonly #records = new Map<string, string>();

  constructor(dir: string, selector: string) {
    this.#dir = dir;
    this.#selector = selector;
    mkdirSync(dir, { recursive: true });
    const ending = `.${selector}.key`;
    for (const name of readdirSync(dir).filter((entry) => entry.endsWith(ending))) {
      this.#records.set(name.slice(0, -ending.length), publicKey(readFileSync(join(dir, name), "utf8")));
    }
  }

  /** Replaces the domain's key, if it has one: RSA-2048, PKCS#8 PEM. */
  async renew(domain: string): Promise<void> {
    const { privateKey } = await generate("rsa", { modulusLength: 2048 });
    const pem = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
    replaceFile(join(this.#dir, `${domain}.${this.#selector}.key`), pem);
    this.#records.set(domain, publicKey(pem));
  }

  /** The zone file line that Mailu wants published; null without a key. Split, since a string holds 255 bytes. */
  record(domain: string): string | null {
    const key = this.#records.get(domain);
    if (key === undefined) return null;
    const strings = `v=DKIM1; k=rsa; p=${key}`.match(/.{1,250}/g) ?? [];
    const text = strings.map((part) => `"${part}"`).join(" ");
    return `${this.#selector}._domainkey.${domain}. 600 IN TXT ${text}`;
  }
}

/** Base64 of the public key's SPKI; empty for a file that is no key, as such a domain signs nothing. */
function publicKey(pem: string): string {
  try {
    const key = createPublicKey(createPrivateKey(pem));
    return key.export({ type: "spki", format: "der" }).toString("base64");
  } catch {
    return "";
  }
}
