/**
 * The contract between operator, node agent and inference server: names, paths, ports, environment.
 * Owns every string that two of these processes must agree on; holds no logic. A value here is part of the upgrade
 * contract: a new operator must still understand pods, nodes and volumes made by the release before it.
 */

/** API group and version of every kind. */
export const GROUP = 'slm.dev';
export const VERSION = 'v1alpha1';
export const API_VERSION = `${GROUP}/${VERSION}` as const;

/** Labels and annotations that the operator writes. */
export const labels = {
  deployment: 'slm.dev/deployment',
  revision: 'slm.dev/revision',
  model: 'slm.dev/model',
  /** Kind of hardware that a ReplicaSet's pods run on: the name of a tier. */
  tier: 'slm.dev/tier',
  /** On pods and in the templates of ReplicaSets, never in their selectors: whether the Service leads there; see `trafficStates`. */
  traffic: 'slm.dev/traffic',
  name: 'app.kubernetes.io/name',
  instance: 'app.kubernetes.io/instance',
  component: 'app.kubernetes.io/component',
  managedBy: 'app.kubernetes.io/managed-by',
} as const;
export const annotations = {
  /** On everything that the operator applies: hash of what it asked for, so that a new leader can see that nothing is to be done. */
  applied: 'slm.dev/applied',
  /** On a ReplicaSet: digest of the model revision that its pods mount. */
  modelDigest: 'slm.dev/model-digest',
  /** On a ReplicaSet: namespace of its SLMModel, where that is another than its own. */
  modelNamespace: 'slm.dev/model-namespace',
  /** On a ReplicaSet: name of the revision of the SLMModel that its revision was made from. */
  modelRevision: 'slm.dev/model-revision',
  /** On a ReplicaSet: hash of everything but the image, so that a new default image alone is no new revision. */
  settingsHash: 'slm.dev/settings-hash',
  /** On a ReplicaSet: monotonically growing number, as `kubectl rollout history` counts. */
  revisionNumber: 'slm.dev/revision-number',
  /** On a ReplicaSet: JSON of the server images of its revision, by image variant, for tiers that get pods later. */
  serverImages: 'slm.dev/server-images',
  /** On a ReplicaSet: `PerNode` when its pods keep to one a node. */
  placement: 'slm.dev/placement',
  /** On pods that can read it, and in the templates they came from: JSON of {@link TrafficSetting}; `{}` passes nothing on. */
  traffic: 'slm.dev/traffic',
  /** On a ReplicaSet: `HASH passed` when its revision has passed the smoke tests of that hash. */
  smoke: 'slm.dev/smoke',
  /** On a ReplicaSet: JSON of what its revision answered first, by test, as signatures that tell no word of it. */
  evaluation: 'slm.dev/evaluation',
  /** On an SLMDeployment, by people: REVISION or REVISION:STEP, as spec.strategy.approvedRevision. */
  approvedRevision: 'slm.dev/approved-revision',
  /** On an SLMDeployment, by people: REVISION, as spec.rollbackTo. */
  rollbackTo: 'slm.dev/rollback-to',
  /** On an SLMDeployment, by people: any new value tries a revision again that was taken back. */
  retry: 'slm.dev/retry',
} as const;
export const MANAGED_BY = 'slm-operator';

/** Values of the label `traffic`. Pods made before there was this label get requests too, until some are to get none. */
export const trafficStates = { open: 'open', closed: 'closed' } as const;

/** CSI: the node agent is this driver; inline ephemeral volumes only. */
export const csi = {
  driver: 'models.slm.dev',
  /** volumeAttributes: `digest` is the revision's digest, `model` is `namespace/name` for messages only. */
  attributes: { digest: 'digest', model: 'model' },
} as const;

/** Where things lie inside a serving pod. */
export const pod = {
  container: 'server',
  modelVolume: 'model',
  modelPath: '/model',
  apiKeysVolume: 'api-keys',
  apiKeysPath: '/etc/slm/api-keys',
  /** A Secret of type kubernetes.io/tls. */
  tlsVolume: 'tls',
  tlsPath: '/etc/slm/tls',
  /** What a server needs to have tokens reviewed: see `brokerFiles`. */
  brokerVolume: 'broker',
  brokerPath: '/etc/slm/broker',
  /** What the operator tells a pod while it runs: see `podFiles`. */
  infoVolume: 'pod-info',
  infoPath: '/etc/slm/pod',
  /** Models that clients make through the API; gone with the pod. */
  modelsVolume: 'models',
  modelsPath: '/models',
  promptCacheVolume: 'prompt-cache',
  /** Memory as files; the server keeps prompts there whose slot is gone. */
  promptCachePath: '/dev/shm',
  /** uid and gid of the server; the image's USER is the same. */
  user: 65532,
} as const;

