/**
 * The rollout controller: in which order deployments take over new revisions. Writes the status of SLMRollouts and nothing else: who is
 * admitted is read there by the deployment controller, and no spec is ever edited.
 */
import type { SLMRollout as Rollout, SLMRolloutStatus } from '@slm-operator/crds';
import { modelKeyOf } from '../deployment/names.ts';
import { deploymentKeyOf, managed } from '../deployment/observe.ts';
import type { ServerImages } from '../deployment/revision.ts';
import { isAlike } from '../deployment/revision.ts';
import { executePlan, FIELD_MANAGER } from '../execution/execute.ts';
import { SLMDeployment, SLMModel, SLMRollout } from '../execution/kinds.ts';
import { done, type Plan } from '../execution/plan.ts';
import { keyOf, Namespace, ReplicaSet } from '../kube/resource.ts';
import { makeApplier } from '../runtime/apply.ts';
import { type Clock, systemClock } from '../runtime/clock.ts';
import { type Controller, defineController, watches } from '../runtime/controller.ts';
import type { EventRecorder } from '../runtime/events.ts';
import type { Manager } from '../runtime/manager.ts';
import { type Members, membersOf } from './members.ts';
import { rolloutStatus } from './rollout-status.ts';
import { retryOf, rolloutsTouched } from './wakes.ts';
import { planWaves } from './wave-planner.ts';
import { windowAt } from './window.ts';

export interface RolloutControllerOptions {
  readonly manager: Pick<Manager, 'client' | 'store'>;
  readonly recorder: Pick<EventRecorder, 'record'>;
  /** Server images of this operator. */
  readonly images: ServerImages;
  /** Default: the system's. */
  readonly clock?: Clock | undefined;
}

/** Index of ReplicaSets by `namespace/name` of their deployment, as the deployment controller has it. */
const BY_DEPLOYMENT = 'deployment';
/** Longest time that a store is believed to lag behind a write of ours, milliseconds. */
const LAG_MS = 5000;

/** The last status that this process wrote for a rollout. */
interface Written {
  readonly at: number;
  readonly uid: string | undefined;
  readonly status: SLMRolloutStatus;
}

/** The controller; give it to `manager.add`. */
export function makeRolloutController(options: RolloutControllerOptions): Controller {
  const { manager, recorder, images, clock = systemClock } = options;
  const { client } = manager;
  const applier = makeApplier({ client, fieldManager: FIELD_MANAGER });
  const rollouts = manager.store(SLMRollout);
  const deployments = manager.store(SLMDeployment);
  const models = manager.store(SLMModel);
  const namespaces = manager.store(Namespace);
  const sets = manager.store(ReplicaSet, { ...managed, indexes: { [BY_DEPLOYMENT]: deploymentKeyOf } });
  const written = new Map<string, Written>();

  const withOwnWrite = (key: string, stored: Rollout): Rollout => {
    const last = written.get(key);
    const isBehind =
      last !== undefined &&
      last.uid === stored.metadata.uid &&
      clock.now() - last.at < LAG_MS &&
      !isAlike(stored.status, last.status);
    return isBehind ? { ...stored, status: last.status } : stored;
  };

  return defineController({
    name: 'rollout',
    sources: [watches(SLMRollout), rolloutsTouched(rollouts)],
    async reconcile(key, { signal, log }) {
      const stored = rollouts.get(key);
      if (stored === undefined || stored.metadata.deletionTimestamp !== undefined) {
        written.delete(key);
        return done;
      }
      const rollout = withOwnWrite(key, stored);
      const found = membersOf({
        rollout,
        rollouts: rollouts.list(),
        deployments: deployments.list(),
        modelOf: (deployment) => models.get(modelKeyOf(deployment)),
        setsOf: (deployment) => sets.byIndex(BY_DEPLOYMENT, keyOf(deployment)),
        namespaceLabels: (name) => namespaces.get(name)?.metadata?.labels,
        images,
      });
      const plan = planRolloutOf(rollout, found, clock.now());
      const { outcome, writes } = await executePlan({
        client,
        recorder,
        applier,
        type: SLMRollout,
        owner: stored,
        plan,
        signal,
      });
      if (writes > 0 && plan.status !== undefined) {
        written.set(key, { at: clock.now(), uid: stored.metadata.uid, status: plan.status });
        log.debug({ rollout: key, notes: plan.notes }, 'rollout status written');
      }
      return outcome;
    },
  });
}

/** Everything about one rollout. Pure. */
export function planRolloutOf(rollout: Rollout, { members, elsewhere }: Members, now: number): Plan<SLMRolloutStatus> {
  const retry = retryOf(rollout.metadata);
  const window = windowAt(rollout.spec.window, now);
  const { spec, status } = rollout;
  const plan = planWaves({ spec, status, retry, members, open: window.state === 'open', now });
  const told = rolloutStatus({ rollout, plan, window, elsewhere, retry, now });
  return { apply: [], remove: [], ...told, notes: plan.notes };
}
