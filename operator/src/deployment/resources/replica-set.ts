/**
 * The ReplicaSet of a revision on one kind of hardware, and the serving pod in it. Pure. The pod meets Pod Security `restricted`; what it is told is
 * the contract with the inference server (`serverEnv`).
 */
import {
  annotations,
  labels as crdLabels,
  csi,
  type ModelDefaults,
  type ModelFile,
  pod,
  podFiles,
  ports,
  type SLMDeployment,
  serverEnv,
  serverPaths,
  type Toleration,
  trafficStates,
} from '@slm-operator/crds';
import type { KubeObject } from '../../execution/plan.ts';
import type { ResolvedEngine, Resources } from '../memory.ts';
import {
  CPU_TIER,
  foreignNamespaceOf,
  isPerNode,
  modelKeyOf,
  modelNameOf,
  replicaSetName,
  revisionLabels,
  revisionSelector,
  servedNamesOf,
  tlsSecretName,
} from '../names.ts';
import { stableJson, type WantedRevision } from '../revision.ts';
import { NOTHING } from '../traffic/state.ts';
import type { TemplateTraffic } from '../traffic/types.ts';
import { accessParts, type PodParts } from './access.ts';
import { childMetadata } from './owner.ts';

/** Seconds in which an ending pod still serves what comes: endpoints and proxies need them to stop sending. */
const SHUTDOWN_DELAY_SECONDS = 5;
/** Seconds that the process gets to end after the last request. */
const EXIT_SECONDS = 5;
const DEFAULT_DRAIN_SECONDS = 60;

/** What pods of a tier have besides what all have. */
export interface PodHardware {
  /** Name of the tier. */
  readonly tier: string;
  /** Value of SLM_DEVICE. Tier cpu has none: it is what servers do without devices, and what they did before there were tiers. */
  readonly device: string;
  /** Name of a ResourceClaimTemplate of the namespace, where devices are claimed rather than counted. */
  readonly claimTemplate?: string | undefined;
  readonly tolerations?: readonly Toleration[] | undefined;
  readonly runtimeClassName?: string | undefined;
  /** Groups that may open the device's files on the node. */
  readonly supplementalGroups?: readonly number[] | undefined;
  /** As in a pod. */
  readonly affinity?: object | undefined;
  /** Pods are spread over nodes as evenly as goes, where the user says nothing. Default true. */
  readonly spread?: boolean | undefined;
  /** Environment that the hardware's profile adds. */
  readonly env?: Readonly<Record<string, string>> | undefined;
}

export interface ReplicaSetInput {
  readonly deployment: SLMDeployment;
  readonly wanted: WantedRevision;
  readonly hardware: PodHardware;
  /** Server image. */
  readonly image: string;
  /** Number of the rollout. */
  readonly number: number;
  readonly replicas: number;
  /** The bytes that are served on this hardware. */
  readonly model: { readonly digest: string; readonly files: readonly Pick<ModelFile, 'path'>[] };
  /** Name of the model's revision. */
  readonly modelRevision?: string | undefined;
  /** What the model says of requests. */
  readonly defaults?: ModelDefaults | undefined;
  readonly engine: ResolvedEngine;
  /** Memory for prompts that the server remembers; 0 for none. */
  readonly promptCacheBytes: number;
  /** Devices that are counted are among them. */
  readonly resources: Resources;
  readonly imagePullPolicy: string;
  /** Whether the Service leads there, and what is passed on. */
  readonly traffic?: TemplateTraffic | undefined;
}

/** Of pods that get requests and pass none on. */
const TRAFFIC: TemplateTraffic = {
  labels: { [crdLabels.traffic]: trafficStates.open },
  annotations: { [annotations.traffic]: NOTHING },
};

/** Name of the claim inside a pod. */
const CLAIM = 'device';

/** The ReplicaSet of a revision on one kind of hardware. */
export function makeReplicaSet(input: ReplicaSetInput): KubeObject {
  const { deployment, wanted, number, replicas, model } = input;
  const { tier } = input.hardware;
  const { name } = deployment.metadata;
  const labels = revisionLabels(name, wanted.revision, modelNameOf(deployment), tier);
  const elsewhere = foreignNamespaceOf(deployment);
  return {
    apiVersion: 'apps/v1',
    kind: 'ReplicaSet',
    metadata: {
      ...childMetadata(deployment, replicaSetName(name, wanted.revision, tier)),
      labels,
      annotations: {
        [annotations.modelDigest]: model.digest,
        ...(input.modelRevision === undefined ? {} : { [annotations.modelRevision]: input.modelRevision }),
        ...(elsewhere === undefined ? {} : { [annotations.modelNamespace]: elsewhere }),
        [annotations.settingsHash]: wanted.settingsHash,
        [annotations.revisionNumber]: String(number),
        ...(isPerNode(deployment) ? { [annotations.placement]: 'PerNode' } : {}),
        ...(wanted.images === undefined ? {} : { [annotations.serverImages]: stableJson(wanted.images) }),
      },
    },
    spec: {
      replicas,
      selector: { matchLabels: revisionSelector(name, wanted.revision, tier) },
      template: makePodTemplate(input, labels),
    },
  } as KubeObject;
}

