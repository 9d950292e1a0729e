import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./index.js";

/**
 * Says what went wrong: for an error of the server its code and message, the reason that programs may
 * rely on, and the path of each field that was wrong.
 */
export function describeFailure(step: string, error: unknown): string {
  const prefix = step === "" ? "" : `${step}: `;
  if (!(error instanceof ConnectError)) {
    return `error: ${prefix}${error instanceof Error ? error.message : String(error)}`;
  }
  const lines = [`error: ${prefix}${Code[error.code]}: ${error.rawMessage}`];
  for (const info of error.findDetails(ErrorInfoSchema)) {
    lines.push(`reason: ${info.reason} (${info.domain})`);
    for (const key of Object.keys(info.metadata).sort()) {
      lines.push(`  ${key}: ${info.metadata[key]}`);
    }
  }
  for (const request of error.findDetails(BadRequestSchema)) {
    for (const violation of request.fieldViolations) {
      lines.push(`field: ${violation.field}: ${violation.description}`);
    }
  }
  for (const retry of error.findDetails(RetryInfoSchema)) {
    if (retry.retryDelay !== undefined) {
      lines.push(`retry after: ${Number(retry.retryDelay.seconds) + retry.retryDelay.nanos / 1e9}s`);
    }
  }
  return lines.join("\n");
}
