/**
 * The entry. Owns nothing but the choice of what this process is: the supervisor, the server that the supervisor starts, or with
 * `--health` a question to the server that runs beside it. Imports late, so that each loads only what it needs.
 */
import { fail } from './failures.ts';
import { workerState } from './worker-state.ts';

process.on('uncaughtException', (error) => fail(error));
try {
  const state = workerState(process.argv);
  if (process.argv.includes('--health')) {
    const { healthUrl, isHealthy } = await import('./health-check.ts');
    process.exit((await isHealthy(healthUrl(process.env))) ? 0 : 1);
  } else if (state === undefined && process.env['SLM_SUPERVISE']?.trim().toLowerCase() !== 'false') {
    const { supervise } = await import('./supervisor.ts');
    await supervise(process.env);
  } else {
    const { serve } = await import('./worker.ts');
    await serve(process.env, state);
  }
} catch (error) {
  fail(error);
}
