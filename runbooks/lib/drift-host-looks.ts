// What a mail host said of itself, against what its stack declares and Vault keeps. Pure.
import { X509Certificate } from "node:crypto";
import { z } from "zod";
import {
  CERTIFICATE_FILE,
  COMPOSE_FILE,
  DKIM_SELECTOR,
  dkimKeyFile,
  filesUrn,
  KV_MOUNT,
  type TenantId,
  tenantStack,
} from "../../stacks/names.ts";
import type { Declared } from "./declared.ts";
import { RunbookError } from "./errors.ts";
import type { Finding } from "./findings.ts";
import type { Said } from "./host-commands.ts";
import { oneLine } from "./printable.ts";

/** A host as its findings speak of it. */
export interface At {
  tenant: TenantId;
  declared: Declared;
  /** `ssh root@192.0.2.7`. */
  ssh: string;
}

/** Days before its end at which a certificate becomes a finding. */
const EXPIRY_DAYS = 21;

/** The host answered, but not as the one that the stack pinned. */
export function hostKeyFinding(at: At): Finding {
  const { address, hostKey } = at.declared;
  return {
    ...about(at, "host-key-differs", ""),
    what: `${address} shows another SSH host key than the one that the stack pinned: nothing was asked of it. If nobody reinstalled this host, somebody else answers in its place`,
    declared: hostKey,
    mend: `ssh-keyscan -t ed25519 ${address}   # find out why first; a host that was reinstalled: npx runbook replace-vps --tenant ${at.tenant}`,
  };
}

/** @param said `sha256sum` of the declared files: what isn't there is missing from it. */
export function fileFindings(at: At, said: Said): Finding[] {
  if (said.code === 127) throw unasked(at, "the files' digests", said);
  const sums = new Map(said.text.split("\n").map((line) => [line.slice(66), line.slice(0, 64)]));
  return Object.entries(at.declared.files).flatMap(([path, sha256]) => {
    const found = sums.get(path);
    if (found === sha256) return [];
    return [
      {
        ...about(at, found === undefined ? "file-missing" : "file-differs", path),
        what:
          found === undefined
            ? `${path} on ${at.declared.address} is gone`
            : `${path} on ${at.declared.address} isn't what the stack wrote`,
        declared: `sha256 ${sha256}`,
        ...(found === undefined ? {} : { found: `sha256 ${found}` }),
        // The engine believes its file still there: it has to be told. Containers may run with the changed one.
        mend: `pulumi up --stack ${tenantStack(at.tenant)} --replace '${filesUrn(at.tenant)}' && ${compose(at, "up -d --force-recreate")}`,
      },
    ];
  });
}

/** @param said `docker compose ps -a --format json`; @param files what is wrong with the files: without its file compose says nothing. */
export function containerFindings(at: At, said: Said, files: readonly Finding[]): Finding[] {
  const rows = said.code === 0 ? Rows.safeParse(said.text).data : undefined;
  if (rows === undefined) {
    if (files.some(({ which }) => which === COMPOSE_FILE)) return [];
    throw unasked(at, "which containers run", said);
  }
  const services = Object.entries(at.declared.images).map(([service, image]) => {
    const row = rows.find((one) => one.Service === service);
    return { service, image, state: row?.State ?? "missing", runs: row?.Image };
  });
  const down = services.filter(({ state }) => state !== "running");
  const others = services.filter(({ state, image, runs }) => state === "running" && runs !== image);
  return [
    ...(down.length === 0
      ? []
      : [
          {
            ...about(at, "container-stopped", ""),
            what: `of ${services.length} containers that should run on ${at.declared.address}, ${down.length} ${down.length === 1 ? "doesn't" : "don't"}`,
            declared: `${services.length} run`,
            found: oneLine(down.map(({ service, state }) => `${service} ${state}`).join(", ")),
            mend: compose(at, "up -d"),
          },
        ]),
    ...others.map(({ service, image, runs = "" }) => ({
      ...about(at, "image-differs", service),
      what: `the container of ${service} on ${at.declared.address} was made of another image`,
      declared: image,
      found: oneLine(runs),
      mend: compose(at, `up -d --force-recreate ${service}`),
    })),
  ];
}

