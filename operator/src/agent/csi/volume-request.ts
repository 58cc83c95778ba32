/**
 * Whether a pod may have the volume that it asks for. Pure. The attributes are the pod author's to choose; who asks
 * (`csi.storage.k8s.io/*`) comes from the kubelet.
 */
import { status } from '@grpc/grpc-js';
import { csi } from '@slm-operator/crds/contract';
import { isDigest } from '../model-files.ts';
import type { PullEntry } from '../puller.ts';
import { formatBytes, formatProgress, percentOf } from '../text.ts';
import type { NodePublishVolumeRequest } from './descriptors.ts';

/** An answer other than success: a gRPC status code and a sentence that ends up in an event of the pod. */
export class VolumeError extends Error {
  override readonly name = 'VolumeError';
  readonly code: status;

  constructor(code: status, message: string) {
    super(message);
    this.code = code;
  }
}

export interface VolumeRequest {
  readonly digest: string;
  readonly targetPath: string;
  /** For messages: as the pod calls the model. */
  readonly model: string;
  readonly pod: { readonly namespace: string; readonly name: string };
}

/** Longest name of a model that is repeated in a message. */
const MAX_NAME = 330;

/** Reads the kubelet's request; throws a VolumeError with INVALID_ARGUMENT that says what to write. */
export function readVolumeRequest(request: NodePublishVolumeRequest, kubeletDir: string): VolumeRequest {
  const { volumeContext: context, targetPath, volumeCapability } = request;
  if (request.volumeId === '' || targetPath === '') throw invalid('volume_id and target_path must be set');
  if (!targetPath.startsWith(`${kubeletDir}/`) || targetPath.split('/').includes('..')) {
    throw invalid(`target_path must be below ${kubeletDir}`);
  }
  // A container runtime makes a mount writable again for a container that asks for it, whatever it was on the node. Only
  // when the volume itself says readOnly does the kubelet ask for read-only in every container.
  if (!request.readonly) {
    throw invalid(
      `a model is read-only: write readOnly: true in the volume itself (volumes[].csi.readOnly), not only in volumeMounts`,
    );
  }
  if (volumeCapability?.block != null) throw invalid('a model cannot be mounted as a block device');
  if (context['csi.storage.k8s.io/ephemeral'] !== 'true') {
    throw invalid(
      `${csi.driver} serves inline volumes of pods only (volumes[].csi); a PersistentVolume cannot use it. Where this is an inline volume, the CSIDriver object ${csi.driver} must have podInfoOnMount: true`,
    );
  }
  const namespace = context['csi.storage.k8s.io/pod.namespace'];
  if (namespace === undefined || namespace === '') {
    throw invalid(
      `the kubelet does not say which pod this is for: the CSIDriver object ${csi.driver} must have podInfoOnMount: true`,
    );
  }
  const digest = context[csi.attributes.digest];
  if (digest === undefined || !isDigest(digest)) {
    throw invalid(
      `volumeAttributes.${csi.attributes.digest} must be the digest of a model revision, sha256: and 64 hex digits, as status.latestRevision.digest of the SLMModel has it`,
    );
  }
  return {
    digest,
    targetPath,
    model: (context[csi.attributes.model] || digest.slice(0, 17)).slice(0, MAX_NAME),
    pod: { namespace, name: context['csi.storage.k8s.io/pod.name'] ?? '' },
  };
}

/** Whether the operator named the pod's namespace for this revision. */
export function mayMount({ pod }: VolumeRequest, { namespaces }: Pick<PullEntry, 'namespaces'>): boolean {
  return namespaces.includes(pod.namespace);
}

/** Refuses a pod whose namespace the operator did not name for this revision. */
export function checkNamespace(request: VolumeRequest, entry: Pick<PullEntry, 'namespaces'>): void {
  if (mayMount(request, entry)) return;
  throw new VolumeError(
    status.PERMISSION_DENIED,
    `pods of namespace ${request.pod.namespace} may not mount model ${request.model}: no SLMModel in that namespace has this revision, and none elsewhere that has it is shared with that namespace. Create one there, or have the owner let the namespace in with spec.allowedNamespaces`,
  );
}

/** Why the volume cannot be mounted now; the kubelet asks again. */
export function explainWait(request: VolumeRequest, entry: PullEntry | undefined): VolumeError {
  const name = `model ${request.model}`;
  if (entry === undefined) {
    return new VolumeError(
      status.UNAVAILABLE,
      `${name}: the operator has not asked this node to hold it yet. Look at kubectl describe slmmodel and at the SLMNodeCache of this node`,
    );
  }
  if (entry.error !== undefined) {
    const code = entry.error.reason === 'InsufficientDisk' ? status.RESOURCE_EXHAUSTED : status.UNAVAILABLE;
    return new VolumeError(code, `${name}: ${entry.error.reason}: ${entry.error.message}`);
  }
  if (entry.state === 'Queued' && entry.bytesDone === 0) {
    return new VolumeError(status.UNAVAILABLE, `${name}: waits for its turn to pull ${formatBytes(entry.bytesTotal)}`);
  }
  if (percentOf(entry.bytesDone, entry.bytesTotal) === 100) {
    return new VolumeError(status.UNAVAILABLE, `${name}: verifying ${formatBytes(entry.bytesTotal)}`);
  }
  return new VolumeError(status.UNAVAILABLE, `${name}: pulling, ${formatProgress(entry)}`);
}

function invalid(message: string): VolumeError {
  return new VolumeError(status.INVALID_ARGUMENT, message);
}
