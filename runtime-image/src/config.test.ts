import { describe, expect, test } from 'vitest';
import { readConfig } from './config.ts';
import { StartupError } from './failures.ts';

const refusal = (env: Record<string, string>) => {
  try {
    readConfig({ SLM_MODEL_PATH: '/model', ...env });
  } catch (error) {
    return error instanceof StartupError ? `${error.exitCode} ${error.reason}: ${error.message}` : String(error);
  }
  return 'accepted';
};

test('only the model must be given', () => {
  expect(readConfig({ SLM_MODEL_PATH: '/models/SmolLM2-135M.Q4_1.gguf', PATH: '/bin' })).toMatchInlineSnapshot(`
    {
      "adapters": [],
      "apiKeysDir": undefined,
      "apis": {
        "ollama": true,
        "openai": true,
      },
      "audit": false,
      "auditContent": false,
      "auth": "None",
      "batchSize": 512,
      "contextLength": undefined,
      "devices": {
        "auto": true,
        "words": [
          "gpu",
          "cpu",
        ],
      },
      "drainTimeoutSeconds": 30,
      "engine": undefined,
      "flashAttention": "Auto",
      "gpuLayers": undefined,
      "host": undefined,
      "kvCacheType": "F16",
      "limits": {
        "maxBodyBytes": 4194304,
        "maxConnections": 1024,
        "maxTokens": undefined,
        "receiveTimeoutSeconds": 60,
        "requestTimeoutSeconds": undefined,
        "sendTimeoutSeconds": 60,
      },
      "logLevel": "info",
      "maxQueue": 64,
      "minTokensPerSecond": undefined,
      "modelDigest": undefined,
      "modelPath": "/models/SmolLM2-135M.Q4_1.gguf",
      "models": {
        "defaults": undefined,
        "dir": undefined,
        "keepAliveMs": undefined,
        "list": [],
        "loadTimeoutMs": 300000,
        "management": false,
        "maxLoaded": 3,
        "maxMemory": undefined,
        "modelfile": undefined,
        "preload": [],
        "registries": [
          "registry.ollama.ai",
          "hf.co",
        ],
      },
      "mostGuesses": 0,
      "openaiPort": 8080,
      "origins": [],
      "parallelRequests": 4,
      "podDir": undefined,
      "port": 11434,
      "promptCacheBytes": 0,
      "servedNames": [
        "SmolLM2-135M.Q4_1",
      ],
      "shutdownDelaySeconds": 0,
      "supervise": true,
      "threads": undefined,
      "tls": undefined,
      "tokens": undefined,
    }
  `);
});

