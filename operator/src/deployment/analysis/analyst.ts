/**
 * Everything that asks and measures serving pods for rollouts, put together for the deployment controller. Owns how the parts reach
 * the cluster: Secrets and tokens, pods of embedders, notes on ReplicaSets. Decides nothing.
 */
import type { SLMDeployment } from '@slm-operator/crds';
import type { KubeClient } from '../../kube/client.ts';
import { makeKey, ReplicaSet } from '../../kube/resource.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Source } from '../../runtime/controller.ts';
import type { Logger } from '../../runtime/log.ts';
import type { PodObject, ReplicaSetObject } from '../observed.ts';
import { askable, type EvaluationResult, type Evaluations, makeEvaluations } from './evaluations.ts';
import { type Meters, makeMeters } from './meters.ts';
import { AskError, makeModelClient } from './model-client.ts';
import { makeOperatorAccess } from './operator-access.ts';
import { revisionsUnderWay } from './revisions-under-way.ts';
import { type AskedPod, runSmokeTests } from './smoke-tests.ts';
import type { GateState, SmokeState } from './types.ts';

export interface AnalystOptions {
  readonly client: Pick<KubeClient, 'find' | 'request' | 'patch'>;
  /** The operator's own ServiceAccount, for deployments whose clients have one. */
  readonly serviceAccount: { readonly namespace: string; readonly name: string };
  /** By `namespace/name`. */
  readonly findDeployment: (key: string) => SLMDeployment | undefined;
  /** By `namespace/name` of their deployment. */
  readonly podsOf: (key: string) => readonly PodObject[];
  readonly clock: Clock;
  readonly log?: Pick<Logger, 'info' | 'warn'> | undefined;
}

/** What is to be looked at. */
export interface Sight {
  readonly deployment: SLMDeployment;
  readonly pods: readonly PodObject[];
  readonly sets: readonly ReplicaSetObject[];
}

export interface Analyst {
  readonly sources: readonly Source[];
  /** What is known now; asks and measures in the background what is not. */
  look(key: string, sight: Sight): { readonly smoke: SmokeState; readonly gates: GateState };
  /** A deployment that is gone. */
  forget(key: string): void;
  /** Of evaluations on schedule. */
  results(): Iterable<EvaluationResult>;
}

export function makeAnalyst(options: AnalystOptions): Analyst {
  const { client, serviceAccount, clock, log } = options;
  const run = {
    client: makeModelClient(),
    access: makeOperatorAccess({ client, serviceAccount, clock }),
    embedderOf: embedders(options),
    clock,
  };
  return joinAnalyst(
    makeMeters({ clock }),
    makeEvaluations({
      ask: (pod, tests, rest) => runSmokeTests(run, pod, tests, rest),
      annotate: (set, annotations) => annotate(client, set, annotations),
      log,
      clock,
    }),
  );
}

/** An analyst of these parts. */
export function joinAnalyst(meters: Meters, evaluations: Evaluations): Analyst {
  return {
    sources: [meters.source, evaluations.source],
    look(key, { deployment, pods, sets }) {
      const { candidate, subject, serving } = revisionsUnderWay(deployment);
      const { strategy, tls } = deployment.spec;
      return {
        smoke: evaluations.look(key, { deployment, candidate, serving, pods, sets }),
        gates: meters.look(key, { analysis: strategy?.analysis, subject, pods, tls: tls !== undefined }),
      };
    },
    forget(key) {
      meters.forget(key);
      evaluations.forget(key);
    },
    results: () => evaluations.results(),
  };
}

function embedders({ findDeployment, podsOf }: AnalystOptions) {
  return ({ metadata }: SLMDeployment, name: string): AskedPod => {
    const key = makeKey(metadata.namespace, name);
    const deployment = findDeployment(key);
    if (deployment === undefined) {
      throw new AskError('unreachable', `there is no SLMDeployment ${name} in namespace ${metadata.namespace}`);
    }
    const [pod] = askable(podsOf(key));
    if (pod === undefined) throw new AskError('unreachable', 'it has no pod that is ready');
    return { deployment, ip: pod.status?.podIP ?? '' };
  };
}

async function annotate(
  client: AnalystOptions['client'],
  { metadata }: ReplicaSetObject,
  annotations: Readonly<Record<string, string>>,
): Promise<void> {
  const { name = '', namespace = '' } = metadata ?? {};
  await client.patch(ReplicaSet, { name, namespace }, 'merge', { metadata: { annotations } });
}
