/**
 * What a serving pod gets for who may ask it, for what and how: keys, tokens, certificate, APIs, limits, traces, audit log. Pure.
 */
import { broker, brokerFiles, pod, type SLMDeployment, serverEnv } from '@slm-operator/crds';
import { apiKeySecretName, brokerConfigName, tlsSecretName, tokenAudience } from '../names.ts';

/** Parts of a pod that belong together. */
export interface PodParts {
  readonly env: Readonly<Record<string, string | number | undefined>>;
  readonly volumes: readonly object[];
  readonly mounts: readonly object[];
}

/** Time after which the kubelet renews the pod's token for the broker; the shortest that it takes is 600. */
const TOKEN_SECONDS = 3600;

/** Every way in, as the spec has it. */
export function accessParts(deployment: SLMDeployment): PodParts {
  const parts = [auth, tls, management, tracing, settings].map((make) => make(deployment));
  return {
    env: Object.assign({}, ...parts.map(({ env }) => env)) as PodParts['env'],
    volumes: parts.flatMap(({ volumes }) => volumes),
    mounts: parts.flatMap(({ mounts }) => mounts),
  };
}

function auth(deployment: SLMDeployment): PodParts {
  const keys = apiKeySecretName(deployment);
  if (keys !== undefined) {
    return {
      env: { [serverEnv.auth]: 'APIKey', [serverEnv.apiKeysDir]: pod.apiKeysPath },
      volumes: [{ name: pod.apiKeysVolume, secret: { secretName: keys, defaultMode: 0o444 } }],
      mounts: [{ name: pod.apiKeysVolume, mountPath: pod.apiKeysPath, readOnly: true }],
    };
  }
  if (deployment.spec.auth?.type !== 'ServiceAccount')
    return { env: { [serverEnv.auth]: 'None' }, volumes: [], mounts: [] };
  const config = brokerConfigName(deployment.metadata.name);
  // Good for the broker alone: at the API server this token is worth nothing.
  const token = { audience: broker.audience, expirationSeconds: TOKEN_SECONDS, path: brokerFiles.token };
  return {
    env: {
      [serverEnv.auth]: 'ServiceAccount',
      [serverEnv.brokerDir]: pod.brokerPath,
      [serverEnv.tokenAudience]: tokenAudience(deployment),
    },
    volumes: [
      {
        name: pod.brokerVolume,
        projected: { defaultMode: 0o444, sources: [{ configMap: { name: config } }, { serviceAccountToken: token }] },
      },
    ],
    mounts: [{ name: pod.brokerVolume, mountPath: pod.brokerPath, readOnly: true }],
  };
}

function tls(deployment: SLMDeployment): PodParts {
  const secretName = tlsSecretName(deployment);
  if (secretName === undefined) return { env: {}, volumes: [], mounts: [] };
  return {
    env: {
      [serverEnv.tlsCertFile]: `${pod.tlsPath}/tls.crt`,
      [serverEnv.tlsKeyFile]: `${pod.tlsPath}/tls.key`,
    },
    volumes: [{ name: pod.tlsVolume, secret: { secretName, defaultMode: 0o444 } }],
    mounts: [{ name: pod.tlsVolume, mountPath: pod.tlsPath, readOnly: true }],
  };
}

/** Room for models that clients pull and create. */
const MODELS_SIZE = '20Gi';

function management({ spec }: SLMDeployment): PodParts {
  if (spec.api?.management !== true) return { env: {}, volumes: [], mounts: [] };
  return {
    env: { [serverEnv.management]: 'true', [serverEnv.modelsDir]: pod.modelsPath },
    volumes: [{ name: pod.modelsVolume, emptyDir: { sizeLimit: MODELS_SIZE } }],
    mounts: [{ name: pod.modelsVolume, mountPath: pod.modelsPath }],
  };
}

/** OpenTelemetry's own names, which the server reads. */
function tracing({ metadata, spec }: SLMDeployment): PodParts {
  if (spec.tracing === undefined) return { env: {}, volumes: [], mounts: [] };
  const { endpoint, samplingPercent } = spec.tracing;
  const sampled = samplingPercent === undefined ? undefined : samplingPercent / 100;
  return {
    env: {
      OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
      OTEL_SERVICE_NAME: metadata.name,
      OTEL_RESOURCE_ATTRIBUTES: `k8s.namespace.name=${metadata.namespace}`,
      OTEL_TRACES_SAMPLER: sampled === undefined ? undefined : 'parentbased_traceidratio',
      OTEL_TRACES_SAMPLER_ARG: sampled,
    },
    volumes: [],
    mounts: [],
  };
}

function settings({ spec }: SLMDeployment): PodParts {
  const { api, audit, limits } = spec;
  return {
    env: {
      [serverEnv.openaiApi]: api?.openai === false ? 'false' : undefined,
      [serverEnv.ollamaApi]: api?.ollama === false ? 'false' : undefined,
      [serverEnv.maxTokens]: limits?.maxTokens,
      [serverEnv.maxBodyBytes]: limits?.maxBodyBytes,
      [serverEnv.requestTimeoutSeconds]: limits?.requestTimeoutSeconds,
      [serverEnv.maxConnections]: limits?.maxConnections,
      [serverEnv.audit]: audit?.enabled === true ? 'true' : undefined,
      [serverEnv.auditContent]: audit?.content === true ? 'true' : undefined,
    },
    volumes: [],
    mounts: [],
  };
}
