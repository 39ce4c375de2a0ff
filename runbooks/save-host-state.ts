// Daily: what only the mail host has is saved into Vault, so that a rebuilt host is trusted from its first minute.
import { z } from "zod";
import { recordPath, TRANSIT_MOUNT, transitKey } from "../stacks/names.ts";
import { RunbookError } from "./lib/errors.ts";
import { breakGlassFlag, tenantFlag } from "./lib/flag-types.ts";
import { saveCertificate } from "./lib/host-state.ts";
import { readCertificate } from "./lib/mail-host.ts";
import { Server } from "./lib/records.ts";
import { defineRunbook } from "./lib/runbook.ts";
import { openSession } from "./lib/session.ts";
import { notAfter } from "./lib/tls-trust.ts";

export default defineRunbook({
  name: "save-host-state",
  summary: "save a mail host's certificate and its key into Vault, encrypted",
  example: "npx runbook save-host-state --tenant acme",
  flags: z.object({ tenant: tenantFlag, breakGlass: breakGlassFlag }),
  run: async (run) => {
    const { tenant } = run.flags;
    const { settings, vault } = await openSession(run, "tenant-deployer", {
      [recordPath(tenant, "server")]: ["read"],
      [recordPath(tenant, "tls")]: ["create", "read", "update"],
      [`${TRANSIT_MOUNT}/encrypt/${transitKey(tenant)}`]: ["update"],
    });
    const server = await run.check(`read where ${tenant} lives`, () =>
      vault.record(tenant, "server", Server),
    );
    if (server === undefined) {
      throw new RunbookError(
        `Vault doesn't know where tenant ${tenant} lives: smtp/${tenant}/server is not there`,
        {
          exit: "usage",
          next: `pulumi up --stack tenant-${tenant}`,
        },
      );
    }
    const host = { address: server.data.vps_ip, hostKey: server.data.host_key };
    const found = await run.check("read the certificate from the host", () =>
      readCertificate(settings, host),
    );
    const saved = await run.change("encrypt it into Vault, if it is a new one", () =>
      saveCertificate(vault, tenant, found),
    );
    return { tenant, saved: saved ?? false, not_after: notAfter(found.certificate) };
  },
});