/** Ports of the inference server: both serve every API; 11434 as Ollama has it, 8080 as Foundry Local has it. */
export const ports = { ollama: 11434, openai: 8080 } as const;

/** Headers of the inference server. */
export const serverHeaders = {
  /** On every answer of a pod: revision that answered. */
  revision: 'x-slm-revision',
  /** On a request that one serving pod passes on to another: revision of the one that passed it on. It is not passed on again. */
  forwarded: 'x-slm-forwarded',
} as const;

/** HTTP paths of the inference server that the operator and the kubelet rely on. */
export const serverPaths = { healthz: '/healthz', readyz: '/readyz', metrics: '/metrics' } as const;

/**
 * Environment of the inference server. All optional but MODEL_PATH; numbers are decimal strings.
 * Unknown `SLM_*` variables are refused at start, so a typo never passes in silence.
 */
export const serverEnv = {
  /** File (GGUF) or folder (ONNX) to serve. */
  modelPath: 'SLM_MODEL_PATH',
  /** Digest of the revision, shown in /api/tags and /readyz. */
  modelDigest: 'SLM_MODEL_DIGEST',
  /**
   * Folder with what the operator tells a running pod: its revision, and what part of its requests goes to another. Read again when
   * it changes. Default /etc/slm/pod, where it is there.
   */
  podDir: 'SLM_POD_DIR',
  /** JSON array of names that clients may use in `model`; the first is the canonical one. */
  servedNames: 'SLM_SERVED_NAMES',
  /** Tokens of context for each parallel request. Default: min(model's own, 4096). */
  contextLength: 'SLM_CONTEXT_LENGTH',
  /** Requests decoded at the same time (llama.cpp: n_seq_max). Default 4. */
  parallelRequests: 'SLM_PARALLEL_REQUESTS',
  /** Tokens in one decode batch (llama.cpp: n_batch). Default 512. */
  batchSize: 'SLM_BATCH_SIZE',
  /** CPU threads. Default: floor of the cgroup's CPU limit, else one less than the cores; at least 1. */
  threads: 'SLM_THREADS',
  /**
   * What to compute on, in order, with commas: npu, gpu, cpu, or a backend: cuda, vulkan, webgpu. The first that there is is taken;
   * without cpu among them the server ends when it finds none. `auto` is gpu,cpu. Default auto.
   */
  device: 'SLM_DEVICE',
  /** Layers that the GPU computes (llama.cpp: n_gpu_layers). Default: all. */
  gpuLayers: 'SLM_GPU_LAYERS',
  /** With fewer tokens a second at start the server does not get ready. Default: no minimum. */
  minTokensPerSecond: 'SLM_MIN_TOKENS_PER_SECOND',
  /** Auto, Enabled or Disabled. */
  flashAttention: 'SLM_FLASH_ATTENTION',
  /** F16 or Q8_0 or Q4_0: type of the KV cache. */
  kvCacheType: 'SLM_KV_CACHE_TYPE',
  /** Requests that may wait for a slot before 429. Default 64. */
  maxQueue: 'SLM_MAX_QUEUE',
  /** Memory for prompts whose slot is gone, in bytes; a file in memory each. Default 0. */
  promptCacheBytes: 'SLM_PROMPT_CACHE_BYTES',
  /** None or NGram: whether tokens are guessed from what was said before, and verified together. Default None. */
  speculation: 'SLM_SPECULATION',
  /** Tokens guessed at a time. Default 4. */
  maxDraft: 'SLM_MAX_DRAFT',
  /** JSON array of LoRA adapters for the model at MODEL_PATH: {path, scale}. */
  adapters: 'SLM_ADAPTERS',
  /** APIKey, ServiceAccount or None. */
  auth: 'SLM_AUTH',
  /** ServiceAccount: folder with the files that `brokerFiles` names. */
  brokerDir: 'SLM_BROKER_DIR',
  /** ServiceAccount: the audience that clients' tokens must be made for. */
  tokenAudience: 'SLM_TOKEN_AUDIENCE',
  /** Folder with one API key a file; re-read when it changes. */
  apiKeysDir: 'SLM_API_KEYS_DIR',
  /** Seconds that running requests get after SIGTERM. Default 30. */
  drainTimeoutSeconds: 'SLM_DRAIN_TIMEOUT_SECONDS',
  /**
   * Seconds after SIGTERM during which new connections are still served, because endpoints and proxies learn late that a
   * pod is going. Default 0.
   */
  shutdownDelaySeconds: 'SLM_SHUTDOWN_DELAY_SECONDS',
  /** Address to listen on. Default: every one, IPv6 and IPv4. */
  host: 'SLM_HOST',
  /** Port of the Ollama listener, default 11434; 0 picks a free one. */
  port: 'SLM_PORT',
  /** Port of the OpenAI listener, default 8080; 0 picks a free one, `none` leaves it out. */
  openaiPort: 'SLM_OPENAI_PORT',
  /** llama-cpp, llama-cpp-public (the library's public API alone), onnx or fake (tests). Default: told by the file. */
  engine: 'SLM_ENGINE',
  /** Folder of models beside or instead of MODEL_PATH: GGUF files, folders, Modelfiles. Looked through again when asked. */
  modelsDir: 'SLM_MODELS_DIR',
  /** JSON array of more models: {name or names, path, contextLength, modelfile}. */
  models: 'SLM_MODELS',
  /** Names of models to load at start; a JSON array, or with commas. Readiness waits for them. */
  preload: 'SLM_PRELOAD',
  /** Models that are loaded at the same time. Default 3. */
  maxLoadedModels: 'SLM_MAX_LOADED_MODELS',
  /** Memory for all loaded models together, such as 4Gi. Default: the cgroup's limit. */
  maxMemory: 'SLM_MAX_MEMORY',
  /** How long a model stays after its last request, such as 5m; -1 for ever. Default: MODEL_PATH for ever, others 5m. */
  keepAlive: 'SLM_KEEP_ALIVE',
  /** Seconds that a request waits for its model to be loaded. Default 300. */
  loadTimeoutSeconds: 'SLM_LOAD_TIMEOUT_SECONDS',
  /** Path of a Modelfile with defaults of the model at MODEL_PATH. */
  modelfile: 'SLM_MODELFILE',
  /** The same as a JSON object: {parameters, system, template, messages, license}. */
  modelDefaults: 'SLM_MODEL_DEFAULTS',
  /** true: the API may pull, create and delete models in MODELS_DIR. Default false. */
  management: 'SLM_MANAGEMENT',
  /** Hosts of registries that models may be pulled from and pushed to. Default registry.ollama.ai and hf.co. */
  registries: 'SLM_REGISTRIES',
  /** trace, debug, info, warn, error, fatal or silent. Default info. */
  logLevel: 'SLM_LOG_LEVEL',
  /** PEM file with the server's certificate and its chain; read again when it changes. Default: plain HTTP. */
  tlsCertFile: 'SLM_TLS_CERT_FILE',
  /** PEM file with the key of that certificate. */
  tlsKeyFile: 'SLM_TLS_KEY_FILE',
  /** Bytes of a request body. Default 4 MiB. */
  maxBodyBytes: 'SLM_MAX_BODY_BYTES',
  /** Tokens of one answer; requests for more are refused. Default: as many as the context holds. */
  maxTokens: 'SLM_MAX_TOKENS',
  /** Seconds from a request to the end of its answer. Default: no limit. */
  requestTimeoutSeconds: 'SLM_REQUEST_TIMEOUT_SECONDS',
  /** Seconds in which a request must have arrived, else 408. Default 60; 3600 with MANAGEMENT, whose clients upload models. */
  receiveTimeoutSeconds: 'SLM_RECEIVE_TIMEOUT_SECONDS',
  /** Seconds without progress after which a client that does not read its answer is dropped. Default 60. */
  sendTimeoutSeconds: 'SLM_SEND_TIMEOUT_SECONDS',
  /** Origins of web pages, with commas, that may ask besides this machine's own; `*` stands for anything. Default none. */
  origins: 'SLM_ORIGINS',
  /** Connections on each port. Default 1024. */
  maxConnections: 'SLM_MAX_CONNECTIONS',
  /**
   * Whether a small parent process holds the ports and starts the server anew when it crashes in native code. Default true;
   * false saves its memory and leaves restarts to whoever started the process.
   */
  supervise: 'SLM_SUPERVISE',
  /** false: OpenAI's and Anthropic's API, all of /v1, is not served. Default true. */
  openaiApi: 'SLM_OPENAI_API',
  /** false: Ollama's API, all of /api but health and metrics, is not served. Default true. */
  ollamaApi: 'SLM_OLLAMA_API',
  /** true: one JSON line for each request on the standard output, without content. Default false. */
  audit: 'SLM_AUDIT',
  /** true: those lines hold what was asked and answered too. Default false. */
  auditContent: 'SLM_AUDIT_CONTENT',
} as const;

