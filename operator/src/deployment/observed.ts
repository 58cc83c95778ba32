/** What a plan is made of: everything known of one SLMDeployment, as plain data. Types and small readers; pure. */
import { annotations, labels, type SLMDeployment, type SLMModel } from '@slm-operator/crds';
import type { NodeStock } from '../hardware/node-hardware.ts';
import type { NetworkPolicy, ObjectOf, Pod, PodDisruptionBudget, ReplicaSet, Service } from '../kube/resource.ts';
import type { Sharing } from '../model/sharing.ts';
import type { Fleet } from '../rollout/permission.ts';
import type { GateState, SmokeState } from './analysis/types.ts';
import type { CachesByNode } from './gate.ts';
import { CPU_TIER } from './names.ts';
import type { PodReport } from './pod-reports.ts';
import type { KeyPair } from './resources/api-keys.ts';
import type { BrokerAccess } from './resources/broker-config.ts';
import { BASE_IMAGE, type KnownRevision, type ServerImages } from './revision.ts';
import type { RevisionSize } from './rollout-planner.ts';
import type { TrafficServices } from './traffic/types.ts';

export type PodObject = ObjectOf<typeof Pod>;
export type ReplicaSetObject = ObjectOf<typeof ReplicaSet>;
export type ServiceObject = ObjectOf<typeof Service>;
export type DisruptionBudgetObject = ObjectOf<typeof PodDisruptionBudget>;
export type NetworkPolicyObject = ObjectOf<typeof NetworkPolicy>;

/** What is known of the Secret with API keys. */
export type ApiKeys =
  /** `auth.type: None`. */
  | { readonly state: 'unneeded' }
  | { readonly state: 'present' }
  /** Generated keys are not there yet; these may become them. */
  | { readonly state: 'to-make'; readonly keys: KeyPair }
  /** The Secret that the user names is not there. */
  | { readonly state: 'missing' };

/** What is known of the Secret with the certificate. */
export type TlsSecret =
  /** No `spec.tls`. */
  | { readonly state: 'unneeded' }
  | { readonly state: 'present' }
  | { readonly state: 'missing' }
  /** It lacks these. */
  | { readonly state: 'unusable'; readonly lacks: readonly string[] };

/** How pods may have tokens reviewed. */
export type Broker =
  /** Another `auth.type`. */
  | { readonly state: 'unneeded' }
  | { readonly state: 'ready'; readonly access: BrokerAccess }
  | { readonly state: 'missing'; readonly why: string };

export interface Observed {
  readonly deployment: SLMDeployment;
  /** The SLMModel that the spec names or makes. */
  readonly model: SLMModel | undefined;
  /** Whether it may be used from here. Absent: it may, being of the same namespace. */
  readonly sharing?: Sharing | undefined;
  /** An SLMModel made earlier for an inline source, which the spec no longer has. */
  readonly leftoverModel: SLMModel | undefined;
  /** Those that this deployment controls. */
  readonly replicaSets: readonly ReplicaSetObject[];
  /** All pods with this deployment's label. */
  readonly pods: readonly PodObject[];
  /** With a pod on each node: those on nodes that take no new ones, or match no more. They serve on, and nothing is planned with them. */
  readonly beside?: readonly PodObject[] | undefined;
  /** With what is free on them; what was promised to this deployment is not taken off. */
  readonly nodes: readonly NodeStock[];
  /** By node. */
  readonly caches: CachesByNode;
  readonly disruptionBudget: DisruptionBudgetObject | undefined;
  /** Default: there are none yet. */
  readonly services?: TrafficServices | undefined;
  readonly apiKeys: ApiKeys;
  readonly tls: TlsSecret;
  readonly broker: Broker;
  /** By pod: what the kubelet last said about a volume that does not mount. */
  readonly mountEvents: ReadonlyMap<string, string>;
  /** By uid of the pod: what its server says of itself, as far as it was asked. */
  readonly reports: ReadonlyMap<string, PodReport>;
  /** What there is of SLMRollouts. Absent: nobody looked, and there is none. */
  readonly fleet?: Fleet | undefined;
  /** What the smoke tests say of the revision that comes. Absent: nobody asks them. */
  readonly smoke?: SmokeState | undefined;
  /** What its gates say. Absent: nobody measures. */
  readonly gates?: GateState | undefined;
}

/** The revision in a ReplicaSet's label. */
export function revisionOf(set: ReplicaSetObject): string {
  return set.metadata?.labels?.[labels.revision] ?? '';
}

/** Number of the rollout that a ReplicaSet was last the goal of. */
export function numberOf(set: ReplicaSetObject): number {
  return Number(set.metadata?.annotations?.[annotations.revisionNumber] ?? 0) || 0;
}

/** The tier of a ReplicaSet; those made before there were tiers are tier cpu. */
export function tierOf(set: ReplicaSetObject): string {
  return set.metadata?.labels?.[labels.tier] ?? CPU_TIER;
}

export function knownRevision(set: ReplicaSetObject): KnownRevision {
  const images = recordedImages(set);
  return {
    revision: revisionOf(set),
    settingsHash: set.metadata?.annotations?.[annotations.settingsHash] ?? '',
    // Of another tier the container has another variant of the image, so what was written down goes first.
    image: images?.[BASE_IMAGE] ?? set.spec?.template?.spec?.containers[0]?.image ?? '',
    ...(images === undefined ? {} : { images }),
    number: numberOf(set),
  };
}

function recordedImages(set: ReplicaSetObject): ServerImages | undefined {
  const text = set.metadata?.annotations?.[annotations.serverImages];
  if (text === undefined) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== 'object' || value === null) return undefined;
    return Object.fromEntries(Object.entries(value).filter(([, image]) => typeof image === 'string')) as ServerImages;
  } catch {
    // Somebody else wrote there. The container still says which image it has.
    return undefined;
  }
}

/** Sizes of a ReplicaSet. A status that does not speak of the present spec yet counts as far as it cannot be too good. */
export function sizeOf(set: ReplicaSetObject): RevisionSize {
  return {
    name: set.metadata?.name ?? '',
    number: numberOf(set),
    revision: revisionOf(set),
    tier: tierOf(set),
    desired: set.spec?.replicas ?? 1,
    current: set.status?.replicas ?? 0,
    available: set.status?.availableReplicas ?? 0,
  };
}

/** True when a ReplicaSet has pods, or is to have some. */
export function hasPods(set: ReplicaSetObject): boolean {
  return (set.spec?.replicas ?? 1) > 0 || (set.status?.replicas ?? 0) > 0;
}
