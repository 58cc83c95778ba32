/**
 * Metrics of evaluations on a schedule, as the last ones said. Owns names and labels. Only the operator that leads asks, so only it
 * has values.
 */
import { Gauge, type Registry } from 'prom-client';
import type { EvaluationResult } from './evaluations.ts';

/** @param results of all deployments that are evaluated */
export function registerEvaluationMetrics(registry: Registry, results: () => Iterable<EvaluationResult>): void {
  const perTest = (name: string, help: string, field: 'scores' | 'drifts') =>
    new Gauge({
      name,
      help,
      labelNames: ['namespace', 'name', 'test'],
      registers: [],
      collect() {
        this.reset();
        for (const result of results()) {
          const { namespace, name: deployment } = result;
          for (const [test, value] of result[field]) this.set({ namespace, name: deployment, test }, value);
        }
      },
    });
  const last = new Gauge({
    name: 'slm_eval_last_timestamp_seconds',
    help: 'When a deployment was last asked its smoke tests on schedule, in seconds since 1970.',
    labelNames: ['namespace', 'name'],
    registers: [],
    collect() {
      this.reset();
      for (const { namespace, name, at } of results()) if (at !== undefined) this.set({ namespace, name }, at / 1000);
    },
  });
  const errors = new Gauge({
    name: 'slm_eval_errors',
    help: 'Evaluations on schedule that could not be asked, since this operator leads.',
    labelNames: ['namespace', 'name'],
    registers: [],
    collect() {
      this.reset();
      for (const { namespace, name, errors: count } of results()) this.set({ namespace, name }, count);
    },
  });
  for (const metric of [
    perTest(
      'slm_eval_score',
      'How well a smoke test was answered, 0 to 1: the similarity to its golden answer, or whether it passed.',
      'scores',
    ),
    perTest(
      'slm_eval_drift',
      'How far the answer to a smoke test is from the first that this revision gave: 0 for the same, 1 for another altogether.',
      'drifts',
    ),
    last,
    errors,
  ])
    registry.registerMetric(metric);
}