/** What the engine really opened. */
export interface DeviceReport {
  readonly class: 'npu' | 'gpu' | 'cpu';
  /** CPU, CUDA, Vulkan, WebGPU and so on. */
  readonly backend: string;
  /** As the driver says, such as `NVIDIA L4`; of processors, the model name. */
  readonly name: string;
  /** Memory of the device in bytes, when it has its own. */
  readonly memoryBytes?: number;
  /** GGUF: layers that the device computes, and that there are (the output layer included). */
  readonly layersOffloaded?: number;
  readonly layers?: number;
  /** ONNX: the execution provider, in ONNX Runtime's words. */
  readonly executionProvider?: string;
}

/** Fields of the body of `readyz` that the operator reads, whatever its status. Others may stand beside them. */
export interface ReadyReport {
  /** Once the model is loaded. */
  readonly device?: DeviceReport;
  /** Of one stream, at start. */
  readonly tokensPerSecond?: number;
  /** API requests that run or wait now. */
  readonly running?: number;
  /** Seconds since the last of them ended; absent while one runs, and counted from the start before the first. */
  readonly idleSeconds?: number;
  /** Why it is not ready: loading, draining, too-slow. */
  readonly reason?: string;
  readonly message?: string;
  /** What it passes on to other pods; absent when it cannot. */
  readonly traffic?: TrafficReport;
}

