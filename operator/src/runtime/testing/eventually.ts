/**
 * Waits for something to become true, by asking again and again; says what was missing when it does not.
 */
import { setTimeout as delay } from 'node:timers/promises';

/**
 * Resolves with what `probe` answers once it neither throws nor answers false or undefined. Rejects with its last
 * complaint after `timeoutMs` (default 30 000).
 */
export async function eventually<T>(
  probe: () => T | Promise<T>,
  options: { readonly timeoutMs?: number; readonly everyMs?: number } = {},
): Promise<NonNullable<T>> {
  const { timeoutMs = 30_000, everyMs = 5 } = options;
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    let complaint: unknown = new Error(`not true within ${timeoutMs} ms: ${probe.toString()}`);
    try {
      const answer = await probe();
      if (answer !== false && answer !== undefined && answer !== null) return answer;
    } catch (error) {
      complaint = error;
    }
    if (performance.now() > deadline) throw complaint;
    await delay(everyMs);
  }
}