function makePodTemplate(input: ReplicaSetInput, labels: Record<string, string>): object {
  const { deployment, wanted, hardware, traffic = TRAFFIC } = input;
  const { spec } = deployment;
  const own = spec.podTemplate;
  const settings = own?.spec;
  const drainSeconds = spec.strategy?.drainTimeoutSeconds ?? DEFAULT_DRAIN_SECONDS;
  const access = accessParts(deployment);
  const tolerations = [...(settings?.tolerations ?? []), ...(hardware.tolerations ?? [])];
  return {
    metadata: {
      labels: { ...own?.metadata?.labels, ...labels, ...traffic.labels },
      annotations: { ...own?.metadata?.annotations, ...traffic.annotations },
    },
    spec: {
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      terminationGracePeriodSeconds: SHUTDOWN_DELAY_SECONDS + drainSeconds + EXIT_SECONDS,
      securityContext: {
        runAsNonRoot: true,
        runAsUser: pod.user,
        runAsGroup: pod.user,
        ...(hardware.supplementalGroups?.length ? { supplementalGroups: hardware.supplementalGroups } : {}),
        seccompProfile: { type: 'RuntimeDefault' },
      },
      ...(settings?.nodeSelector === undefined ? {} : { nodeSelector: settings.nodeSelector }),
      ...(hardware.affinity === undefined ? {} : { affinity: hardware.affinity }),
      ...(tolerations.length === 0 ? {} : { tolerations }),
      ...(hardware.runtimeClassName === undefined ? {} : { runtimeClassName: hardware.runtimeClassName }),
      ...(hardware.claimTemplate === undefined
        ? {}
        : { resourceClaims: [{ name: CLAIM, resourceClaimTemplateName: hardware.claimTemplate }] }),
      ...(settings?.priorityClassName === undefined ? {} : { priorityClassName: settings.priorityClassName }),
      ...(settings?.imagePullSecrets === undefined ? {} : { imagePullSecrets: settings.imagePullSecrets }),
      topologySpreadConstraints:
        settings?.topologySpreadConstraints ??
        (hardware.spread === false
          ? []
          : [
              {
                maxSkew: 1,
                topologyKey: 'kubernetes.io/hostname',
                whenUnsatisfiable: 'ScheduleAnyway',
                labelSelector: {
                  matchLabels: revisionSelector(deployment.metadata.name, wanted.revision, hardware.tier),
                },
              },
            ]),
      containers: [makeContainer(input, access, drainSeconds)],
      volumes: [
        {
          name: pod.modelVolume,
          csi: {
            driver: csi.driver,
            readOnly: true,
            volumeAttributes: {
              [csi.attributes.digest]: input.model.digest,
              [csi.attributes.model]: modelKeyOf(deployment),
            },
          },
        },
        {
          // The kubelet keeps these files as the pod says: a running server learns by them what to pass on.
          name: pod.infoVolume,
          downwardAPI: {
            items: [
              fieldFile(podFiles.traffic, `metadata.annotations['${annotations.traffic}']`),
              fieldFile(podFiles.revision, `metadata.labels['${crdLabels.revision}']`),
            ],
          },
        },
        ...access.volumes,
        ...(input.promptCacheBytes === 0
          ? []
          : [
              {
                name: pod.promptCacheVolume,
                emptyDir: { medium: 'Memory', sizeLimit: sizeOf(input.promptCacheBytes) },
              },
            ]),
        { name: 'tmp', emptyDir: { sizeLimit: '64Mi' } },
      ],
    },
  };
}

