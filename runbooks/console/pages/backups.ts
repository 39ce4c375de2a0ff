// Backups of Vault: how old the newest one is that was opened, which were proven, and what a restore would be.
import { html } from "hono/html";
import {
  type Catalog,
  type CatalogEntry,
  newest,
  proofCommand,
  readCatalog,
} from "../../lib/backup-catalog.ts";
import { backupBucket } from "../../lib/backup-settings.ts";
import { BackupStore } from "../../lib/backup-store.ts";
import { messageOf, RunbookError } from "../../lib/errors.ts";
import { isLate, PROMISED_BACKUP } from "../../lib/status-text.ts";
import type { App, Console } from "../context.ts";
import { fragment, type Html, page, problem } from "../layout.ts";
import type { Session } from "../sessions.ts";
import { verifyForm } from "../start-pages.ts";
import { when } from "./moment.ts";
import { badge, command } from "./words.ts";

/** Backups on the page, the newest ones. */
const MOST = 60;

export function backupsPages(app: App, console: Console): void {
  app.get("/backups", (c) =>
    page(
      c,
      { title: "Backups", active: "/backups", scripts: ["live.js"] },
      html`<h1>Backups of Vault</h1>
<div data-part="/backups/list" class="part part-long"><p class="waiting">Reading the bucket…</p></div>`,
    ),
  );
  app.get("/backups/list", async (c) => c.html(await fragment(await list(console, c.get("session")))));
}

async function list({ settings, env }: Console, session: Session): Promise<Html> {
  try {
    const store = new BackupStore(backupBucket(settings), "verifier", env);
    return shown(await readCatalog(store), store.bucket, session);
  } catch (error) {
    const next = error instanceof RunbookError ? error.next : undefined;
    return problem(messageOf(error), next ?? "npx runbook list-backups");
  }
}

function shown(catalog: Catalog, bucket: string, session: Session): Html {
  const { backups, broken } = catalog;
  if (backups.length + broken.length === 0)
    return html`<p class="empty">There is no backup in s3://${bucket}: ${command("npx runbook backup-vault")}</p>`;
  return html`${summary(catalog)}
<div class="actions">${verifyForm(session)}</div>
<table class="backups">
<caption class="visually-hidden">Backups in s3://${bucket}, the newest first</caption>
<thead><tr><th scope="col">As of</th><th scope="col">Opened</th><th scope="col">Restored</th><th scope="col">Tenants</th><th scope="col">Size</th><th scope="col"><span class="visually-hidden">What can be done</span></th></tr></thead>
<tbody>${backups.slice(0, MOST).map((one, at) => row(one, session, backups[at - 1]?.day !== one.day))}</tbody>
</table>
${backups.length > MOST ? html`<p class="count">${backups.length - MOST} older ones: ${command("npx runbook list-backups")}</p>` : ""}
${
  broken.length === 0
    ? ""
    : html`<h2>No backups</h2><ul class="broken">${broken.map(
        ({ object, why }) => html`<li><code>${object.key}</code> ${why}</li>`,
      )}</ul>`
}`;
}

function summary(catalog: Catalog): Html {
  const opened = newest({ backups: catalog.backups.filter((one) => one.opened.length > 0), broken: [] });
  const restored = last(catalog.backups.flatMap((one) => one.restored.map(({ at }) => at)));
  const asOf = opened?.manifest.canary.written;
  return html`<dl class="facts">
<div><dt>A restore now would be as of</dt><dd>${
    asOf === undefined
      ? html`${badge("bad", "Nothing")} none was opened: ${command("npx runbook verify-backup")}`
      : html`${when(asOf)} ${isLate(asOf, PROMISED_BACKUP.youngMs) ? badge("bad", "Older than promised (24 h)") : badge("good", "Within the promise (24 h)")}`
  }</dd></div>
<div><dt>Last proven by restoring it</dt><dd>${
    restored === undefined
      ? html`${badge("bad", "Never")} ${command(proofCommand(catalog))}`
      : html`${when(restored)} ${isLate(restored, PROMISED_BACKUP.restoredMs) ? badge("bad", "Longer ago than a month") : badge("good", "Within the month")}`
  }</dd></div>
</dl>`;
}

/** @param first of its day: the others are hidden behind it, and commands by the day are about all of them. */
function row(backup: CatalogEntry, session: Session, first: boolean): Html {
  const { day, manifest, object } = backup;
  const [opened, restored] = [
    last(backup.opened.map(({ at }) => at)),
    last(backup.restored.map(({ at }) => at)),
  ];
  return html`<tr>
<th scope="row" data-label="As of">${when(manifest.canary.written)}<span class="domain">${day}${object.hidden ? " (hidden)" : ""}</span></th>
<td data-label="Opened">${opened === undefined ? badge("warn", "Not opened") : html`${badge("good", "Opened")} ${when(opened)}`}</td>
<td data-label="Restored">${restored === undefined ? html`<span class="none">never</span>` : html`${badge("good", "Restored")} ${when(restored)}`}</td>
<td data-label="Tenants" class="number">${manifest.tenants.length}</td>
<td data-label="Size" class="number">${size(manifest.sealed_bytes)}</td>
<td class="acts">${first ? acts(session, day) : ""}</td>
</tr>
`;
}

const acts = (
  session: Session,
  day: string,
): Html => html`<div class="actions">${verifyForm(session, day)}<details><summary>Restore<span class="visually-hidden"> the backup of ${day}</span></summary>
<p>From a terminal, with the people who hold the key shares: ${command(`npx runbook restore-vault --date ${day}`)}</p></details></div>`;

const last = (times: readonly string[]): string | undefined => times.toSorted().at(-1);

const size = (bytes: number): string =>
  bytes < 1_048_576 ? `${Math.ceil(bytes / 1024)} KiB` : `${(bytes / 1_048_576).toFixed(1)} MiB`;
