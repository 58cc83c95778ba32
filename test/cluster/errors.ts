/** Owns the one error that is the user's to solve, as against a defect of ours. */

/** Its message is one or two sentences that say what to do; it is shown without a stack. */
export class UserError extends Error {
  override name = 'UserError';
}

/** The last lines of a text, for an error message that quotes a log. */
export function lastLines(text: string, count = 8): string {
  return text.trimEnd().split('\n').slice(-count).join('\n');
}