/** @param stored what Vault keeps; undefined: Vault can't be asked, and that is told elsewhere. */
export function certificateFindings(
  at: At,
  said: Said,
  stored: { certificate: string | undefined } | undefined,
  now = new Date(),
): Finding[] {
  const { tenant, declared } = at;
  const found = said.code === 0 ? parsed(said.text) : undefined;
  if (found === undefined) {
    return [
      {
        ...about(at, "certificate-missing", ""),
        what: `${CERTIFICATE_FILE} on ${declared.address} is no certificate: once restarted, Mailu answers on no TLS port`,
        found: oneLine(said.code === 0 ? "something else" : said.text),
        mend: `npx runbook recover-credentials --tenant ${tenant}`,
      },
    ];
  }
  const days = Math.floor((Date.parse(found.validTo) - now.getTime()) / 86_400_000);
  const known = parsed(stored?.certificate ?? "");
  const findings: Finding[] = [];
  if (days < EXPIRY_DAYS)
    findings.push({
      ...about(at, "certificate-expires", ""),
      what:
        days < 0
          ? `the certificate of ${declared.address} has expired`
          : `the certificate of ${declared.address} expires in ${days} days`,
      declared: `valid for ${EXPIRY_DAYS} days or more`,
      found: `valid until ${new Date(found.validTo).toISOString()}`,
      mend: `${at.ssh} ls -l ${CERTIFICATE_FILE}   # put a renewed one and its key there, then: npx runbook save-host-state --tenant ${tenant}`,
    });
  if (stored !== undefined && known?.fingerprint256 !== found.fingerprint256)
    findings.push({
      ...about(at, "certificate-differs", ""),
      what: `the certificate of ${declared.address} isn't the one that Vault keeps in ${KV_MOUNT}/${tenant}/tls: a rebuilt host would show an old one`,
      declared: known === undefined ? "none" : `sha256 ${known.fingerprint256}`,
      found: `sha256 ${found.fingerprint256}`,
      mend: `npx runbook save-host-state --tenant ${tenant}`,
    });
  return findings;
}

/** @param said the public half of the key that signs, DER in base64. */
export function dkimFindings(at: At, said: Said): Finding[] {
  const { declared, tenant } = at;
  const file = dkimKeyFile(declared.domain);
  const name = `${DKIM_SELECTOR}._domainkey.${declared.domain}`;
  const record = declared.records.find((one) => one.type === "TXT" && one.name === name);
  const published = /\bp=([A-Za-z0-9+/=]+)/.exec(record?.value ?? "")?.[1];
  // What openssl complains of may be made of the same letters, but never as long a line.
  const found = /^[A-Za-z0-9+/=\s]{100,}$/.test(said.text) ? said.text.replaceAll(/\s/g, "") : "";
  if (found === published) return [];
  return [
    {
      ...about(at, "dkim-key-differs", ""),
      what: `the key in ${file} on ${declared.address} isn't the one that DNS should show: whatever it signs is taken for forged`,
      declared: `public key ${shown(published ?? "")}`,
      found: found === "" ? "no key" : `public key ${shown(found)}`,
      mend: `npx runbook recover-credentials --tenant ${tenant}`,
    },
  ];
}

/** What could not be found out, though the host was reached. */
export function unasked(at: At, what: string, said: Said): RunbookError {
  return new RunbookError(`${at.declared.address} doesn't say ${what}: ${oneLine(said.text).slice(0, 300)}`, {
    exit: "failed",
    next: `${at.ssh}   # mend what it says, then run this again`,
  });
}

export const about = (at: At, kind: string, which: string) =>
  ({ check: "host", kind, about: at.tenant, which }) as const;

const compose = (at: At, words: string): string => `${at.ssh} docker compose -f ${COMPOSE_FILE} ${words}`;

/** Enough of a key to tell it from another. */
const shown = (key: string): string => (key.length > 32 ? `…${key.slice(-32)}` : key);

function parsed(pem: string): X509Certificate | undefined {
  try {
    return new X509Certificate(pem);
  } catch {
    return undefined;
  }
}

const Row = z.object({ Service: z.string(), Image: z.string(), State: z.string() });
/** A document a line, as Compose prints since 2.21, or one list. */
const Rows = z
  .string()
  .transform((text, context) => {
    try {
      if (text.trimStart().startsWith("[")) return JSON.parse(text) as unknown;
      return text.split("\n").flatMap((line) => (line.trim() === "" ? [] : [JSON.parse(line) as unknown]));
    } catch {
      context.addIssue({ code: "custom", message: "is no JSON" });
      return z.NEVER;
    }
  })
  .pipe(z.array(Row));
