// Flags that several runbooks take, each parsed once into a type that can't be wrong.
import { z } from "zod";
import { domainProblem, type TenantId, tenantIdProblem } from "../../stacks/names.ts";

export const tenantFlag = z
  .string()
  .superRefine((text, context) => {
    const problem = tenantIdProblem(text);
    if (problem !== undefined) context.addIssue({ code: "custom", message: problem });
  })
  .transform((text) => text as TenantId)
  .describe("the tenant's id");

export const domainFlag = z.string().superRefine((text, context) => {
  const problem = domainProblem(text);
  if (problem !== undefined) context.addIssue({ code: "custom", message: problem });
});

export const emailFlag = z.email("is not an e-mail address");

export const takeOverFlag = z
  .boolean()
  .default(false)
  .describe("take the rotation from a holder that you know is dead, without watching it for a minute");

export const breakGlassFlag = z.boolean().default(false).describe("accept a root token (audited)");
