/** Fields of an SLMDeployment that say who may ask, for what, how much, and what is told of it. */
import { secretRef } from './common.ts';
import { boolean, integer, list, object, optional, text, word } from './schema.ts';

/** Part of `spec`. */
export const accessFields = {
  auth: optional(
    object(
      {
        type: optional(word(['APIKey', 'ServiceAccount', 'None'], { description: 'Default APIKey.' })),
        secretRef: optional(secretRef),
        allowedServiceAccounts: optional(
          list(
            object(
              {
                namespace: optional(
                  text({ max: 63, min: 1, description: 'Default: the namespace of this deployment.' }),
                ),
                name: optional(text({ max: 253, min: 1, description: 'Default: all of the namespace.' })),
              },
              { description: 'A ServiceAccount, or all of a namespace.' },
            ),
            {
              max: 64,
              atomic: true,
              description:
                'ServiceAccounts whose tokens are good. Default: those of this deployment’s namespace. A change needs no restart.',
            },
          ),
        ),
      },
      {
        description:
          'Who may ask. APIKey without secretRef makes a Secret NAME-api-keys with two keys; every value of the Secret is a valid key, and a change needs no restart. ServiceAccount takes projected tokens of pods, made for the audience NAME.NAMESPACE.svc; the API server reviews them.',
        rules: [
          {
            rule: "!has(self.secretRef) || !has(self.type) || self.type == 'APIKey'",
            message: 'auth.secretRef is for auth.type: APIKey',
          },
          {
            rule: "!has(self.allowedServiceAccounts) || (has(self.type) && self.type == 'ServiceAccount')",
            message: 'auth.allowedServiceAccounts is for auth.type: ServiceAccount',
          },
        ],
      },
    ),
  ),
  tls: optional(
    object(
      { secretRef },
      {
        description:
          'HTTPS on both ports, TLS 1.2 or newer, with a Secret of type kubernetes.io/tls such as cert-manager makes. A renewed certificate needs no restart.',
      },
    ),
  ),
  api: optional(
    object(
      {
        openai: optional(boolean({ description: 'OpenAI’s and Anthropic’s API, all of /v1. Default true.' })),
        ollama: optional(boolean({ description: 'Ollama’s API, all of /api but health and metrics. Default true.' })),
        management: optional(
          boolean({
            description:
              'Ollama’s pull, push, create, copy and delete, for models beside the one that is deployed. They live in the pod and go with it, so replicas is 1 at most; pull and push need isolation.denyEgress: false. Default false: what is served belongs to the cluster.',
          }),
        ),
      },
      {
        description: 'Which APIs are served; the others answer 404.',
        rules: [
          {
            rule: '!(has(self.openai) && !self.openai && has(self.ollama) && !self.ollama)',
            message: 'api.openai and api.ollama are both false, so nobody could ask anything: leave one on',
          },
          {
            rule: '!(has(self.management) && self.management && has(self.ollama) && !self.ollama)',
            message: 'api.management is part of Ollama’s API: leave api.ollama on',
          },
        ],
      },
    ),
  ),
  limits: optional(
    object(
      {
        maxTokens: optional(
          integer({
            minimum: 1,
            maximum: 1048576,
            description: 'Tokens of one answer; requests for more are refused. Default: as many as the context holds.',
          }),
        ),
        maxBodyBytes: optional(
          integer({ minimum: 1024, maximum: 1073741824, description: 'Bytes of a request. Default 4194304.' }),
        ),
        requestTimeoutSeconds: optional(
          integer({
            minimum: 1,
            maximum: 86400,
            description: 'Time from a request to the end of its answer. Default: no limit.',
          }),
        ),
        maxConnections: optional(
          integer({ minimum: 1, maximum: 65535, description: 'Connections to each port of a pod. Default 1024.' }),
        ),
      },
      { description: 'How much one client may ask for.' },
    ),
  ),
  audit: optional(
    object(
      {
        enabled: optional(
          boolean({ description: 'One line of JSON for each request in the pod’s log. Default false.' }),
        ),
        content: optional(boolean({ description: 'With what was asked and answered. Default false.' })),
      },
      {
        description: 'Who asked which model for how much, and how it ended.',
        rules: [
          {
            rule: '!has(self.content) || !self.content || (has(self.enabled) && self.enabled)',
            message: 'audit.content needs audit.enabled: true',
          },
        ],
      },
    ),
  ),
  tracing: optional(
    object(
      {
        endpoint: text({
          max: 512,
          pattern: '^https?://[^/\\s]+',
          description:
            'Address of an OpenTelemetry collector that takes OTLP over HTTP, such as http://collector.observability:4318.',
        }),
        samplingPercent: optional(
          integer({
            minimum: 0,
            maximum: 100,
            description: 'Of the requests that come without a trace. Default 100.',
          }),
        ),
      },
      { description: 'Traces of requests, without their content.' },
    ),
  ),
};
