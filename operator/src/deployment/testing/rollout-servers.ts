/** What serving pods say of rollouts, for tests on a real API server: they follow their annotations, and answer as the test has it. */
import type { ReadyReport } from '@slm-operator/crds';
import { type KubeClient, Pod } from '../../kube/index.ts';
import { type Channel, makeChannel } from '../../runtime/controller.ts';
import type { Analyst } from '../analysis/analyst.ts';
import { revisionsUnderWay } from '../analysis/revisions-under-way.ts';
import type { GateState, SmokeState } from '../analysis/types.ts';
import { weightOf } from '../traffic/state.ts';

/** A server that has read its annotation says so. */
export async function trafficReport(client: KubeClient, namespace: string, ip: string): Promise<ReadyReport> {
  const { items } = await client.listAll(Pod, { namespace });
  const pod = items.find(({ status }) => status?.podIP === ip);
  if (pod === undefined) throw new Error(`no pod has ${ip}`);
  const weight = weightOf(pod);
  return { traffic: weight === undefined ? {} : { weight } };
}

/** Smoke tests and gates whose outcome the test decides. */
export class ScriptedAnalyst implements Analyst {
  readonly #channel: Channel = makeChannel('Analyst');
  readonly sources = [this.#channel];
  readonly #keys = new Set<string>();
  smoke: SmokeState['state'] = 'passed';
  gates: GateState['result'] = 'passed';

  look(key: string, { deployment }: Parameters<Analyst['look']>[1]): { smoke: SmokeState; gates: GateState } {
    this.#keys.add(key);
    const { candidate, subject } = revisionsUnderWay(deployment);
    const message = 'smoke test capital: the answer lacks "Paris": I do not know.';
    const why = 'error rate is 12.0 % of 250 requests, at most 5 % may fail';
    return {
      smoke:
        candidate === undefined
          ? { state: 'none', results: [] }
          : { candidate, state: this.smoke, message, results: [] },
      gates:
        subject === undefined
          ? { result: 'none', items: [], why: '' }
          : { subject, result: this.gates, items: [], why },
    };
  }

  /** What it says from now on. */
  say(change: { readonly smoke?: SmokeState['state']; readonly gates?: GateState['result'] }): void {
    Object.assign(this, change);
    for (const key of this.#keys) this.#channel.push(key);
  }

  forget(key: string): void {
    this.#keys.delete(key);
  }

  results(): [] {
    return [];
  }
}
