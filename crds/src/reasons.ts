/**
 * Every reason that a condition, an event, `blockedBy` or a cache entry may carry, with what it means. One closed union, so
 * that a reason without documentation does not compile.
 */
export const reasons = {
  // Ready and Reconciling
  Ready: 'Everything asked for is there.',
  Progressing: 'Work towards the spec goes on.',
  Suspended: 'spec.suspend is true: nothing is resolved or pulled.',
  ScaledToZero: 'replicas is 0: nothing runs, as asked.',
  Paused: 'spec.paused is true: the rollout stands still.',
  // Resolved
  Resolved: 'The source was resolved to a digest.',
  Resolving: 'The source is being asked.',
  Unauthorized: 'The source wants a credential, or refuses the one that it got.',
  NotFound: 'The source has no such repository, revision or file.',
  TLSUntrusted: 'The certificate of the source is not signed by a trusted authority.',
  NameResolutionFailed: 'The host name of the source has no address.',
  ConnectionFailed: 'The source refused the connection, or none came about in time.',
  SourceUnavailable: 'The source answered with a server error or too many requests.',
  SourceInvalid: 'The source answered, but not in a form that can be used.',
  AmbiguousFiles: 'The repository holds several models and the spec does not say which.',
  NotAModel: 'The file is not a model of a known format.',
  Truncated: 'The file is shorter than its header or the source says.',
  SecretNotFound: 'The Secret or ConfigMap that the spec names is not there, or lacks the key.',
  // Verified
  Verified: 'The bytes have the digest that they must have.',
  Verifying: 'No node has all bytes yet.',
  DigestMismatch: 'The bytes have another digest than asked for; none of them is kept.',
  NotRequired: 'Nothing to verify beyond what the source says.',
  // Cached
  Cached: 'Every node that is to hold the model holds it.',
  Downloading: 'Nodes are pulling the bytes.',
  Queued: 'A node has not begun to pull.',
  InsufficientDisk: 'The model does not fit on the disk of a node.',
  NoMatchingNodes: 'No node matches.',
  NotWanted: 'prePull.policy is None, or no deployment uses the model: no node pulls it ahead.',
  PullFailed: 'A node could not pull the bytes.',
  AgentNotReady: 'The agent of a node has not reported.',
  // SLMDeployment
  ModelNotFound: 'The SLMModel that the spec names is not there.',
  ModelNotReady: 'The SLMModel has no usable revision yet.',
  ModelConflict: 'An SLMModel of this name exists and belongs to somebody else.',
  WaitingForBytes: 'The bytes of the revision are not yet on every node where its pods may run.',
  WaitingForPods: 'Pods are starting.',
  Scheduled: 'Every pod has a node.',
  Unschedulable: 'The scheduler finds no node for a pod.',
  ImagePullFailed: 'A node cannot get the server image.',
  ContainerFailed: 'The server ended with an error.',
  OutOfMemory: 'The server was ended for using more memory than its limit.',
  MountPending: 'A pod waits for its model volume.',
  QuotaExceeded: 'A quota refuses the pods.',
  PodsRefused: 'The API server refuses the pods.',
  Available: 'Enough pods are available.',
  Unavailable: 'Too few pods are available.',
  ProgressDeadlineExceeded: 'The rollout made no progress within its deadline.',
  RollingUpdate: 'Pods move to a new revision.',
  RolloutComplete: 'All pods run the newest revision.',
  APIKeySecretNotFound: 'auth.secretRef names a Secret that is not there.',
  TLSSecretNotFound: 'tls.secretRef names a Secret that is not there, or that holds no certificate and key.',
  BrokerNotReady:
    'auth.type is ServiceAccount, and the operator has no certificate or address yet for reviewing tokens.',
  ChildConflict: 'An object of a needed name exists and belongs to somebody else.',
  WriteRefused: 'The API server refuses an object that is needed.',
  // events
  RevisionResolved: 'A source was resolved to a new revision.',
  PullProgress: 'A quarter more of the bytes is on the nodes.',
  PullComplete: 'All nodes hold the revision.',
  ScalingReplicaSet: 'A ReplicaSet of a revision changed its size.',
  RevisionCreated: 'A ReplicaSet for a new revision was made.',
} as const;

export type Reason = keyof typeof reasons;
