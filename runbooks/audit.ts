// The audit log's own runbook: where it is, what is in it, whether it is whole, and completing what waits.
import { z } from "zod";
import { defineRunbook } from "./lib/runbook.ts";

export default defineRunbook({
  name: "audit",
  summary: "shows, checks and completes the audit log",
  example: "npx runbook audit list --tenant acme --since 2026-01-31",
  positional: "action",
  flags: z.object({
    action: z.enum(["path"]).describe("path: where the log is"),
  }),
  async run(ctx) {
    const { audit } = await ctx.settings();
    return { path: audit.log };
  },
  render: (result) => String(result.path),
});
