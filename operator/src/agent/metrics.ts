/** The agent's own metrics. Owns names and labels; what is counted comes from the puller and the store. */
import type { EntryState, Reason } from '@slm-operator/crds';
import { Counter, Gauge, type Registry } from 'prom-client';
import type { PullEntry } from './puller.ts';

/** A record, so that a new state does not compile without its place here. */
const states: Readonly<Record<EntryState, true>> = {
  Queued: true,
  Downloading: true,
  Verifying: true,
  Ready: true,
  Failed: true,
  Evicting: true,
};

export interface AgentMetrics {
  /** An attempt to pull a model ended: `Ready` or why it failed. */
  attempt(result: Reason): void;
  bytes(count: number): void;
}

export interface AgentMetricsOptions {
  readonly registry: Registry;
  readonly entries: () => readonly PullEntry[];
  /** Bytes that the store takes. */
  readonly storeBytes: () => Promise<number>;
}

export function makeAgentMetrics(options: AgentMetricsOptions): AgentMetrics {
  const registers = [options.registry];
  const downloads = new Counter({
    name: 'slm_agent_downloads_total',
    help: 'Attempts to pull a model that ended, by result: Ready, or the reason of the failure.',
    labelNames: ['result'],
    registers,
  });
  downloads.inc({ result: 'Ready' }, 0);
  const downloaded = new Counter({
    name: 'slm_agent_downloaded_bytes_total',
    help: 'Bytes that came from sources.',
    registers,
  });
  const storeBytes = new Gauge({
    name: 'slm_agent_store_bytes',
    registers: [],
    help: 'Bytes of verified and partial files in the store.',
    async collect() {
      this.set(await options.storeBytes());
    },
  });
  const byState = new Gauge({
    name: 'slm_agent_entries',
    registers: [],
    help: 'Models on this node or on their way, by state.',
    labelNames: ['state'],
    collect() {
      const entries = options.entries();
      for (const state of Object.keys(states))
        this.set({ state }, entries.filter((entry) => entry.state === state).length);
    },
  });
  for (const gauge of [storeBytes, byState]) options.registry.registerMetric(gauge);
  return {
    attempt: (result) => downloads.inc({ result }),
    bytes: (count) => downloaded.inc(count),
  };
}