function makeContainer(input: ReplicaSetInput, access: PodParts, drainSeconds: number): object {
  // The kubelet does not verify the certificate of a probe.
  const scheme = tlsSecretName(input.deployment) === undefined ? {} : { scheme: 'HTTPS' };
  const probe = (path: string) => ({ httpGet: { path, port: 'ollama', ...scheme } });
  return {
    name: pod.container,
    image: input.image,
    imagePullPolicy: input.imagePullPolicy,
    ports: [
      { name: 'ollama', containerPort: ports.ollama, protocol: 'TCP' },
      { name: 'openai', containerPort: ports.openai, protocol: 'TCP' },
    ],
    env: makeEnv(input, access, drainSeconds),
    resources: {
      ...input.resources,
      ...(input.hardware.claimTemplate === undefined ? {} : { claims: [{ name: CLAIM }] }),
    },
    securityContext: {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    },
    volumeMounts: [
      { name: pod.modelVolume, mountPath: pod.modelPath, readOnly: true },
      { name: pod.infoVolume, mountPath: pod.infoPath, readOnly: true },
      ...access.mounts,
      ...(input.promptCacheBytes === 0 ? [] : [{ name: pod.promptCacheVolume, mountPath: pod.promptCachePath }]),
      { name: 'tmp', mountPath: '/tmp' },
    ],
    // Every second, so that a loaded model serves at once; half an hour, because a large one on a slow disk takes its time.
    // The rollout's own deadline says much earlier that nothing moves.
    startupProbe: { ...probe(serverPaths.readyz), periodSeconds: 1, timeoutSeconds: 2, failureThreshold: 1800 },
    readinessProbe: { ...probe(serverPaths.readyz), periodSeconds: 5, timeoutSeconds: 3, failureThreshold: 2 },
    // A minute: a busy server answers late, and a restart would cost its users more than the wait.
    livenessProbe: { ...probe(serverPaths.healthz), periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6 },
    // The last lines of a server that ended are what status shows.
    terminationMessagePolicy: 'FallbackToLogsOnError',
  };
}

function makeEnv(input: ReplicaSetInput, access: PodParts, drainSeconds: number): object[] {
  const { deployment, engine, model, hardware } = input;
  const own = deployment.spec.engine;
  const values: Record<string, string | number | undefined> = {
    [serverEnv.modelPath]: modelPath(model.files),
    [serverEnv.modelDigest]: model.digest,
    [serverEnv.modelDefaults]: input.defaults && JSON.stringify(input.defaults),
    [serverEnv.servedNames]: JSON.stringify(servedNamesOf(deployment)),
    // Always written out: the memory was computed from them, whatever the server's own defaults may become.
    [serverEnv.contextLength]: engine.contextLength,
    [serverEnv.parallelRequests]: engine.parallelRequests,
    [serverEnv.kvCacheType]: engine.kvCacheType,
    [serverEnv.promptCacheBytes]: input.promptCacheBytes,
    [serverEnv.device]: hardware.tier === CPU_TIER ? undefined : hardware.device,
    [serverEnv.gpuLayers]: hardware.tier === CPU_TIER ? undefined : own?.gpuLayers,
    [serverEnv.minTokensPerSecond]: deployment.spec.hardware?.minTokensPerSecond,
    [serverEnv.speculation]: own?.speculation?.type,
    [serverEnv.maxDraft]: own?.speculation?.maxDraft,
    [serverEnv.batchSize]: own?.batchSize,
    [serverEnv.threads]: own?.threads,
    [serverEnv.flashAttention]: own?.flashAttention,
    [serverEnv.maxQueue]: own?.maxQueue,
    ...access.env,
    [serverEnv.drainTimeoutSeconds]: drainSeconds,
    [serverEnv.shutdownDelaySeconds]: SHUTDOWN_DELAY_SECONDS,
    ...hardware.env,
  };
  return Object.entries(values)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => ({ name, value: String(value) }));
}

function fieldFile(path: string, fieldPath: string): object {
  return { path, fieldRef: { apiVersion: 'v1', fieldPath } };
}

/** Bytes as people write them, where that is exact. */
function sizeOf(bytes: number): string {
  return bytes % 2 ** 20 === 0 ? `${bytes / 2 ** 20}Mi` : String(bytes);
}

/**
 * What the server opens: the GGUF file, of a split one the first part; the folder where there is none. Projectors of
 * multimodal models lie beside the model and are not it.
 */
export function modelPath(files: readonly Pick<ModelFile, 'path'>[]): string {
  const [first] = files
    .map((file) => file.path)
    .filter((path) => path.toLowerCase().endsWith('.gguf') && !/(^|\/)mmproj/i.test(path))
    .sort();
  return first === undefined ? pod.modelPath : `${pod.modelPath}/${first}`;
}
