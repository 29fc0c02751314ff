/** A mistake in what the user gave, or a limit of this browser: its message is shown as it is. */
export class UserError extends Error {
  override name = "UserError";
}

/** The sentence that a person reads for any error. */
export function sentence(error: unknown): string {
  if (error instanceof UserError) return error.message;
  const text = error instanceof Error ? error.message : String(error);
  return `Something went wrong that should not: ${text}. Reload the page.`;
}