test('everything can be given', () => {
  const env = {
    SLM_MODEL_PATH: '/model',
    SLM_MODEL_DIGEST: 'sha256:ab',
    SLM_SERVED_NAMES: '["chat","phi4:mini"]',
    SLM_CONTEXT_LENGTH: '2048',
    SLM_PARALLEL_REQUESTS: '8',
    SLM_BATCH_SIZE: '256',
    SLM_THREADS: '3',
    SLM_DEVICE: 'npu, cuda',
    SLM_GPU_LAYERS: '20',
    SLM_MIN_TOKENS_PER_SECOND: '12.5',
    SLM_FLASH_ATTENTION: 'disabled',
    SLM_KV_CACHE_TYPE: 'q8_0',
    SLM_MAX_QUEUE: '0',
    SLM_PROMPT_CACHE_BYTES: '1000000',
    SLM_SPECULATION: 'ngram',
    SLM_MAX_DRAFT: '6',
    SLM_ADAPTERS: '[{"path":"/a.gguf","scale":0.5},{"path":"/b.gguf"}]',
    SLM_AUTH: 'apikey',
    SLM_API_KEYS_DIR: '/etc/slm/api-keys',
    SLM_DRAIN_TIMEOUT_SECONDS: '5',
    SLM_HOST: '127.0.0.1',
    SLM_PORT: '0',
    SLM_OPENAI_PORT: 'none',
    SLM_ENGINE: 'llama-cpp',
    SLM_LOG_LEVEL: 'debug',
    SLM_OLLAMA_API: 'false',
    SLM_AUDIT: 'true',
    SLM_AUDIT_CONTENT: 'true',
    SLM_SUPERVISE: 'false',
    SLM_TLS_CERT_FILE: '/etc/tls.crt',
    SLM_TLS_KEY_FILE: '/etc/tls.key',
    SLM_MAX_BODY_BYTES: '1048576',
    SLM_MAX_TOKENS: '512',
    SLM_REQUEST_TIMEOUT_SECONDS: '300',
    SLM_RECEIVE_TIMEOUT_SECONDS: '20',
    SLM_SEND_TIMEOUT_SECONDS: '30',
    SLM_MAX_CONNECTIONS: '100',
    SLM_ORIGINS: 'https://chat.example.com/, app://*',
    SLM_MODELS_DIR: '/models',
    SLM_MODELS: '[{"name":"small","path":"/models/small.gguf","contextLength":1024}]',
    SLM_PRELOAD: 'small, other',
    SLM_MAX_LOADED_MODELS: '2',
    SLM_MAX_MEMORY: '4Gi',
    SLM_KEEP_ALIVE: '-1',
    SLM_LOAD_TIMEOUT_SECONDS: '60',
    SLM_MODELFILE: '/etc/Modelfile',
    SLM_MODEL_DEFAULTS: '{"system":"Be brief."}',
    SLM_MANAGEMENT: 'true',
    SLM_REGISTRIES: 'models.internal:5000',
  };
  expect(readConfig(env)).toMatchInlineSnapshot(`
    {
      "adapters": [
        {
          "path": "/a.gguf",
          "scale": 0.5,
        },
        {
          "path": "/b.gguf",
          "scale": 1,
        },
      ],
      "apiKeysDir": "/etc/slm/api-keys",
      "apis": {
        "ollama": false,
        "openai": true,
      },
      "audit": true,
      "auditContent": true,
      "auth": "APIKey",
      "batchSize": 256,
      "contextLength": 2048,
      "devices": {
        "auto": false,
        "words": [
          "npu",
          "cuda",
        ],
      },
      "drainTimeoutSeconds": 5,
      "engine": "llama-cpp",
      "flashAttention": "Disabled",
      "gpuLayers": 20,
      "host": "127.0.0.1",
      "kvCacheType": "Q8_0",
      "limits": {
        "maxBodyBytes": 1048576,
        "maxConnections": 100,
        "maxTokens": 512,
        "receiveTimeoutSeconds": 20,
        "requestTimeoutSeconds": 300,
        "sendTimeoutSeconds": 30,
      },
      "logLevel": "debug",
      "maxQueue": 0,
      "minTokensPerSecond": 12.5,
      "modelDigest": "sha256:ab",
      "modelPath": "/model",
      "models": {
        "defaults": {
          "system": "Be brief.",
        },
        "dir": "/models",
        "keepAliveMs": Infinity,
        "list": [
          {
            "contextLength": 1024,
            "names": [
              "small",
            ],
            "path": "/models/small.gguf",
          },
        ],
        "loadTimeoutMs": 60000,
        "management": true,
        "maxLoaded": 2,
        "maxMemory": 4294967296,
        "modelfile": "/etc/Modelfile",
        "preload": [
          "small",
          "other",
        ],
        "registries": [
          "models.internal:5000",
        ],
      },
      "mostGuesses": 6,
      "openaiPort": undefined,
      "origins": [
        "https://chat.example.com",
        "app://*",
      ],
      "parallelRequests": 8,
      "podDir": undefined,
      "port": 0,
      "promptCacheBytes": 1000000,
      "servedNames": [
        "chat",
        "phi4:mini",
      ],
      "shutdownDelaySeconds": 0,
      "supervise": false,
      "threads": 3,
      "tls": {
        "certFile": "/etc/tls.crt",
        "keyFile": "/etc/tls.key",
      },
      "tokens": undefined,
    }
  `);
});

