/**
 * Kubernetes objects as the wire carries them, and the description of a resource that the client needs to build its
 * URL. Owns `Wire`, `KubeObject`, `ResourceType`, keys and the core kinds; never talks to a server.
 */
import type {
  V1APIService,
  V1ConfigMap,
  V1CustomResourceDefinition,
  V1DaemonSet,
  V1Deployment,
  V1EndpointSlice,
  V1Lease,
  V1Namespace,
  V1NetworkPolicy,
  V1Node,
  V1PersistentVolumeClaim,
  V1Pod,
  V1PodDisruptionBudget,
  V1ReplicaSet,
  V1ResourceClaimTemplate,
  V1Secret,
  V1Service,
  V1ServiceAccount,
  V1TokenReview,
} from '@kubernetes/client-node';

/**
 * A type of `@kubernetes/client-node` as it looks in raw JSON: every `Date` is an RFC 3339 string, at any depth.
 * The client never parses dates, so read-modify-write loses neither unknown fields nor microseconds.
 */
export type Wire<T> = T extends Date
  ? string
  : T extends readonly (infer Item)[]
    ? Wire<Item>[]
    : T extends object
      ? { [Key in keyof T]: Wire<T[Key]> }
      : T;

/** Who owns an object; the garbage collector follows `uid`. */
export interface OwnerReference {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly uid: string;
  readonly controller?: boolean | undefined;
  readonly blockOwnerDeletion?: boolean | undefined;
}

/** The parts of `metadata` that the runtime reads. Objects from a server carry more, and keep it. */
export interface ObjectMeta {
  readonly name?: string | undefined;
  readonly generateName?: string | undefined;
  readonly namespace?: string | undefined;
  readonly uid?: string | undefined;
  readonly resourceVersion?: string | undefined;
  readonly generation?: number | undefined;
  readonly creationTimestamp?: string | undefined;
  readonly deletionTimestamp?: string | undefined;
  readonly labels?: { readonly [key: string]: string } | undefined;
  readonly annotations?: { readonly [key: string]: string } | undefined;
  readonly finalizers?: readonly string[] | undefined;
  readonly ownerReferences?: readonly OwnerReference[] | undefined;
}

/** Anything the API server stores. `apiVersion` and `kind` are filled in by the client where a list leaves them out. */
export interface KubeObject {
  readonly apiVersion?: string | undefined;
  readonly kind?: string | undefined;
  readonly metadata?: ObjectMeta | undefined;
}

declare const objectType: unique symbol;

/** What the client needs to know of a resource. `T` is the object's type on the wire. */
export interface ResourceType<T extends KubeObject = KubeObject> {
  /** API group; the empty string is the core group. */
  readonly group: string;
  readonly version: string;
  /** Lower-case plural as in the URL. */
  readonly plural: string;
  readonly kind: string;
  readonly namespaced: boolean;
  /** Never set: carries `T` for inference. */
  readonly [objectType]?: T;
}

/** Describes a resource, for example a custom one: `defineResource<Widget>({group: 'example.com', …})`. */
export function defineResource<T extends KubeObject>(type: {
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly kind: string;
  readonly namespaced: boolean;
}): ResourceType<T> {
  return Object.freeze({ ...type });
}

/** The object type of a resource: `ObjectOf<typeof Pod>`. */
export type ObjectOf<R> = R extends ResourceType<infer T> ? T : never;

/** `v1` or `group/version`. */
export function apiVersionOf(type: ResourceType): string {
  return type.group === '' ? type.version : `${type.group}/${type.version}`;
}

/** `plural` or `plural.group`: the resource's name in logs, metrics and RBAC. */
export function resourceName(type: ResourceType): string {
  return type.group === '' ? type.plural : `${type.plural}.${type.group}`;
}

/** An object's place in its resource. `namespace` is absent for cluster-scoped objects. */
export interface ObjectRef {
  readonly name: string;
  readonly namespace?: string | undefined;
}

/** `namespace/name`, or `name` for a cluster-scoped object: the key of stores and queues. */
export function keyOf(object: KubeObject | ObjectRef): string {
  const { name, namespace } = refOf(object);
  return namespace === undefined || namespace === '' ? name : `${namespace}/${name}`;
}

/** The key for a name in a namespace; without a namespace, the name. */
export function makeKey(namespace: string | undefined, name: string): string {
  return keyOf({ name, namespace });
}

/** The inverse of {@link keyOf}. */
export function parseKey(key: string): ObjectRef {
  const slash = key.indexOf('/');
  return slash < 0 ? { name: key } : { namespace: key.slice(0, slash), name: key.slice(slash + 1) };
}

/** Name and namespace of an object. Throws when it has no name: such an object never came from a server. */
export function refOf(object: KubeObject | ObjectRef): ObjectRef {
  const meta = 'name' in object ? object : object.metadata;
  if (meta?.name === undefined || meta.name === '') {
    throw new Error('the object has no metadata.name: set it before the object is used as a key');
  }
  return meta.namespace === undefined ? { name: meta.name } : { name: meta.name, namespace: meta.namespace };
}