/** What a serving pod passes on: the JSON in the annotation `traffic`. */
export interface TrafficSetting {
  /** Of a hundred requests, those passed on. */
  readonly weight: number;
  /** `IP:PORT` of the Service of the candidate. */
  readonly address: string;
  /** Of the pods behind that address. */
  readonly revision: string;
}

/** What a serving pod says of that. */
export interface TrafficReport {
  /** What it passes on now; absent: nothing. */
  readonly weight?: number;
  /** To the pods of this revision. */
  readonly revision?: string;
  /** Why the last requests that were to be passed on were answered here. */
  readonly problem?: string;
}

/**
 * The broker: the operator's HTTPS service that hands a node's agent what one download needs, and that reviews the tokens of a
 * serving pod's clients, so that the pod needs no right in the cluster.
 */
export const broker = {
  port: 9443,
  /** Audience of the projected ServiceAccount token that an agent or a serving pod presents. */
  audience: 'slm-operator',
  /** POST {digest} → {@link DownloadGrant}. */
  path: '/v1/grants',
  /** POST {@link TokenReviewRequest} → {@link TokenReviewAnswer}. */
  reviewPath: '/v1/token-reviews',
  /** Labels of the operator's pods, for NetworkPolicies. */
  podLabels: { 'app.kubernetes.io/name': 'slm-operator', 'app.kubernetes.io/component': 'operator' },
  /** ConfigMap beside the operator with the broker's CA under `ca.crt`. */
  caConfigMap: 'slm-operator-ca',
} as const;

/** Files in a serving pod's `infoPath`. */
export const podFiles = {
  /** JSON of {@link TrafficSetting}, or empty. */
  traffic: 'traffic',
  /** The deployment revision that the pod is of. */
  revision: 'revision',
} as const;

/** Files in a serving pod's `brokerPath`. */
export const brokerFiles = {
  /** `IP:PORT`, so that a pod needs no DNS. */
  address: 'address',
  /** Name that the broker's certificate is for. */
  host: 'host',
  ca: 'ca.crt',
  /** The pod's own token for the broker. */
  token: 'token',
} as const;

/** What a serving pod sends to the broker. Which deployment it serves comes from its own token. */
export interface TokenReviewRequest {
  readonly token: string;
}

/** What the broker says of a client's token. */
export type TokenReviewAnswer =
  /** `NAMESPACE/NAME` of the ServiceAccount. */
  | { readonly allowed: true; readonly serviceAccount: string }
  | { readonly allowed: false; readonly status: 401 | 403; readonly message: string };

/** What an agent sends to the broker. The node's name is never in it: it comes from the token. */
export interface DownloadGrantRequest {
  readonly digest: string;
}

/** What one download needs. Lives in memory only; never logged, never stored. */
export interface DownloadGrant {
  readonly files: readonly {
    readonly path: string;
    readonly url: string;
    /** Sent with the request to `url` and dropped when a redirect leaves its origin. */
    readonly headers: Readonly<Record<string, string>>;
  }[];
  /** PEM bundle to trust besides the system's, or absent. */
  readonly caBundle?: string;
  /** RFC 3339; ask again afterwards. */
  readonly expiresAt: string;
}

/** Folders on a node, under one host directory (chart value `agent.hostPath`, default /var/lib/slm). */
export const store = {
  root: '/var/lib/slm',
  /** blobs/sha256/<hex>: verified files, content-addressed. */
  blobs: 'blobs/sha256',
  /** partial/<hex>: bytes so far of a file that is not verified yet. */
  partial: 'partial',
  /** models/<hex of the revision's digest>/<path>: hard links to blobs; what pods mount. */
  models: 'models',
} as const;