test('a folder of keys is meant to be used', () => {
  expect(readConfig({ SLM_MODEL_PATH: '/model', SLM_API_KEYS_DIR: '/keys' }).auth).toBe('APIKey');
});

describe('refused with exit code 2 and what to change', () => {
  const cases: [string, Record<string, string>, string][] = [
    [
      'no model',
      { SLM_MODEL_PATH: '' },
      'SLM_MODEL_PATH is missing: set it to a GGUF file or to the folder that holds it.',
    ],
    [
      'a misspelt name',
      { SLM_CONTEXT_LENGHT: '1' },
      'SLM_CONTEXT_LENGHT is not a setting: did you mean SLM_CONTEXT_LENGTH?',
    ],
    ['half a name', { SLM_CONTEXT: '1' }, 'SLM_CONTEXT is not a setting: did you mean SLM_CONTEXT_LENGTH?'],
    ['a word for a number', { SLM_THREADS: 'many' }, 'SLM_THREADS=many must be a whole number from 1 to 1024.'],
    ['a fraction', { SLM_THREADS: '1.5' }, 'SLM_THREADS=1.5 must be a whole number from 1 to 1024.'],
    ['a port out of range', { SLM_PORT: '70000' }, 'SLM_PORT=70000 must be a whole number from 0 to 65535.'],
    [
      'one port twice',
      { SLM_PORT: '8080' },
      'SLM_PORT and SLM_OPENAI_PORT are both 8080: set the second to another or none.',
    ],
    [
      'an unknown choice',
      { SLM_ENGINE: 'vllm' },
      'SLM_ENGINE=vllm must be one of llama-cpp, llama-cpp-public, onnx, fake.',
    ],
    [
      'names that are no JSON',
      { SLM_SERVED_NAMES: 'chat' },
      'SLM_SERVED_NAMES must be a JSON array of names, such as ["chat","smollm2"].',
    ],
    [
      'no names',
      { SLM_SERVED_NAMES: '[]' },
      'SLM_SERVED_NAMES must be a JSON array of names, such as ["chat","smollm2"].',
    ],
    [
      'keys without a folder',
      { SLM_AUTH: 'APIKey' },
      'SLM_AUTH=APIKey needs SLM_API_KEYS_DIR: the folder with one key a file.',
    ],
    [
      'a batch that is too small',
      { SLM_BATCH_SIZE: '2' },
      'SLM_BATCH_SIZE=2 must be at least SLM_PARALLEL_REQUESTS=4: each running request needs one token of every batch.',
    ],
    [
      'several problems at once',
      { SLM_THREADS: '0', SLM_MAX_QUEUE: '-1' },
      'SLM_THREADS=0 must be a whole number from 1 to 1024. SLM_MAX_QUEUE=-1 must be a whole number from 0 to 100000.',
    ],
    [
      'a Service named slm',
      { SLM_PORT: 'tcp://10.96.0.7:11434' },
      'SLM_PORT=tcp://10.96.0.7:11434 must be a whole number from 0 to 65535 (a Service link of Kubernetes: set enableServiceLinks: false).',
    ],
  ];
  test.each(cases)('%s', (_, env, message) => {
    expect(refusal(env)).toBe(`2 InvalidConfiguration: ${message}`);
  });
});

test('the variables that Kubernetes makes of Services are none of ours', () => {
  expect(
    refusal({
      SLM_OPERATOR_SERVICE_HOST: '10.96.0.7',
      SLM_OPERATOR_SERVICE_PORT_HTTP: '80',
      SLM_OPERATOR_PORT_80_TCP_ADDR: '10.96.0.7',
    }),
  ).toBe('accepted');
});