/** A reference that makes `owner` the one controller of an object; the object goes when the owner goes. */
export function controllerReference<T extends KubeObject>(
  type: ResourceType<T>,
  owner: NoInfer<T>,
): {
  apiVersion: string;
  kind: string;
  name: string;
  uid: string;
  controller: boolean;
  blockOwnerDeletion: boolean;
} {
  const { name } = refOf(owner);
  const uid = owner.metadata?.uid;
  if (uid === undefined) throw new Error(`${type.kind} ${name} has no uid: only a stored object can own another`);
  return { apiVersion: apiVersionOf(type), kind: type.kind, name, uid, controller: true, blockOwnerDeletion: true };
}

/** The reference of the one owner that controls this object, if any. */
export function controllerOf(object: KubeObject): OwnerReference | undefined {
  return object.metadata?.ownerReferences?.find((owner) => owner.controller === true);
}

/** `events.k8s.io/v1`, with what the server requires; client-node's own type wants `Date` classes. */
export interface EventObject extends KubeObject {
  readonly eventTime: string;
  readonly reportingController: string;
  readonly reportingInstance: string;
  readonly action: string;
  readonly reason: string;
  readonly type: 'Normal' | 'Warning';
  readonly note: string;
  readonly regarding: ObjectReference;
  readonly related?: ObjectReference | undefined;
  readonly series?: { readonly count: number; readonly lastObservedTime: string } | undefined;
}

/** `v1` ObjectReference. */
export interface ObjectReference {
  readonly apiVersion?: string | undefined;
  readonly kind?: string | undefined;
  readonly name?: string | undefined;
  readonly namespace?: string | undefined;
  readonly uid?: string | undefined;
  readonly resourceVersion?: string | undefined;
  readonly fieldPath?: string | undefined;
}

type Scope = 'cluster' | 'namespaced';
function builtIn<T>(group: string, version: string, plural: string, kind: string, scope: Scope) {
  return defineResource<Wire<T> & KubeObject>({ group, version, plural, kind, namespaced: scope === 'namespaced' });
}

export const Node = builtIn<V1Node>('', 'v1', 'nodes', 'Node', 'cluster');
export const Namespace = builtIn<V1Namespace>('', 'v1', 'namespaces', 'Namespace', 'cluster');
export const Pod = builtIn<V1Pod>('', 'v1', 'pods', 'Pod', 'namespaced');
export const Secret = builtIn<V1Secret>('', 'v1', 'secrets', 'Secret', 'namespaced');
export const ConfigMap = builtIn<V1ConfigMap>('', 'v1', 'configmaps', 'ConfigMap', 'namespaced');
export const Service = builtIn<V1Service>('', 'v1', 'services', 'Service', 'namespaced');
export const ServiceAccount = builtIn<V1ServiceAccount>('', 'v1', 'serviceaccounts', 'ServiceAccount', 'namespaced');
export const PersistentVolumeClaim = builtIn<V1PersistentVolumeClaim>(
  '',
  'v1',
  'persistentvolumeclaims',
  'PersistentVolumeClaim',
  'namespaced',
);
export const Deployment = builtIn<V1Deployment>('apps', 'v1', 'deployments', 'Deployment', 'namespaced');
export const ReplicaSet = builtIn<V1ReplicaSet>('apps', 'v1', 'replicasets', 'ReplicaSet', 'namespaced');
export const DaemonSet = builtIn<V1DaemonSet>('apps', 'v1', 'daemonsets', 'DaemonSet', 'namespaced');
export const PodDisruptionBudget = builtIn<V1PodDisruptionBudget>(
  'policy',
  'v1',
  'poddisruptionbudgets',
  'PodDisruptionBudget',
  'namespaced',
);
export const NetworkPolicy = builtIn<V1NetworkPolicy>(
  'networking.k8s.io',
  'v1',
  'networkpolicies',
  'NetworkPolicy',
  'namespaced',
);
export const EndpointSlice = builtIn<V1EndpointSlice>(
  'discovery.k8s.io',
  'v1',
  'endpointslices',
  'EndpointSlice',
  'namespaced',
);
export const Lease = builtIn<V1Lease>('coordination.k8s.io', 'v1', 'leases', 'Lease', 'namespaced');
export const ResourceClaimTemplate = builtIn<V1ResourceClaimTemplate>(
  'resource.k8s.io',
  'v1',
  'resourceclaimtemplates',
  'ResourceClaimTemplate',
  'namespaced',
);
export const TokenReview = builtIn<V1TokenReview>(
  'authentication.k8s.io',
  'v1',
  'tokenreviews',
  'TokenReview',
  'cluster',
);
export const CustomResourceDefinition = builtIn<V1CustomResourceDefinition>(
  'apiextensions.k8s.io',
  'v1',
  'customresourcedefinitions',
  'CustomResourceDefinition',
  'cluster',
);
export const APIService = builtIn<V1APIService>('apiregistration.k8s.io', 'v1', 'apiservices', 'APIService', 'cluster');
export const Event = defineResource<EventObject>({
  group: 'events.k8s.io',
  version: 'v1',
  plural: 'events',
  kind: 'Event',
  namespaced: true,
});
