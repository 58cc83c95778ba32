/**
 * The CSI node service: a verified model appears read-only in a pod, and goes with it. Owns the order of checks and
 * mounts; keeps no record of its own, because the kernel's list of mounts is the record.
 */
import { mkdir, rmdir } from 'node:fs/promises';
import { type handleUnaryCall, type ServerUnaryCall, type sendUnaryData, status } from '@grpc/grpc-js';
import { hexOf } from '@slm-operator/crds/digest';
import type { Logger } from '../../runtime/log.ts';
import type { BlobStore } from '../blob-store.ts';
import { KeyedLock } from '../concurrency.ts';
import { isMissing } from '../durable-files.ts';
import { type Mount, type Mounter, publishedMounts } from '../mounts.ts';
import type { Puller } from '../puller.ts';
import type { NodePublishVolumeRequest, NodeUnpublishVolumeRequest } from './descriptors.ts';
import {
  checkNamespace,
  explainWait,
  mayMount,
  readVolumeRequest,
  VolumeError,
  type VolumeRequest,
} from './volume-request.ts';

/**
 * How long one call waits for bytes before it answers how far they are. Well below the kubelet's two minutes; long enough
 * that a small model is mounted by the first call, because the kubelet's pause between calls grows to two minutes.
 */
const WAIT_MS = 20_000;

export interface NodeServiceOptions {
  readonly nodeName: string;
  readonly kubeletDir: string;
  readonly store: Pick<BlobStore, 'pin' | 'check'>;
  readonly puller: Pick<Puller, 'find' | 'waitFor' | 'repair' | 'reconcile'>;
  readonly mounter: Mounter;
  readonly log: Logger;
  /** Default 20 000. */
  readonly waitMs?: number | undefined;
}

/** The service's methods, ready for `server.addService(nodeService, …)`. */
export function makeNodeService(options: NodeServiceOptions) {
  const volumes = new KeyedLock();
  const { log } = options;
  return {
    NodeGetInfo: unary(log, () => Promise.resolve({ nodeId: options.nodeName })),
    NodeGetCapabilities: unary(log, () => Promise.resolve({})),
    NodePublishVolume: unary<NodePublishVolumeRequest>(log, async (message, signal) => {
      const request = readVolumeRequest(message, options.kubeletDir);
      await volumes.run(request.targetPath, () => publish(options, request, signal), signal);
      return {};
    }),
    NodeUnpublishVolume: unary<NodeUnpublishVolumeRequest>(log, async ({ volumeId, targetPath }) => {
      if (volumeId === '' || targetPath === '') {
        throw new VolumeError(status.INVALID_ARGUMENT, 'volume_id and target_path must be set');
      }
      await volumes.run(targetPath, () => unpublish(options, targetPath));
      return {};
    }),
  };
}

async function publish(options: NodeServiceOptions, request: VolumeRequest, signal: AbortSignal): Promise<void> {
  const { puller, store, log } = options;
  const known = puller.find(request.digest);
  // A kubelet that starts again asks for what a pod has had all the time. It keeps that, even if it might not get it now.
  if ((known === undefined || !mayMount(request, known)) && (await isMounted(options, request))) return;
  // Before any waiting: somebody who may not have it learns nothing of its progress either.
  if (known !== undefined) checkNamespace(request, known);
  const entry = await puller.waitFor(request.digest, options.waitMs ?? WAIT_MS, signal);
  if (entry !== undefined) checkNamespace(request, entry);
  if (entry?.state !== 'Ready') throw explainWait(request, entry);
  if (!(await store.check(request.digest))) {
    await puller.repair(request.digest);
    throw new VolumeError(
      status.UNAVAILABLE,
      `model ${request.model}: files of it are missing on this node; it is pulled again`,
    );
  }
  const pinned = store.pin(request.digest);
  if (pinned === undefined) throw explainWait(request, undefined);
  try {
    await mount(options, request);
  } finally {
    pinned.release();
  }
  log.info({ digest: request.digest, model: request.model, pod: request.pod, target: request.targetPath }, 'mounted');
}

async function mount(options: NodeServiceOptions, request: VolumeRequest): Promise<void> {
  const { mounter } = options;
  const { targetPath } = request;
  const there = await mountsAt(options, targetPath);
  if (isAsAsked(options, request, there)) return;
  // Writable, or another revision in a volume that never changes its attributes: not made by us as it is. Make it anew.
  for (const _ of there) await mounter.unmount(targetPath);
  await mkdir(targetPath, { recursive: true, mode: 0o750 });
  await mounter.bindReadOnly(hexOf(request.digest), targetPath);
}

async function isMounted(options: NodeServiceOptions, request: VolumeRequest): Promise<boolean> {
  return isAsAsked(options, request, await mountsAt(options, request.targetPath));
}

/** Whether the only mount at the target is this very model, read-only. */
function isAsAsked(options: NodeServiceOptions, { digest }: VolumeRequest, there: readonly Mount[]): boolean {
  const [model] = publishedMounts(there, options.kubeletDir);
  return there.length === 1 && model?.hex === hexOf(digest) && model.options.includes('ro');
}

async function unpublish(options: NodeServiceOptions, targetPath: string): Promise<void> {
  const { mounter, puller, log } = options;
  const there = await mountsAt(options, targetPath);
  for (const _ of there) await mounter.unmount(targetPath);
  try {
    // Never recursive: if something is still mounted here, its files are not ours to delete.
    await rmdir(targetPath);
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
  if (there.length === 0) return;
  log.info({ target: targetPath }, 'unmounted');
  // Not awaited: removing gigabytes is nothing that the pod's end should wait for. The puller reports its own errors.
  void puller.reconcile();
}

/** All mounts at a target, also one whose folder is gone from the store and which is no model any more. */
async function mountsAt(options: NodeServiceOptions, targetPath: string): Promise<readonly Mount[]> {
  return (await options.mounter.list()).filter((candidate) => candidate.target === targetPath);
}

/** A gRPC method out of an async function: errors become statuses, a cancelled call aborts the signal. */
export function unary<Request>(
  log: Logger,
  handle: (request: Request, signal: AbortSignal) => Promise<object>,
): handleUnaryCall<Request, object> {
  return (call: ServerUnaryCall<Request, object>, answer: sendUnaryData<object>) => {
    const abort = new AbortController();
    call.on('cancelled', () => abort.abort(new VolumeError(status.CANCELLED, 'the kubelet cancelled the call')));
    handle(call.request, abort.signal).then(
      (response) => answer(null, response),
      (error: unknown) => {
        const failure =
          error instanceof VolumeError
            ? error
            : new VolumeError(status.INTERNAL, error instanceof Error ? error.message : String(error));
        log.warn({ method: call.getPath(), code: failure.code }, failure.message);
        answer({ code: failure.code, details: failure.message });
      },
    );
  };
}
