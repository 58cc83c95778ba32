/**
 * The entry. Owns nothing but the choice of what this process is: the supervisor, or the server that the supervisor starts.
 * Imports late, so that each of the two loads only what it needs.
 */
import { fail } from './failures.ts';
import { workerState } from './worker-state.ts';

process.on('uncaughtException', (error) => fail(error));
try {
  const state = workerState(process.argv);
  if (state === undefined && process.env['SLM_SUPERVISE']?.trim().toLowerCase() !== 'false') {
    const { supervise } = await import('./supervisor.ts');
    await supervise(process.env);
  } else {
    const { serve } = await import('./worker.ts');
    await serve(process.env, state);
  }
} catch (error) {
  fail(error);
}
